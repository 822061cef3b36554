/** The disk tier behind the whole service, over the tiny chat model: what outlives a backend, and what must not. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after as afterAll, suite, type TestContext, test } from 'node:test';
import { WRITE_POLICIES } from '#storage';
import { importModel } from '../../src/model/importer.js';
import type { BackendOptions } from '../../src/server.js';
import { DEFAULT_CACHE, tokensOf } from '../../src/serving/completion.js';
import { ask, TINY_CHUNK_BYTES, TINY_MODEL, TINY_TOKEN_BYTES, testBackend } from '../support/backend.js';
import { assertRefused } from '../support/refused.js';

const MIB = 2 ** 20;
const PROMPT =
  'a prompt that fills several chunks of sixteen tokens each, and then some more for good measure.';
const CHUNK_TOKENS = 16;
const REUSABLE = Math.floor((PROMPT.length - 1) / CHUNK_TOKENS) * CHUNK_TOKENS;

const made: string[] = [];
// Not after each test: its backend, which still writes, is closed after it too.
afterAll(() => Promise.all(made.map((path) => rm(path, { recursive: true, force: true }))));

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'radixkv-disk-'));
  made.push(path);
  return path;
}

const diskIn = (path: string) =>
  ({ directory: path, capacityBytes: 64 * MIB, freeBytesMin: 0, codec: 'auto' }) as const;

/** A backend over a directory, whose chunks of an earlier one can be found. */
async function start(t: TestContext, path: string, options: Partial<BackendOptions> = {}) {
  const backend = await testBackend(t, { disk: diskIn(path), ...options });
  await backend.cache.opened;
  return backend;
}

async function chunkFiles(path: string): Promise<string[]> {
  const names = await readdir(path, { recursive: true });
  return names.filter((name) => name.endsWith('.kv')).map((name) => join(path, name));
}

const LOGPROBS = { sampling: { topLogprobs: 0 }, maxTokens: 16 };

suite('after a restart', () => {
  for (const writePolicy of WRITE_POLICIES) {
    test(`a prompt is read from disk and its answer is the same bit for bit, with ${writePolicy}`, async (t) => {
      const path = await directory();
      const before = await start(t, path, { writePolicy });
      const cold = await ask(before, { prompt: PROMPT, ...LOGPROBS });
      // As often as write-through-selective asks for.
      for (const _ of [1, 2]) await ask(before, { prompt: PROMPT, maxTokens: 1 });
      await before.close();
      const after = await start(t, path, { writePolicy });
      const warm = await ask(after, { prompt: PROMPT, ...LOGPROBS });
      assert.equal(warm.usage.cachedTokens.device, 0);
      assert(warm.usage.cachedTokens.disk >= REUSABLE);
      assert.equal(warm.usage.cachedTokens.disk + warm.usage.computedTokens, PROMPT.length);
      assert.deepEqual([warm.text, warm.logprobs[0]], [cold.text, cold.logprobs[0]]);
      const again = await ask(after, { prompt: PROMPT, maxTokens: 1 });
      assert.equal(again.usage.cachedTokens.disk, 0);
    });
  }

  test('with write-through-selective a prompt that was asked once is not on disk', async (t) => {
    const path = await directory();
    const before = await start(t, path, { writePolicy: 'write-through-selective' });
    await ask(before, { prompt: PROMPT });
    await before.close();
    assert.equal((await chunkFiles(path)).length, 0);
  });

  test('another tenant finds nothing, the same one does', async (t) => {
    const path = await directory();
    const before = await start(t, path);
    await ask(before, { prompt: PROMPT, namespace: 'a' });
    await before.close();
    const after = await start(t, path);
    assert.equal((await ask(after, { prompt: PROMPT, namespace: 'b' })).cached, 0);
    assert((await ask(after, { prompt: PROMPT, namespace: 'a' })).usage.cachedTokens.disk >= REUSABLE);
  });

  test('another model never matches, and what it left takes room but is not touched', async (t) => {
    const path = await directory();
    const other = await directory();
    await importModel({ path: TINY_MODEL, directory: other, weights: 'int8' });
    const before = await start(t, path);
    await ask(before, { prompt: PROMPT });
    await before.close();
    const files = (await chunkFiles(path)).length;
    const foreign = await start(t, path, { modelDirectory: other });
    assert.equal((await ask(foreign, { prompt: PROMPT, maxTokens: 1 })).cached, 0);
    assert(foreign.cache.reading().prefixes!.tiers.disk!.bytes >= files * TINY_CHUNK_BYTES);
    await foreign.close();
    const after = await start(t, path);
    assert((await ask(after, { prompt: PROMPT })).usage.cachedTokens.disk >= REUSABLE);
  });

  test('what a lossy format kept is never read for an exact request, nor what was computed over it', async (t) => {
    const path = await directory();
    const modelDirectory = await directory();
    await importModel({ path: TINY_MODEL, directory: modelDirectory, weights: 'float32', kvType: 'float32' });
    const options = { modelDirectory, disk: { ...diskIn(path), codec: 'float16' } } as const;
    const exact = { cache: { ...DEFAULT_CACHE, mode: 'exact' }, ...LOGPROBS } as const;
    const before = await start(t, path, options);
    const cold = await ask(before, { prompt: PROMPT, ...exact });
    await before.close();
    const after = await start(t, path, options);
    const lossy = await ask(after, { prompt: PROMPT, ...LOGPROBS });
    assert.equal(lossy.cached, 0);
    assert(lossy.usage.blendedTokens.disk >= REUSABLE);
    assert.notEqual(lossy.logprobs[0], cold.logprobs[0], 'this test can tell');
    const longer = `${PROMPT} ${'More of it. '.repeat(4)}`;
    const derived = await ask(after, { prompt: longer, ...LOGPROBS });
    assert.equal(derived.cached, 0);
    const again = await ask(after, { prompt: `${longer}.`, ...LOGPROBS });
    assert(
      tokensOf(again.usage.blendedTokens) >= longer.length - CHUNK_TOKENS,
      'lossy rows are reused by others',
    );
    for (const prompt of [PROMPT, longer]) {
      const warm = await ask(after, { prompt, ...exact });
      assert.equal(tokensOf(warm.usage.blendedTokens), 0);
      const alone = await ask(after, { prompt, namespace: 'cold', ...exact });
      assert.deepEqual([warm.text, warm.logprobs[0]], [alone.text, alone.logprobs[0]]);
    }
  });

  test('a flipped bit in every file is a miss, counted, and repaired', async (t) => {
    const path = await directory();
    const before = await start(t, path);
    const cold = await ask(before, { prompt: PROMPT, ...LOGPROBS });
    await before.close();
    for (const file of await chunkFiles(path)) {
      const bytes = await readFile(file);
      bytes[bytes.length - 100]! ^= 4;
      await writeFile(file, bytes);
    }
    const damaged = await start(t, path);
    const answer = await ask(damaged, { prompt: PROMPT, ...LOGPROBS });
    assert.equal(answer.cached, 0);
    assert.deepEqual([answer.text, answer.logprobs[0]], [cold.text, cold.logprobs[0]]);
    const evictions = damaged.cache.reading().evictions.filter(({ tier }) => tier === 'disk');
    assert(evictions.find(({ reason }) => reason === 'corrupt')!.count >= 1);
    await damaged.close();
    const repaired = await start(t, path);
    assert((await ask(repaired, { prompt: PROMPT })).usage.cachedTokens.disk >= REUSABLE);
  });

  test('encrypted chunks are found with their key only, and do not show what they hold', async (t) => {
    const path = await directory();
    const encryptionKey = randomBytes(32);
    const before = await start(t, path, { disk: { ...diskIn(path), encryptionKey } });
    await ask(before, { prompt: PROMPT, namespace: 'a tenant by name' });
    await before.close();
    for (const name of await readdir(path, { recursive: true, withFileTypes: true })) {
      if (!name.isFile()) continue;
      const bytes = await readFile(join(name.parentPath, name.name));
      assert(!name.name.endsWith('.kv') || !bytes.includes('a tenant by name'), name.name);
      assert(
        !bytes.includes(Buffer.from(Int32Array.from(Buffer.from(PROMPT.slice(16, 32))).buffer)),
        name.name,
      );
    }
    for (const disk of [diskIn(path), { ...diskIn(path), encryptionKey: randomBytes(32) }]) {
      const wrong = await start(t, path, { disk, writePolicy: 'write-through-selective' });
      assert.equal((await ask(wrong, { prompt: PROMPT, namespace: 'a tenant by name' })).cached, 0);
      await wrong.close();
    }
    const after = await start(t, path, { disk: { ...diskIn(path), encryptionKey } });
    const warm = await ask(after, { prompt: PROMPT, namespace: 'a tenant by name' });
    assert(warm.usage.cachedTokens.disk >= REUSABLE);
  });
});

test('what is on disk belongs to its owner alone', async (t) => {
  const path = join(await directory(), 'made', 'here');
  const backend = await start(t, path);
  await ask(backend, { prompt: PROMPT });
  await backend.close();
  assert.equal((await stat(path)).mode & 0o077, 0);
  for (const file of await chunkFiles(path)) assert.equal((await stat(file)).mode & 0o077, 0);
});

test('a directory that another process uses is refused at the start, by its option', async (t) => {
  const path = await directory();
  await start(t, path);
  await assertRefused('invalid_value', /^--disk-dir /, () => start(t, path));
});

test('what a queued prompt has on disk is read while another one computes', async (t) => {
  const path = await directory();
  const before = await start(t, path);
  await ask(before, { prompt: PROMPT });
  await before.close();
  const after = await start(t, path, { maxActive: 1 });
  const promoted = () => after.cache.reading().prefixes!.store.promoted;
  const first = ask(after, { prompt: 'something else', maxTokens: 200 });
  const second = ask(after, { prompt: PROMPT });
  await first;
  assert(promoted() * CHUNK_TOKENS >= REUSABLE);
  assert((await second).usage.cachedTokens.disk >= REUSABLE);
});

test('budgets far below what is asked for hold, and answers stay the same', async (t) => {
  const path = await directory();
  const capacityBytes = 10 * MIB;
  const options = {
    disk: { ...diskIn(path), capacityBytes },
    deviceBytes: 1024 * TINY_TOKEN_BYTES,
    hostBytes: 12 * TINY_CHUNK_BYTES,
  };
  const expected = new Map<string, string>();
  let fromDisk = 0;
  for (let round = 0; round < 3; round++) {
    const backend = await start(t, path, options);
    for (let i = 0; i < 60; i++) {
      const prompt = `${'shared words at the start. '.repeat(1 + (i % 4))}${(i * 7) % 12}: ${PROMPT}`;
      const answer = await ask(backend, { prompt });
      expected.set(prompt, expected.get(prompt) ?? answer.text);
      assert.equal(answer.text, expected.get(prompt));
      fromDisk += answer.usage.cachedTokens.disk;
      const { tiers } = backend.cache.reading().prefixes!;
      assert(tiers.host!.bytes <= tiers.host!.capacityBytes);
      assert(tiers.disk!.bytes <= tiers.disk!.capacityBytes);
      assert(tiers.disk!.capacityBytes <= capacityBytes);
      assert.equal(backend.cache.audit().leases, 0);
    }
    await backend.close();
  }
  assert(fromDisk > 1000);
});

test('a request that is aborted while its prompt is read from disk leaves no lease', async (t) => {
  const path = await directory();
  const before = await start(t, path);
  await ask(before, { prompt: PROMPT });
  await before.close();
  const after = await start(t, path);
  const aborter = new AbortController();
  const answer = ask(after, { prompt: PROMPT, signal: aborter.signal });
  await new Promise((resolve) => setImmediate(resolve));
  aborter.abort();
  await answer.catch(() => {});
  await after.scheduler.idle();
  assert.equal(after.cache.audit().leases, 0);
  assert((await ask(after, { prompt: PROMPT })).cached >= REUSABLE);
});
