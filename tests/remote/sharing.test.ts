/** Two nodes over one Redis, each the whole service over the tiny model: what one computed, the other finds. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after as afterAll, suite } from 'node:test';
import { RedisServer, until } from '../../bench/redis-server.js';
import { importModel } from '../../src/model/importer.js';
import { DEFAULT_CACHE, tokensOf } from '../../src/serving/completion.js';
import { ask, TINY_CHUNK_BYTES, TINY_MODEL } from '../support/backend.js';
import { redisTest } from '../support/redis-test.js';
import { node, remoteAt, remoteOf, written } from '../support/remote-backend.js';

const CHUNK_TOKENS = 16;
const PROMPT =
  'a prompt that fills several chunks of sixteen tokens each, and then some more for good measure.';
const WHOLE = Math.floor((PROMPT.length - 1) / CHUNK_TOKENS) * CHUNK_TOKENS;
const LOGPROBS = { sampling: { topLogprobs: 0 }, maxTokens: 16 };

const made: string[] = [];
afterAll(() => Promise.all(made.map((path) => rm(path, { recursive: true, force: true }))));

async function otherModel(options: { weights: 'float32' | 'int8'; kvType?: 'float32' }): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-other-'));
  made.push(directory);
  await importModel({ path: TINY_MODEL, directory, ...options });
  return directory;
}

suite('two nodes over one Redis', () => {
  redisTest(
    'what one prefilled the other hits, and answers the same bit for bit; then from its own memory',
    async (t) => {
      const redis = await RedisServer.start(t);
      const first = await node(t, remoteAt(redis.url));
      const cold = await ask(first, { prompt: PROMPT, ...LOGPROBS });
      await written(first);
      assert.equal((await redis.chunks()).length >= WHOLE / CHUNK_TOKENS, true);
      const second = await node(t, remoteAt(redis.url));
      const warm = await ask(second, { prompt: PROMPT, ...LOGPROBS });
      assert.deepEqual(warm.usage.cachedTokens, { device: 0, host: 0, disk: 0, remote: WHOLE });
      assert.equal(WHOLE + warm.usage.computedTokens, PROMPT.length);
      assert.deepEqual([warm.text, warm.logprobs], [cold.text, cold.logprobs]);
      const again = await ask(second, { prompt: PROMPT, maxTokens: 1 });
      assert.equal(again.usage.cachedTokens.remote, 0);
      assert(again.usage.cachedTokens.device >= WHOLE);
      second.cache.dropWarm();
      const fromHost = await ask(second, { prompt: PROMPT, maxTokens: 1 });
      assert(fromHost.usage.cachedTokens.host >= WHOLE);
      assert.equal(second.cache.audit().leases, 0);
      assert.equal(remoteOf(second).reads.hit, WHOLE / CHUNK_TOKENS);
    },
  );

  redisTest(
    'a longer prompt goes on from what is there, and what it adds is there for the others',
    async (t) => {
      const redis = await RedisServer.start(t);
      const first = await node(t, remoteAt(redis.url));
      await ask(first, { prompt: PROMPT });
      await written(first);
      const second = await node(t, remoteAt(redis.url));
      const longer = `${PROMPT} And here it goes on, for some chunks more than before, to its end.`;
      const answer = await ask(second, { prompt: longer, ...LOGPROBS });
      assert.equal(answer.usage.cachedTokens.remote, WHOLE);
      await written(second);
      await ask(first, { prompt: 'another one, so that the run is another', maxTokens: 1 });
      first.cache.dropWarm();
      const back = await ask(first, { prompt: longer, ...LOGPROBS });
      const { host, remote } = back.usage.cachedTokens;
      assert.equal(host, WHOLE);
      assert.equal(host + remote, Math.floor((longer.length - 1) / CHUNK_TOKENS) * CHUNK_TOKENS);
      assert.deepEqual([back.text, back.logprobs], [answer.text, answer.logprobs]);
    },
  );

  redisTest('passages are hit wherever they stand: blended from what the other node computed', async (t) => {
    const redis = await RedisServer.start(t);
    const passage = 'Ada lit the lamp at the harbour every evening, whatever the weather, for forty years.';
    const prompt = (question: string) =>
      ({
        kind: 'chat',
        messages: [{ role: 'user', content: question }],
        documents: [{ id: 'lamp', title: undefined, text: passage }],
      }) as const;
    const cache = { ...DEFAULT_CACHE, mode: 'blend', recomputeRatio: 0.2 } as const;
    const first = await node(t, remoteAt(redis.url));
    await ask(first, { prompt: prompt('Who?'), cache });
    await written(first);
    const second = await node(t, remoteAt(redis.url));
    const there = await ask(second, { prompt: prompt('Where was it?'), cache, ...LOGPROBS });
    assert(there.usage.blendedTokens.remote > 0, JSON.stringify(there.usage));
    const alone = await ask(first, { prompt: prompt('Where was it?'), cache, ...LOGPROBS });
    assert.equal(tokensOf(alone.usage.blendedTokens), tokensOf(there.usage.blendedTokens));
    assert.deepEqual([there.text, there.logprobs], [alone.text, alone.logprobs]);
  });

  redisTest(
    'another tenant finds nothing, another model neither, and both leave what is there',
    async (t) => {
      const redis = await RedisServer.start(t);
      const first = await node(t, remoteAt(redis.url));
      await ask(first, { prompt: PROMPT, namespace: 'a' });
      await written(first);
      const names = (await redis.chunks()).sort();
      const options = { modelDirectory: await otherModel({ weights: 'int8' }) };
      const foreign = await node(t, remoteAt(redis.url, { writePolicy: 'off' }), options);
      assert.equal((await ask(foreign, { prompt: PROMPT, namespace: 'a' })).cached, 0);
      const second = await node(t, remoteAt(redis.url, { writePolicy: 'off' }));
      assert.equal((await ask(second, { prompt: PROMPT, namespace: 'b' })).cached, 0);
      assert.equal((await ask(second, { prompt: PROMPT, namespace: 'a' })).usage.cachedTokens.remote, WHOLE);
      assert.deepEqual((await redis.chunks()).sort(), names);
      assert.equal(remoteOf(foreign).reads.corrupt, 0);
    },
  );

  redisTest('a value of another model under the name of this one is a miss, and goes', async (t) => {
    const redis = await RedisServer.start(t);
    const first = await node(t, remoteAt(redis.url));
    const options = { modelDirectory: await otherModel({ weights: 'int8' }) };
    const foreign = await node(t, remoteAt(redis.url), options);
    await ask(foreign, { prompt: PROMPT, maxTokens: 1 });
    await written(foreign);
    const [theirs] = await redis.chunks();
    await ask(first, { prompt: PROMPT, maxTokens: 1 });
    await written(first);
    const ours = (await redis.chunks()).filter((name) => name.split(':')[2] !== theirs!.split(':')[2]);
    assert(ours.length > 0);
    for (const name of ours) await redis.ask('COPY', theirs!, name, 'REPLACE');
    const second = await node(t, remoteAt(redis.url, { writePolicy: 'off' }));
    assert.equal((await ask(second, { prompt: PROMPT, maxTokens: 1 })).cached, 0);
    assert(remoteOf(second).reads.corrupt! > 0);
    await until(async () => (await redis.ask('EXISTS', ...ours)) < String(ours.length), 'it goes');
  });

  redisTest('with a key values are encrypted, and found with that key only', async (t) => {
    const redis = await RedisServer.start(t);
    const encryptionKey = randomBytes(32);
    const first = await node(t, remoteAt(redis.url, { encryptionKey }));
    const namespace = 'a tenant by name';
    const cold = await ask(first, { prompt: PROMPT, namespace, ...LOGPROBS });
    await written(first);
    for (const name of await redis.chunks()) {
      assert(!name.includes(namespace));
      assert(!(await redis.ask('--no-raw', 'GET', name)).includes(namespace));
    }
    for (const wrong of [{}, { encryptionKey: randomBytes(32) }]) {
      const second = await node(t, remoteAt(redis.url, { ...wrong, writePolicy: 'off' }));
      assert.equal((await ask(second, { prompt: PROMPT, namespace })).cached, 0);
    }
    const right = await node(t, remoteAt(redis.url, { encryptionKey }));
    const warm = await ask(right, { prompt: PROMPT, namespace, ...LOGPROBS });
    assert.equal(warm.usage.cachedTokens.remote, WHOLE);
    assert.deepEqual([warm.text, warm.logprobs], [cold.text, cold.logprobs]);
  });

  redisTest('what a lossy format kept is never read for an exact request', async (t) => {
    const redis = await RedisServer.start(t);
    const options = { modelDirectory: await otherModel({ weights: 'float32', kvType: 'float32' }) };
    const lossy = remoteAt(redis.url, { codec: 'float16' });
    const exact = { cache: { ...DEFAULT_CACHE, mode: 'exact' } } as const;
    const first = await node(t, lossy, options);
    await ask(first, { prompt: PROMPT, ...exact });
    await written(first);
    const second = await node(t, lossy, options);
    assert.equal((await ask(second, { prompt: PROMPT, ...exact, maxTokens: 1 })).cached, 0);
    const third = await node(t, lossy, options);
    const answer = await ask(third, { prompt: PROMPT, maxTokens: 1 });
    assert.equal(answer.cached, 0);
    assert.equal(answer.usage.blendedTokens.remote, WHOLE);
  });
});

suite('writing', () => {
  redisTest('events tell of each chunk that is there now', async (t) => {
    const redis = await RedisServer.start(t);
    const writer = await node(t, remoteAt(redis.url));
    await ask(writer, { prompt: PROMPT, maxTokens: 1 });
    await written(writer);
    const there = await redis.chunks();
    const { events } = writer.controls;
    const aborter = new AbortController();
    const told: unknown[] = [];
    for await (const event of events.read(0, aborter.signal)) {
      if (event.type === 'stored' && event.tier === 'remote') told.push(event.cause, ...event.keys);
      if (event.type !== 'gap' && event.seq === events.last) aborter.abort();
    }
    assert.equal(told.filter((each) => each === 'demoted').length, there.length);
    assert(there.every((name) => told.some((key) => name.endsWith(String(key)))));
  });

  redisTest('write-through-selective writes what was used as often as it says, off nothing', async (t) => {
    const redis = await RedisServer.start(t);
    const selective = await node(t, remoteAt(redis.url, { writePolicy: 'write-through-selective' }));
    await ask(selective, { prompt: PROMPT, maxTokens: 1 });
    await written(selective);
    assert.equal((await redis.chunks()).length, 0);
    for (const _ of [1, 2]) {
      selective.cache.dropWarm();
      await ask(selective, { prompt: PROMPT, maxTokens: 1 });
    }
    await written(selective);
    assert.equal((await redis.chunks()).length, WHOLE / CHUNK_TOKENS);
    await redis.ask('FLUSHALL');
    const reader = await node(t, remoteAt(redis.url, { writePolicy: 'off' }));
    for (const _ of [1, 2, 3]) await ask(reader, { prompt: PROMPT, maxTokens: 1 });
    await written(reader);
    assert.equal((await redis.chunks()).length, 0);
  });

  redisTest('values leave after their TTL, and are written again when they are used then', async (t) => {
    const redis = await RedisServer.start(t);
    const first = await node(t, remoteAt(redis.url, { ttlMs: 1000 }));
    await ask(first, { prompt: PROMPT, maxTokens: 1 });
    await written(first);
    await until(async () => (await redis.chunks()).length === 0, 'they leave');
    await ask(first, { prompt: PROMPT, maxTokens: 1 });
    await written(first);
    assert(remoteOf(first).writes.stored! >= (2 * WHOLE) / CHUNK_TOKENS);
  });

  redisTest(
    'the budget of a namespace holds, passages included, also where two nodes write at once',
    async (t) => {
      const redis = await RedisServer.start(t);
      const valueBytes = TINY_CHUNK_BYTES + 216 + 4 + CHUNK_TOKENS * 4 + 'segment:a'.length;
      const options = { namespaceBytes: 10 * valueBytes };
      const nodes = [
        await node(t, remoteAt(redis.url, options)),
        await node(t, remoteAt(redis.url, options)),
      ];
      const asked = nodes.flatMap((each, n) =>
        Array.from({ length: 4 }, (_, i) => {
          const prompt = `${n} ${i}: ${PROMPT}`;
          return ask(each, { prompt, namespace: 'a', maxTokens: 1 });
        }),
      );
      await Promise.all(asked);
      for (const each of nodes) await written(each);
      const count = (await redis.chunks()).length;
      assert(count > 0 && count <= 10, String(count));
      assert(nodes.some((each) => remoteOf(each).writes.over_budget! > 0));
      // Others have budgets of their own.
      await ask(nodes[0]!, { prompt: PROMPT, namespace: 'b', maxTokens: 1 });
      await written(nodes[0]!);
      assert.equal((await redis.chunks()).length, count + WHOLE / CHUNK_TOKENS);
    },
  );

  redisTest('no more than the queue may hold waits; the rest is dropped and counted', async (t) => {
    const redis = await RedisServer.start(t);
    const first = await node(t, remoteAt(redis.url, { queueBytesMax: 2 * TINY_CHUNK_BYTES }));
    const answer = await ask(first, { prompt: PROMPT.repeat(8), maxTokens: 1 });
    assert.equal(answer.usage.computedTokens, PROMPT.length * 8);
    await written(first);
    assert(remoteOf(first).writes.overflowed! > 0);
  });

  redisTest('what a tenant has cleared is cleared there too', async (t) => {
    const redis = await RedisServer.start(t);
    const first = await node(t, remoteAt(redis.url));
    await ask(first, { prompt: PROMPT, maxTokens: 1 });
    await written(first);
    assert((await redis.chunks()).length > 0);
    first.controls.desk.clear(['']);
    await until(async () => (await redis.chunks()).length === 0, 'they go');
  });
});
