/**
 * The Dockerfile, without an engine: every path and command of it in a fresh directory, and what comes out served as a
 * container would serve it, by another user than root, on a root file system that can't be written.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chown, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../bench/free-port.js';
import { contextPaths, REPOSITORY, readStages } from './dockerfile.js';
import { buildImages, type Image, treeBytes, whyNot } from './sandbox.js';

const TINY_SOURCE = join(REPOSITORY, 'tests/golden/tiny/chat');
const READY_WITHIN_MS = 60_000;

test('the context holds what the Dockerfile copies, and nothing else', () => {
  const copied = readStages()
    .flatMap(({ steps }) => steps)
    .filter(({ keyword, flags }) => keyword === 'COPY' && flags.from === undefined)
    .flatMap(({ text }) => text.split(/\s+/).slice(0, -1));
  assert.deepEqual(copied.sort(), contextPaths().sort());
  for (const path of copied) assert(existsSync(join(REPOSITORY, path)), path);
});

/** What a process says until it ends. */
async function finished(
  child: ChildProcess,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const texts = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream]!.setEncoding('utf8').on('data', (text: string) => {
      texts[stream] += text;
    });
  await once(child, 'close');
  return { code: child.exitCode, ...texts };
}

test('every step of the Dockerfile works, and its images serve as another user on a read-only root', {
  skip: whyNot(),
  timeout: 1_200_000,
}, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-image-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const images = await buildImages(directory, {
    args: { MODEL: '/tiny', NAME: 'tiny' },
    mounts: { readOnly: { '/tiny': TINY_SOURCE } },
  });
  const [withModel, byDefault] = [images.get('with-model')!, images.get('')!];

  assert.deepEqual(await readdir(join(byDefault.root, 'app')), [
    'bin',
    'dist',
    'docs',
    'node_modules',
    'package.json',
  ]);
  assert.deepEqual(await readdir(join(byDefault.root, 'app/dist')), [
    'blend',
    'dashboard',
    'radix',
    'src',
    'storage',
  ]);
  for (const name of ['typescript', '@biomejs/biome', 'openai'])
    assert(!existsSync(join(byDefault.root, 'app/node_modules', name)), `${name} is for development only`);
  const bytes = await treeBytes(join(byDefault.root, 'app'));
  t.diagnostic(`on top of its base, the image has ${(bytes / 1e6).toFixed(1)} MB`);
  assert(bytes < 250e6);

  for (const [name, image, options] of [
    ['with a model', withModel, []],
    ['without, the model mounted', byDefault, ['--models-dir', '/models', '--model', 'tiny']],
  ] as const)
    await t.test(name, (subtest) => serves(image, options, withModel, subtest.after.bind(subtest)));
});

async function serves(
  image: Image,
  options: readonly string[],
  { root }: Image,
  after: (end: () => Promise<unknown>) => void,
): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'radixkv-data-'));
  const models = options.length > 0 ? { readOnly: { '/models': join(root, 'models') } } : {};
  await mkdir(join(image.root, 'models'), { recursive: true });
  await chown(data, 1000, 1000);
  const mounts = { volumes: { '/data': data }, ...models };
  const port = await freePort();
  const env = { RADIXKV_PORT: String(port), RADIXKV_DISK_FREE_BYTES: '0' };
  const { entrypoint, command, healthcheck, user } = image.settings;
  assert.equal(user, '1000:1000');
  const start = (args: readonly string[]) => image.spawn([...entrypoint, ...args], env, mounts);

  const created = await finished(start(['keys', 'create', '--tenant', 'me']));
  assert.equal(created.code, 0, created.stderr);
  const key = created.stdout.trim();
  const unhealthy = await finished(image.spawn(healthcheck, env, mounts));
  assert.equal(unhealthy.code, 1, 'nobody serves yet');

  const server = start([...command, ...options]);
  after(async () => {
    if (server.exitCode === null && server.signalCode === null) server.kill('SIGKILL');
    await rm(data, { recursive: true, force: true });
  });
  const end = finished(server);
  let health: number | null = 1;
  for (
    let waitedMs = 0;
    health !== 0 && waitedMs < READY_WITHIN_MS && server.exitCode === null;
    waitedMs += 500
  ) {
    await sleep(500);
    health = (await finished(image.spawn(healthcheck, env, mounts))).code;
  }
  if (server.exitCode !== null) assert.fail((await end).stderr);
  assert.equal(health, 0);
  const ask = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${port}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'tiny', prompt: 'Who lit the lamp?', max_tokens: 2 }),
    });
  assert.equal((await ask({})).status, 401);
  assert.equal((await ask({ authorization: `Bearer ${key}` })).status, 200);
  assert((await readdir(data)).includes('keys.sqlite'));

  process.kill(await innermost(server.pid!), 'SIGTERM');
  const { code, stderr } = await end;
  assert.equal(code, 0, stderr);
}

/** Below bubblewrap, which passes no signals on. */
async function innermost(pid: number): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const [child] = children.split(' ');
  return child === undefined || child === '' ? pid : innermost(Number(child));
}
