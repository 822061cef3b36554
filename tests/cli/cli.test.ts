/** The `radixkv` command as a user starts it: output, exit codes, messages. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const PACKAGE = new URL('../../../package.json', import.meta.url);
const REPORT = z.object({
  healthy: z.boolean(),
  checks: z.array(
    z.object({
      name: z.string(),
      status: z.enum(['ok', 'warn', 'fail']),
      detail: z.string(),
      fix: z.string().optional(),
    }),
  ),
});

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command with nothing of this machine's environment but what finds programs. */
function radixkv(args: readonly string[], environment: Record<string, string> = {}): Promise<Outcome> {
  const env = {
    PATH: process.env.PATH,
    HOME: '/nonexistent',
    HF_ENDPOINT: 'http://127.0.0.1:9',
    ...environment,
  };
  return new Promise((settle) => {
    execFile(process.execPath, [MAIN, ...args], { env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      assert.ok(typeof code === 'number', error?.message);
      settle({ code, stdout, stderr });
    });
  });
}

async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-cli-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Holds a port on the loopback interface until the test ends. */
async function occupyPort(t: TestContext): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

test('help names every command, and the help of serve every option with its variable and default', async () => {
  const main = await radixkv(['--help']);
  assert.equal(main.code, 0);
  for (const command of ['serve', 'model', 'keys', 'tenants', 'top', 'config', 'doctor'])
    assert.match(main.stdout, new RegExp(`^  ${command} `, 'm'));
  const serve = await radixkv(['serve', '--help']);
  assert.equal(serve.code, 0);
  const text = serve.stdout.replaceAll(/\s+/g, ' ');
  assert.match(text, /--port <number> port to listen on.*\(default: 8080, env: RADIXKV_PORT\)/);
  assert.match(text, /--device-bytes <size>.*\(default: 1GiB, env: RADIXKV_DEVICE_BYTES\)/);
});

test('the version is the one of the package', async () => {
  const { version } = z.object({ version: z.string() }).parse(JSON.parse(await readFile(PACKAGE, 'utf8')));
  assert.deepEqual(await radixkv(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' });
});

test('wrong usage ends with code 2 and one line that says what is wrong', async () => {
  const cases: [string[], Record<string, string>, RegExp][] = [
    [['serve', '--prot', '1'], {}, /unknown option '--prot' \(Did you mean --port\?\)/],
    [['serv'], {}, /unknown command 'serv' \(Did you mean serve\?\)/],
    [['serve', '--port', 'http'], {}, /--port must be a whole number from 0 to 65535, got "http"/],
    [['serve'], { RADIXKV_HOST_BYTES: '2G' }, /RADIXKV_HOST_BYTES must be a size such as .*, got "2G"/],
    [['model', 'import'], {}, /missing required argument 'source'/],
    [['model', 'import', 'hf:x'], {}, /hf:org\/name/],
    [['model', 'remove', '../x'], {}, /not a model name/],
    [['doctor', '--threads', '0'], {}, /--threads must be/],
    [['top', '--url', 'localhost:8080'], {}, /--url must be an address like http/],
    [['serve', '--host', '0.0.0.0'], {}, /radixkv keys create --tenant .* --insecure-no-keys/],
    [['serve'], { RADIXKV_HOST: '::' }, /--host :: lets others in, and there are no keys/],
    [['serve', '--require-keys', '--insecure-no-keys'], {}, /contradict each other/],
    [['serve'], { RADIXKV_REQUIRE_KEYS: '1' }, /RADIXKV_REQUIRE_KEYS must be one of true, false, got "1"/],
    [
      ['serve'],
      { RADIXKV_PROT: '1' },
      /RADIXKV_PROT in the environment means nothing \(did you mean "RADIXKV_PORT"\?\)/,
    ],
    [['serve', '--config', '/nowhere/x.yaml'], {}, /--config can't be read: ENOENT/],
    [['serve'], { RADIXKV_CONFIG: '' }, /--config must not be empty/],
    [['config', 'print', '--format', 'toml'], {}, /--format must be one of yaml, json, got "toml"/],
    [['keys', 'create'], {}, /required option '--tenant <name>' not specified/],
  ];
  for (const [args, environment, pattern] of cases) {
    const { code, stdout, stderr } = await radixkv(args, environment);
    assert.equal(code, 2, stderr);
    assert.match(stderr, pattern);
    assert.match(stderr, /^radixkv: [^\n]+\n$/, 'one line');
    assert.equal(stdout, '');
  }
});

test('a flag wins over the environment', async () => {
  const { code, stderr } = await radixkv(['serve', '--model', 'none', '--port', '1'], {
    RADIXKV_PORT: 'bad',
  });
  assert.equal(code, 1, stderr);
  assert.match(stderr, /no model "none"/);
});

test('a value comes from the flag, else the environment, else the file, else the default', async (t) => {
  const file = join(await temporaryDirectory(t), 'radixkv.yaml');
  await writeFile(file, 'port: 3\nthreads: 3\nmax-queue: 3\nhost-bytes: 3MiB\n');
  const environment = { RADIXKV_CONFIG: file, RADIXKV_PORT: '2', RADIXKV_THREADS: '2' };
  const print = (...args: string[]) => radixkv(['config', 'print', '--port', '1', ...args], environment);
  const lines = (await print('--sources')).stdout.split('\n');
  for (const line of [
    'port: 1 # flag --port',
    'threads: 2 # environment RADIXKV_THREADS',
    `max-queue: 3 # ${file}:3`,
    'max-active: 16 # default',
    `host-bytes: 3MiB # ${file}:4`,
    '# disk-key-file is not set',
  ])
    assert(lines.includes(line), line);
  const json = JSON.parse((await print('--format', 'json', '--sources')).stdout);
  assert.deepEqual(json['host-bytes'], { value: '3MiB', source: `${file}:4` });
});

test('what config print says reads back to the same, in both formats, and goes without credentials', async (t) => {
  const directory = await temporaryDirectory(t);
  const args = ['--host-bytes', '1.5GB', '--disk-key-file', 'k', '--otlp-endpoint', 'http://me:secret@host'];
  for (const format of ['yaml', 'json']) {
    const file = join(directory, `radixkv.${format}`);
    const { stdout, code } = await radixkv(['config', 'print', '--format', format, ...args]);
    assert.equal(code, 0);
    assert.doesNotMatch(stdout, /secret/);
    await writeFile(file, stdout);
    assert.match((await radixkv(['config', 'check', file])).stdout, /is valid; \d+ of \d+/);
    const again = await radixkv(['config', 'print', '--format', format, '--config', file]);
    const [printed, reprinted] = [stdout, again.stdout].map((text) =>
      text.replace(/^# otlp-endpoint.*\n/m, ''),
    );
    assert.equal(reprinted, printed);
  }
});

test('every command with options reads the file, and refuses one that is wrong', async (t) => {
  const directory = await temporaryDirectory(t);
  const file = join(directory, 'radixkv.yaml');
  await writeFile(file, `data-dir: here\nmodel: tiny\n`);
  const list = await radixkv(['model', 'list', '--config', file]);
  assert.match(list.stdout, new RegExp(`no models in ${join(directory, 'here', 'models')};`));
  await writeFile(file, 'data-dir: here\nmodle: tiny\n');
  for (const command of [['serve'], ['keys', 'list']]) {
    const { code, stderr } = await radixkv([...command, '--config', file]);
    assert.deepEqual(
      [code, stderr],
      [2, `radixkv: ${file}:2: unknown key "modle" (did you mean "model"?)\n`],
    );
  }
  assert.equal((await radixkv(['config', 'check', file])).code, 2);
});

test('config schema is JSON with every option', async () => {
  const schema = JSON.parse((await radixkv(['config', 'schema'])).stdout);
  assert('host-bytes' in schema.properties);
});

test('variables that Kubernetes makes of a service of that name are not taken for ours', async () => {
  const link = { RADIXKV_PORT: 'tcp://10.0.0.1:8080', RADIXKV_SERVICE_HOST: '10.0.0.1' };
  const { stdout } = await radixkv(['config', 'print', '--sources'], link);
  assert.match(stdout, /^port: 8080 # default$/m);
});

test('serve lets others in where keys are required, or where it is told that everybody may', async (t) => {
  const directory = await temporaryDirectory(t);
  const serve = (...args: string[]) =>
    radixkv(['serve', '--host', '0.0.0.0', '--model', 'none', '--data-dir', directory, ...args]);
  assert.match((await serve('--insecure-no-keys')).stderr, /^radixkv: no model "none"/);
  const required = (await serve('--require-keys')).stderr;
  assert.match(required, /^there is no key yet; make one with: radixkv keys create[^\n]+\nradixkv: no model/);
  const { stdout } = await radixkv(['keys', 'create', '--tenant', 'me', '--data-dir', directory]);
  assert.match(stdout, /^rk_[\w-]{51}\n$/);
  assert.match((await serve()).stderr, /^radixkv: no model "none"/);
});

test('a failed command ends with code 1 and one line; the stack is shown on demand only', async (t) => {
  const args = ['model', 'remove', 'tiny', '--data-dir', await temporaryDirectory(t)];
  const { code, stderr } = await radixkv(args);
  assert.equal(code, 1);
  assert.match(stderr, /^radixkv: no model "tiny" in [^\n]+ \(there are none\)[^\n]+\n$/);
  assert.match((await radixkv(args, { RADIXKV_DEBUG: '1' })).stderr, /\n {4}at /);
});

test('top ends with code 1 and one line where no server answers', async () => {
  const { code, stdout, stderr } = await radixkv(['top', '--once', '--url', 'http://127.0.0.1:10']);
  assert.deepEqual(
    [code, stdout, stderr],
    [1, '', "radixkv: http://127.0.0.1:10 can't be read: ECONNREFUSED\n"],
  );
});

test('an empty models directory is listed with the command to fill it, and as an empty JSON list', async (t) => {
  const directory = await temporaryDirectory(t);
  const text = await radixkv(['model', 'list', '--data-dir', directory]);
  assert.match(text.stdout, /no models in .*; import one with: radixkv model import smollm2-135m-instruct/);
  const json = await radixkv(['model', 'list', '--json'], { RADIXKV_DATA_DIR: directory });
  assert.deepEqual(JSON.parse(json.stdout), []);
});

test('doctor reports every check as JSON, with a fix for each that is not ok', async (t) => {
  const directory = await temporaryDirectory(t);
  const { code, stdout } = await radixkv(['doctor', '--json', '--port', '0', '--data-dir', directory]);
  const { healthy, checks } = REPORT.parse(JSON.parse(stdout));
  assert.deepEqual(
    checks.map((check) => check.name),
    [
      'node',
      'onnxruntime',
      'device',
      'port',
      'keys',
      'data directory',
      'disk',
      'cache directory',
      'memory',
      'model',
    ],
  );
  for (const check of checks) assert.equal(check.fix === undefined, check.status === 'ok', check.name);
  const named = (name: string) => checks.find((check) => check.name === name)!;
  for (const name of ['node', 'onnxruntime', 'port', 'keys', 'data directory'])
    assert.equal(named(name).status, 'ok', name);
  assert.match(named('onnxruntime').detail, /providers: cpu/);
  assert.equal(code, healthy ? 0 : 1);
});

test('a GPU that can not be used is told by doctor', async (t) => {
  const directory = await temporaryDirectory(t);
  const args = ['doctor', '--json', '--port', '0', '--data-dir', directory, '--device', 'cuda'];
  const { code, stdout } = await radixkv(args);
  const device = REPORT.parse(JSON.parse(stdout)).checks.find(({ name }) => name === 'device')!;
  assert.deepEqual([code, device.status], [1, 'fail']);
  assert.match(device.detail, /auto would take .*cuda: can't be used \(.*shared library\)/);
  assert.match(device.fix!, /--device cpu/);
});

test('doctor fails with code 1 and a fix when the port is taken and memory and model are not there', async (t) => {
  const port = await occupyPort(t);
  const directory = await temporaryDirectory(t);
  const args = [
    'doctor',
    '--port',
    String(port),
    '--data-dir',
    directory,
    '--host-bytes',
    '900TiB',
    '--model',
    'tiny',
    '--disk-free-bytes',
    '900TiB',
  ];
  const { code, stdout } = await radixkv(args);
  assert.equal(code, 1);
  assert.match(stdout, /^fail {2}port +can't listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)\n +fix: .*--port/m);
  assert.match(stdout, /^warn {2}cache directory .*\n +fix: .*--disk-free-bytes/m);
  assert.match(stdout, /^fail {2}memory .*\n +fix: lower --host-bytes/m);
  assert.match(stdout, /^fail {2}model .*\n +fix: radixkv model import <source> --name tiny/m);
});
