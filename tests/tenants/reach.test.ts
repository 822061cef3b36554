import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLoopbackAddress, requireGuard } from '../../src/tenants/reach.js';
import { assertRefused } from '../support/refused.js';

test('loopback addresses are told from those that others reach', () => {
  for (const address of ['127.0.0.1', '127.200.1.2', '::1', '::ffff:127.0.0.1'])
    assert.equal(isLoopbackAddress(address), true, address);
  for (const address of ['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', '::ffff:10.0.0.1', 'fe80::1', ''])
    assert.equal(isLoopbackAddress(address), false, address);
});

const OPEN = { needsKeys: false, insecureNoKeys: false };

test('a server for others needs keys, or to be told that it needs none', async () => {
  for (const host of ['127.0.0.1', 'localhost', '::1']) await requireGuard({ host, ...OPEN });
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'no-such-host.invalid']) {
    await assertRefused('invalid_value', /radixkv keys create .* --insecure-no-keys$/, () =>
      requireGuard({ host, ...OPEN }),
    );
    await requireGuard({ host, ...OPEN, needsKeys: true });
    await requireGuard({ host, ...OPEN, insecureNoKeys: true });
  }
});
