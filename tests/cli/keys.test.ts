/** The commands of keys and tenants, as a user types them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createProgram } from '../../src/cli/program.js';
import { KEYS_FILE } from '../../src/tenants/key-file.js';
import { KeyRing } from '../../src/tenants/key-ring.js';

function shell(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'radixkv-cli-keys-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const run = async (line: string) => {
    const [printed, noted]: [string[], string[]] = [[], []];
    const terminal = {
      print: (text: string) => void printed.push(text),
      note: (text: string) => void noted.push(text),
      frame: () => undefined,
      progress: () => undefined,
      endProgress: () => undefined,
    };
    const args = [...line.split(' '), '--data-dir', directory];
    await createProgram(terminal).parseAsync(args, { from: 'user' });
    return { printed, noted };
  };
  const ring = () => {
    const opened = KeyRing.open(join(directory, KEYS_FILE), { isRequired: false });
    t.after(() => opened.close());
    return opened;
  };
  return { run, ring };
}

test('keys create prints a key that lets its tenant in, and nothing else; list shows it without its secret', async (t) => {
  const { run, ring } = shell(t);
  assert.match((await run('keys list')).printed.join(), /no keys; make one with: radixkv keys create/);
  const { printed, noted } = await run('keys create --tenant acme --role admin');
  assert.equal(printed.length, 1);
  const key = printed[0]!;
  assert.deepEqual(noted, [`key ${key.slice(0, 11)} of acme, role admin; it is not shown again`]);
  const holder = ring().admit(key)!;
  assert.deepEqual([holder.tenant.name, holder.role], ['acme', 'admin']);
  const list = (await run('keys list')).printed;
  assert.match(list[0]!, /^ID +TENANT +ROLE +CREATED +REVOKED$/);
  assert.match(list[1]!, new RegExp(`^${key.slice(0, 11)} +acme +admin +2\\S+Z$`));
  const [row] = JSON.parse((await run('keys list --json')).printed.join());
  assert.deepEqual(Object.keys(row), ['id', 'tenant', 'role', 'created', 'revoked']);
  assert.equal(row.revoked, null);
});

test('keys revoke ends a key, once, and never repeats what it was given', async (t) => {
  const { run, ring } = shell(t);
  const key = (await run('keys create --tenant acme')).printed[0]!;
  const open = ring();
  await run(`keys revoke ${key.slice(0, 11)}`);
  assert.throws(() => open.admit(key), { code: 'invalid_api_key' });
  const [row] = JSON.parse((await run('keys list --json')).printed.join());
  assert.match(row.revoked, /^2.*Z$/);
  await assert.rejects(run(`keys revoke ${key}`), (error: Error) => {
    assert.match(error.message, /there is no valid key/);
    assert(!error.message.includes(key.slice(11)));
    return true;
  });
});

test('tenants set changes the limits it names, and list shows them', async (t) => {
  const { run } = shell(t);
  await run('keys create --tenant acme');
  await run('tenants set acme --requests-per-minute 60 --tokens-per-minute 1000');
  await run('tenants set acme --host-bytes 1.5GiB --shared on');
  const { printed } = await run('tenants set acme --requests-per-minute none --disk-bytes none');
  assert.deepEqual(printed, [
    'acme: requests a minute: none, prompt tokens a minute: 1000, host memory: 1.5 GiB, disk: none, shared texts: on',
  ]);
  const [row] = JSON.parse((await run('tenants list --json')).printed.join());
  assert.deepEqual([row.name, row.requests_per_minute, row.tokens_per_minute], ['acme', null, 1000]);
  assert.deepEqual([row.host_bytes, row.disk_bytes, row.shared], [1.5 * 1024 ** 3, null, true]);
  assert.match((await run('tenants list')).printed[1]!, /^acme +2\S+Z +none +1000 +1.5 GiB +none +on$/);
});

const refused: [line: string, message: RegExp][] = [
  ['keys create --tenant ../x', /--tenant must be up to 64 letters/],
  ['keys create --tenant .hidden', /--tenant must be/],
  ['keys create --tenant acme --role root', /--role must be one of user, admin, got "root"/],
  ['keys revoke rk_none', /there is no valid key of the id "rk_none"/],
  ['tenants set nobody --requests-per-minute 1', /there is no tenant "nobody"/],
  ['tenants set acme --requests-per-minute 0', /--requests-per-minute must be a whole number from 1/],
  ['tenants set acme --tokens-per-minute 1e6', /--tokens-per-minute must be/],
  ['tenants set acme --shared yes', /--shared must be on or off, got "yes"/],
  ['tenants set acme --host-bytes 512M', /--host-bytes must be a size such as 512MiB/],
  ['tenants set acme --tokens-per-minute 1000000001', /must be at most 1,000,000,000/],
];
for (const [line, message] of refused) {
  test(`radixkv ${line} is refused in one line`, async (t) => {
    const { run } = shell(t);
    await assert.rejects(run(line), { code: 'invalid_value', message });
    await assert.rejects(run(line), { message: /^[^\n]+$/ });
  });
}
