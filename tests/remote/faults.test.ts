/**
 * A Redis that is dead, frozen, full, emptied, read-only, flapping, slow or cut off, while requests come: none fails,
 * none has another answer than without it, and it is used again once it is well.
 */
import assert from 'node:assert/strict';
import { RedisServer, type Scope, until, Wire } from '../../bench/redis-server.js';
import type { RemoteOptions } from '../../src/cache/create-tiers.js';
import { ask, type TestBackend, testBackend } from '../support/backend.js';
import { redisTest } from '../support/redis-test.js';
import { node, remoteAt, remoteOf, written } from '../support/remote-backend.js';

const PROMPT = 'these words are common to all of them, and they fill several chunks before they differ: ';
const prompt = (i: number) => `${i} ${PROMPT} and ${i} is what it was`;
const PROMPTS = 12;

/** Some prompts, the first half of them in Redis, and their answers without it. */
async function prepared(t: Scope, redis: RedisServer): Promise<Map<number, string>> {
  const plain = await node(t, remoteAt(redis.url));
  const answers = new Map<number, string>();
  for (let i = 0; i < PROMPTS; i++) {
    answers.set(i, (await ask(plain, { prompt: prompt(i) })).text);
    if (i === PROMPTS / 2) {
      await written(plain);
      await redis.ask('CONFIG', 'SET', 'maxmemory', '1mb');
    }
  }
  await redis.ask('CONFIG', 'SET', 'maxmemory', '0');
  await plain.close();
  return answers;
}

/**
 * Requests, four at a time, while something happens to Redis, in the middle of some of them. Nothing stays in memory,
 * so that what Redis has is read from there each time; every third prompt is new.
 */
async function load(backend: TestBackend, answers: ReadonlyMap<number, string>, fault: () => unknown) {
  const asked: Promise<void>[] = [];
  for (let i = 0; i < 4 * PROMPTS; i++) {
    if (i === PROMPTS + 2) await fault();
    const which = i % PROMPTS;
    if (i % 4 === 0) {
      backend.cache.dropWarm();
      backend.cache.clear('', { tier: 'host' });
    }
    const answer = ask(backend, { prompt: prompt(which), namespace: i % 3 === 0 ? `new ${i}` : '' });
    asked.push(answer.then(({ text }) => assert.equal(text, answers.get(which))));
    if (asked.length % 4 === 0) await Promise.all(asked);
  }
  await Promise.all(asked);
  await backend.scheduler.idle();
  assert.equal(backend.cache.audit().leases, 0);
}

/** Small, so that what hangs costs little. */
const SHORT = { deadline: { msMin: 300, msMax: 300 } } satisfies Partial<RemoteOptions>;

const isUsed = (backend: TestBackend) =>
  until(() => remoteOf(backend).state === 'closed', 'it is used again');
const isLeft = (backend: TestBackend) =>
  until(() => remoteOf(backend).state !== 'closed', 'it is left alone');

/** A prompt that only Redis has is hit again. */
async function hitsAgain(t: Scope, backend: TestBackend, url: string): Promise<void> {
  const other = await node(t, remoteAt(url));
  const fresh = `something new, of which nobody has heard before, and which is long enough: ${url}`;
  await ask(other, { prompt: fresh, maxTokens: 1 });
  await written(other);
  assert((await ask(backend, { prompt: fresh, maxTokens: 1 })).usage.cachedTokens.remote > 0);
}

redisTest('killed and started again, empty', async (t) => {
  const redis = await RedisServer.start(t);
  const answers = await prepared(t, redis);
  const backend = await node(t, remoteAt(redis.url, SHORT));
  await load(backend, answers, () => redis.kill());
  await isLeft(backend);
  await redis.begin();
  await isUsed(backend);
  await hitsAgain(t, backend, redis.url);
  await load(backend, answers, () => {});
});

redisTest('frozen, and thawed', async (t) => {
  const redis = await RedisServer.start(t);
  t.after(async () => redis.signal('SIGCONT'));
  const answers = await prepared(t, redis);
  const backend = await node(t, remoteAt(redis.url, SHORT));
  await load(backend, answers, () => redis.signal('SIGSTOP'));
  await isLeft(backend);
  assert(remoteOf(backend).errors.timeout! > 0);
  redis.signal('SIGCONT');
  await isUsed(backend);
  await load(backend, answers, () => {});
});

redisTest('full: writes pause, reads go on', async (t) => {
  const redis = await RedisServer.start(t);
  const answers = await prepared(t, redis);
  const backend = await node(t, remoteAt(redis.url));
  await load(backend, answers, () => redis.ask('CONFIG', 'SET', 'maxmemory', '1mb'));
  await written(backend);
  const { errors, reads, state } = remoteOf(backend);
  assert(errors.full! > 0);
  assert(reads.hit! > 0);
  assert.equal(state, 'closed');
  await redis.ask('CONFIG', 'SET', 'maxmemory', '0');
  const { stored } = remoteOf(backend).writes;
  await until(async () => {
    await ask(backend, { prompt: prompt(0), namespace: `${Math.random()}`, maxTokens: 1 });
    return remoteOf(backend).writes.stored! > stored!;
  }, 'writes go on');
});

redisTest('a replica: it is read, and not written', async (t) => {
  const master = await RedisServer.start(t);
  const answers = await prepared(t, master);
  const replica = await RedisServer.start(t, ['--replicaof', `127.0.0.1 ${master.port}`]);
  await until(async () => (await replica.chunks()).length === (await master.chunks()).length, 'it follows');
  const backend = await node(t, remoteAt(replica.url));
  await load(backend, answers, () => {});
  await written(backend);
  const { errors, reads, state, writes } = remoteOf(backend);
  assert(errors.read_only! > 0);
  assert(reads.hit! > 0);
  assert.deepEqual([state, writes.stored], ['closed', 0]);
});

redisTest('emptied', async (t) => {
  const redis = await RedisServer.start(t);
  const answers = await prepared(t, redis);
  const backend = await node(t, remoteAt(redis.url));
  await load(backend, answers, () => redis.ask('FLUSHALL'));
  assert.equal(remoteOf(backend).trips, 0);
});

redisTest('flapping: the pauses grow', async (t) => {
  const redis = await RedisServer.start(t);
  const answers = await prepared(t, redis);
  const backend = await node(t, remoteAt(redis.url, SHORT));
  for (let flap = 0; flap < 3; flap++) {
    await load(backend, answers, () => redis.kill());
    await isLeft(backend);
    await redis.begin();
    await isUsed(backend);
  }
  assert(remoteOf(backend).trips >= 3);
});

redisTest('cut off, with no word to either end, and back', async (t) => {
  const redis = await RedisServer.start(t);
  const answers = await prepared(t, redis);
  const wire = await Wire.to(t, redis.port);
  const backend = await node(t, remoteAt(wire.url, SHORT));
  await load(backend, answers, () => wire.cut());
  await isLeft(backend);
  const { errors } = remoteOf(backend);
  wire.mend();
  await isUsed(backend);
  assert(errors.timeout! > 0);
});

redisTest(
  'slower than computing: nobody waits longer than the deadline, and then nobody waits',
  async (t) => {
    const redis = await RedisServer.start(t);
    const answers = await prepared(t, redis);
    const wire = await Wire.to(t, redis.port);
    const backend = await node(t, remoteAt(wire.url, { deadline: { msMin: 200, msMax: 200 } }));
    await load(backend, answers, () => wire.slow(5000));
    await isLeft(backend);
    wire.slow(0);
    await isUsed(backend);
  },
);

redisTest('where there is none at the start, everything is computed until there is one', async (t) => {
  const redis = await RedisServer.start(t);
  const answers = await prepared(t, redis);
  await redis.kill();
  const backend = await testBackend(t, { remoteTier: remoteAt(redis.url) });
  await load(backend, answers, () => {});
  assert.equal(remoteOf(backend).reads.hit, 0);
  assert.deepEqual(backend.service.ready(), { ready: true });
  await redis.begin();
  await isUsed(backend);
});
