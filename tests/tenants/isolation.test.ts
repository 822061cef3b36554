/**
 * Tenants over HTTP, with keys and the tiny chat model: whatever tier holds a prompt's rows, its own tenant hits them and
 * another one does not, before and after a restart.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after as afterAll, suite, type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import type { BackendOptions } from '../../src/server.js';
import type { Tier } from '../../src/serving/completion.js';
import { type TestBackend, TINY_CHUNK_BYTES, testBackend } from '../support/backend.js';
import { TestKeys } from '../support/key-files.js';

const CHUNK_TOKENS = 16;
const PROMPT =
  'the same words from two tenants, who must never learn of each other, nor from how long it took';
const PASSAGE = 'a passage that both of them have, and that is long enough for several chunks of KV';
const WHOLE_CHUNKS = Math.floor((PROMPT.length - 1) / CHUNK_TOKENS) * CHUNK_TOKENS;
const FOUND: Readonly<Omit<Record<Tier, number>, 'remote'>> = {
  device: PROMPT.length - 1,
  host: WHOLE_CHUNKS,
  disk: WHOLE_CHUNKS,
};

const made: string[] = [];
// Not after each test: its backend, which still writes, is closed after it too.
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
});

/** A server of the same keys and disk, however often it is started. */
class World {
  readonly directory: string;
  readonly keys = new TestKeys();
  readonly #t: TestContext;

  constructor(t: TestContext, directory = mkdtempSync(join(tmpdir(), 'radixkv-tenants-'))) {
    this.#t = t;
    this.directory = directory;
    made.push(this.directory, this.keys.directory);
    t.after(() => this.keys.dispose());
  }

  async start(options: Partial<BackendOptions> = {}) {
    const disk = {
      directory: this.directory,
      capacityBytes: 2 ** 26,
      freeBytesMin: 0,
      codec: 'auto',
    } as const;
    const backend = await testBackend(this.#t, { disk, ...options });
    await backend.cache.opened;
    const { service, statistics, controls } = backend;
    const app = createApp({ service, statistics, controls, access: this.keys.access() });
    const post = async (path: string, key: string, body: object) => {
      const answer = await supertest(app)
        .post(path)
        .set('authorization', `Bearer ${key}`)
        .send({ model: service.model.id, max_tokens: 2, temperature: 0, ...body });
      assert.equal(answer.status, 200, answer.text);
      await backend.scheduler.idle();
      return answer.body;
    };
    const cachedTokens = async (key: string): Promise<Record<Tier, number>> => {
      const { timings, usage } = await post('/v1/completions', key, { prompt: PROMPT });
      assert.equal(usage.prompt_tokens, PROMPT.length);
      return timings.cached_tokens;
    };
    return { app, backend, post, cachedTokens };
  }
}

/** Takes the rows away from the tiers that are faster than `tier`. */
function leaveOnly(tier: 'device' | 'host', { cache }: TestBackend): void {
  if (tier !== 'device') cache.dropWarm();
}

const NONE = { device: 0, host: 0, disk: 0, remote: 0 };

/** A disk tier behind so little host memory that another prompt displaces all that was in it. */
const SMALL_HOST = { hostBytes: 16 * TINY_CHUNK_BYTES, segmentShare: 0 };
const FILLER = 'something else altogether, '.repeat(12);

/** Until what was computed is on disk, and only there. */
async function displace({ backend, post }: Awaited<ReturnType<World['start']>>, key: string): Promise<void> {
  while (backend.statistics.gauges().disk!.queuedChunks > 0) await setImmediate();
  await post('/v1/completions', key, { prompt: FILLER });
  backend.cache.dropWarm();
}

suite('the same prompt of another tenant', () => {
  for (const tier of ['device', 'host'] as const) {
    test(`is a miss where its own tenant hits, in the ${tier} tier`, async (t) => {
      const world = new World(t);
      const [a, alsoA, b] = [world.keys.create('a'), world.keys.create('a'), world.keys.create('b')];
      const { backend, cachedTokens } = await world.start();
      assert.deepEqual(await cachedTokens(a), NONE);
      leaveOnly(tier, backend);
      assert.deepEqual(await cachedTokens(b), NONE, 'another tenant');
      leaveOnly(tier, backend);
      assert.deepEqual(
        await cachedTokens(alsoA),
        { ...NONE, [tier]: FOUND[tier] },
        'another key of the same',
      );
    });
  }

  for (const isRestarted of [false, true]) {
    test(`is a miss where its own tenant hits, on disk ${isRestarted ? 'after' : 'without'} a restart`, async (t) => {
      const world = new World(t);
      const [a, alsoA, b] = [world.keys.create('a'), world.keys.create('a'), world.keys.create('b')];
      let server = await world.start(SMALL_HOST);
      assert.deepEqual(await server.cachedTokens(a), NONE);
      await displace(server, b);
      if (isRestarted) {
        await server.backend.close();
        server = await world.start(SMALL_HOST);
      }
      assert.deepEqual(await server.cachedTokens(b), NONE, 'another tenant');
      await displace(server, b);
      assert.deepEqual(
        await server.cachedTokens(alsoA),
        { ...NONE, disk: FOUND.disk },
        'another key of the same',
      );
    });
  }

  test('stays one after a restart, though both tenants are on disk, and one of them in memory', async (t) => {
    const world = new World(t);
    const [a, b, c] = [world.keys.create('a'), world.keys.create('b'), world.keys.create('c')];
    const before = await world.start();
    await before.cachedTokens(a);
    await before.cachedTokens(b);
    await before.backend.close();
    const after = await world.start();
    assert.deepEqual(await after.cachedTokens(a), { ...NONE, disk: WHOLE_CHUNKS });
    assert.deepEqual(await after.cachedTokens(c), NONE, 'never asked');
    assert.deepEqual(await after.cachedTokens(b), { ...NONE, disk: WHOLE_CHUNKS }, 'its own, from disk');
    assert.deepEqual(await after.cachedTokens(a), { ...NONE, device: PROMPT.length - 1 });
  });

  test('is a miss for who has the name of a tenant, but not its salt', async (t) => {
    const world = new World(t);
    const before = await world.start();
    await before.cachedTokens(world.keys.create('a'));
    await before.backend.close();
    const impostor = new World(t, world.directory);
    const after = await impostor.start();
    assert.deepEqual(await after.cachedTokens(impostor.keys.create('a')), NONE);
  });
});

test('the same passage of another tenant is computed again, where its own tenant blends it', async (t) => {
  const world = new World(t);
  const [a, b] = [world.keys.create('a'), world.keys.create('b')];
  const { backend, post } = await world.start();
  const ask = async (key: string, question: string) => {
    const { explanation, usage } = await post('/v1/chat/completions', key, {
      messages: [{ role: 'user', content: question }],
      documents: [{ text: PASSAGE }],
      cache: { mode: 'blend', recompute_ratio: 0.2, explain: true },
    });
    backend.cache.dropWarm();
    return { source: explanation.documents[0].source, details: usage.prompt_tokens_details };
  };
  assert.equal((await ask(a, 'What is it?')).source, 'computed');
  const other = await ask(b, 'What is it?');
  assert.equal(other.source, 'computed');
  assert.equal(other.details.cached_tokens, 0);
  assert.equal((await ask(a, 'And who has it?')).source, 'host');
});

test('neither keys nor names of tenants are in what the disk tier writes', async (t) => {
  const world = new World(t);
  const key = world.keys.create('a-very-special-tenant');
  const { backend, cachedTokens } = await world.start();
  await cachedTokens(key);
  await backend.close();
  const names = readdirSync(world.directory, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile());
  const bytes = Buffer.concat(files.map((entry) => readFileSync(join(entry.parentPath, entry.name))));
  const [tenant] = world.keys.file.tenants();
  assert(
    bytes.includes(tenant!.namespace) || bytes.includes(Buffer.from(tenant!.namespace, 'hex')),
    'can tell',
  );
  for (const secret of [key, key.slice(11), tenant!.name]) assert(!bytes.includes(secret), secret);
});

test('what a tenant steers and sees of the cache is its own', async (t) => {
  const world = new World(t);
  const [a, b] = [world.keys.create('a'), world.keys.create('b', 'admin')];
  const { app, backend, cachedTokens } = await world.start();
  await cachedTokens(a);
  const prompt = { model: backend.service.model.id, prompt: PROMPT };
  const as = (key: string) => ({
    post: (path: string, body: object) => supertest(app).post(path).set('x-api-key', key).send(body),
    get: (path: string) => supertest(app).get(path).set('x-api-key', key),
    delete: (path: string) => supertest(app).delete(path).set('x-api-key', key),
  });
  const pin = await as(a).post('/v1/cache/pins', prompt).expect(201);
  const job = await as(a)
    .post('/v1/cache/warm', { model: prompt.model, prompts: [{ prompt: PROMPT }] })
    .expect(202);
  for (const [key, isOwn] of [
    [b, false],
    [a, true],
  ] as const) {
    const { body: lookup } = await as(key).post('/v1/cache/lookup', prompt).expect(200);
    assert.equal(lookup.cached_tokens > 0, isOwn);
    const { body: explained } = await as(key).post('/v1/cache/explain', prompt).expect(200);
    assert.equal(explained.divergence?.reason, isOwn ? undefined : 'nothing_cached');
    assert.equal((await as(key).get('/v1/cache/tree').expect(200)).body.data.length > 0, isOwn);
    assert.equal((await as(key).get('/v1/cache/pins').expect(200)).body.data.length > 0, isOwn);
    const status = isOwn ? 200 : 404;
    await as(key).get(`/v1/cache/warm/${job.body.id}`).expect(status);
    await as(key).get(`/v1/cache/pins/${pin.body.id}`).expect(status);
    await as(key).delete(`/v1/cache/pins/${pin.body.id}`).expect(status);
  }
  await backend.scheduler.idle();
  await as(b).delete('/v1/cache').expect(200);
  assert.equal((await cachedTokens(a)).device, PROMPT.length - 1, 'others can not forget it');
  await as(a).delete('/v1/cache').expect(200);
  assert.deepEqual(await cachedTokens(a), NONE);
});

test('prompts that are warmed or pinned are charged like those that are asked', async (t) => {
  const world = new World(t);
  const key = world.keys.create('a');
  world.keys.file.setLimits('a', { requestsPerMinute: undefined, tokensPerMinute: 2 * PROMPT.length });
  const { app, backend } = await world.start();
  const { id: model } = backend.service.model;
  const post = (path: string, body: object) => supertest(app).post(path).set('x-api-key', key).send(body);
  const warm = await post('/v1/cache/warm', { model, prompts: [{ prompt: PROMPT }] }).expect(202);
  assert.equal(warm.headers['x-ratelimit-remaining-tokens'], String(PROMPT.length));
  await backend.scheduler.idle();
  await post('/v1/cache/pins', { model, prompt: PROMPT }).expect(201);
  await post('/v1/cache/pins', { model, prompt: PROMPT }).expect(429);
  await post('/v1/cache/warm', { model, prompts: [{ prompt: PROMPT }] }).expect(429);
});
