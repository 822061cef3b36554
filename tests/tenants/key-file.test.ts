import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { withoutApiKeys } from '../../src/tenants/api-key.js';
import { hasKeys, KeyFile } from '../../src/tenants/key-file.js';
import { type TestKeys, testKeys } from '../support/key-files.js';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

const namespaceOfTenant = (keys: TestKeys, name: string): string =>
  keys.file.tenants().find((tenant) => tenant.name === name)!.namespace;

suite('the file of keys', () => {
  test('is readable by its owner only, whatever the umask and its mode before', {
    skip: process.platform === 'win32',
  }, (t) => {
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    const keys = testKeys(t);
    keys.create('a');
    const modes = readdirSync(keys.directory).map((name) => [
      name,
      statSync(join(keys.directory, name)).mode & 0o777,
    ]);
    assert.deepEqual(modes, [
      ['keys.sqlite', 0o600],
      ['keys.sqlite-shm', 0o600],
      ['keys.sqlite-wal', 0o600],
    ]);
  });

  test('holds no key, but its hash', (t) => {
    const keys = testKeys(t);
    const text = keys.create('a');
    const names = readdirSync(keys.directory);
    const bytes = Buffer.concat(names.map((name) => readFileSync(join(keys.directory, name))));
    assert.match(text, /^rk_[\w-]{51}$/);
    assert(bytes.includes(createHash('sha256').update(text).digest()), 'this test can tell');
    assert(!bytes.includes(text) && !bytes.includes(text.slice(11)));
    assert(bytes.includes(text.slice(0, 11)), 'the id is there');
  });

  test('remembers keys and tenants, in the order they were made, revoked ones too', (t) => {
    const keys = testKeys(t);
    const [first, , third] = ['b', 'a', 'b'].map((tenant) => {
      keys.clock.nowMs++;
      return keys.create(tenant, tenant === 'a' ? 'admin' : 'user');
    });
    assert.equal(keys.file.revokeKey(first!.slice(0, 11), 5), true);
    assert.equal(keys.file.revokeKey(first!.slice(0, 11), 6), false);
    assert.equal(keys.file.revokeKey('rk_unknown1', 6), false);
    const again = KeyFile.open(keys.path);
    t.after(() => again.close());
    assert.deepEqual(
      again
        .keys()
        .map(({ tenant, role, createdAtMs, revokedAtMs }) => [tenant, role, createdAtMs, revokedAtMs]),
      [
        ['b', 'user', 1_000_001, 5],
        ['a', 'admin', 1_000_002, undefined],
        ['b', 'user', 1_000_003, undefined],
      ],
    );
    assert.equal(again.keys()[2]!.id, third!.slice(0, 11));
    assert.deepEqual(
      again.tenants().map(({ name }) => name),
      ['a', 'b'],
    );
  });

  test('gives a tenant limits, and tells when there is no such tenant', (t) => {
    const keys = testKeys(t);
    keys.create('a');
    assert.equal(keys.file.setLimits('a', { requestsPerMinute: 3, tokensPerMinute: undefined }), true);
    assert.equal(keys.file.setLimits('b', { requestsPerMinute: 3, tokensPerMinute: undefined }), false);
    const [tenant] = keys.file.tenants();
    assert.deepEqual([tenant!.requestsPerMinute, tenant!.tokensPerMinute], [3, undefined]);
  });

  test('that is corrupt is refused and left as it is', (t) => {
    const keys = testKeys(t);
    const path = join(keys.directory, 'broken.sqlite');
    const bytes = 'no database at all, but long enough to be one '.repeat(100);
    writeFileSync(path, bytes);
    assert.throws(() => KeyFile.open(path), {
      code: 'invalid_value',
      message: /broken\.sqlite can't be used/,
    });
    assert.equal(readFileSync(path, 'utf8'), bytes);
  });

  test('is not made by looking for keys', (t) => {
    const keys = testKeys(t);
    const path = join(keys.directory, 'none.sqlite');
    assert.equal(hasKeys(path), false);
    assert(!readdirSync(keys.directory).includes('none.sqlite'));
    assert.equal(hasKeys(keys.path), false);
    const text = keys.create('a');
    keys.file.revokeKey(text.slice(0, 11), 1);
    assert.equal(hasKeys(keys.path), true, 'a revoked key is still one that was made');
  });
});

suite("a tenant's namespace", () => {
  test('stays the same, whichever of its keys is used or revoked', (t) => {
    const keys = testKeys(t);
    const text = keys.create('a');
    const before = namespaceOfTenant(keys, 'a');
    keys.create('a');
    keys.file.revokeKey(text.slice(0, 11), 1);
    assert.equal(namespaceOfTenant(keys, 'a'), before);
    assert.match(before, /^[0-9a-f]{64}$/);
  });

  test('follows from neither name nor key, and is another one in every file', (t) => {
    const keys = testKeys(t);
    const text = keys.create('a');
    const namespace = namespaceOfTenant(keys, 'a');
    const guesses = ['a', text, text.slice(0, 11), text.slice(11), ''].flatMap((guess) => [
      sha256(guess),
      createHmac('sha256', guess).update('a').digest('hex'),
      createHmac('sha256', guess).update(text).digest('hex'),
    ]);
    assert(!guesses.includes(namespace));
    const other = testKeys(t);
    other.create('a');
    assert.notEqual(namespaceOfTenant(other, 'a'), namespace);
    keys.create('b');
    assert.notEqual(namespaceOfTenant(keys, 'b'), namespace);
  });
});

test('keys in a text for the log lose their secret', (t) => {
  const text = testKeys(t).create('a');
  assert.equal(withoutApiKeys(`/v1/${text}/x?${text}`), `/v1/${text.slice(0, 11)}…/x?${text.slice(0, 11)}…`);
  assert.equal(withoutApiKeys('/v1/documents/rk_short'), '/v1/documents/rk_short');
});
