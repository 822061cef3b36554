/** `radixkv top` against servers that answer, refuse, or are no radixkv. */
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { type TestContext, test } from 'node:test';
import type { Terminal } from '../../src/cli/terminal.js';
import { runTop } from '../../src/cli/top.js';
import { systemClock } from '../../src/model/clock.js';
import { hitRateOf } from '../../src/serving/counts.js';
import { fakeApp } from '../support/fake-app.js';

const MIB = 1024 ** 2;

async function listen(t: TestContext, handler: RequestListener): Promise<string> {
  const server = createServer(handler);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => server.close());
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  return `http://127.0.0.1:${address.port}`;
}

function recorder() {
  const frames: string[] = [];
  const notes: string[] = [];
  const terminal: Terminal = {
    print: () => assert.fail('only frames'),
    frame: (lines) => void frames.push(lines.join('\n')),
    note: (line) => void notes.push(line),
    progress: () => undefined,
    endProgress: () => undefined,
  };
  return { terminal, frames, notes };
}

const clock = systemClock;

const cells = (line: string | undefined): string[] => line!.split(/ {2,}/);

test('it shows hits and budgets by tier, throughput, requests and the tree', async (t) => {
  const gauges = {
    tiers: {
      device: { bytes: 256 * MIB, capacityBytes: 1024 * MIB, chunks: 3 },
      host: { bytes: 0, capacityBytes: 64 * MIB, chunks: 0 },
    },
    lives: {
      host: {
        ageS: { bounds: [60], counts: [4, 0], sum: 60 },
        uses: { bounds: [4], counts: [4, 0], sum: 0 },
        regretS: { bounds: [1], counts: [0, 0], sum: 0 },
      },
    },
    radixNodes: 5,
    cachedChunks: 7000,
  };
  const { app, statistics } = fakeApp({ gauges, prefillTokensPerS: 40 });
  const url = await listen(t, app);
  for (const body of [
    { model: 'fake/model-1', messages: [{ role: 'user', content: 'one two three four' }] },
    { model: 'fake/model-1', messages: [] },
  ]) {
    const headers = { 'content-type': 'application/json' };
    await fetch(`${url}/v1/chat/completions`, { method: 'POST', headers, body: JSON.stringify(body) });
  }
  const { terminal, frames, notes } = recorder();
  assert.equal(await runTop({ url, key: undefined }, { once: true, clock }, terminal), true);
  const hits = `${((hitRateOf(statistics.counts) ?? Number.NaN) * 100).toFixed(1)} %`;
  const lines = frames[0]!.split('\n');
  assert.equal(lines[0], `radixkv at ${url}, since ${statistics.since.toISOString()}`);
  assert.deepEqual(cells(lines[2]), ['tier', 'hits, 1 min', 'hits, all', 'used', 'budget', 'share']);
  assert.deepEqual(cells(lines[3]).slice(3), ['256 MiB', '1 GiB', '25.0 %']);
  assert.deepEqual(cells(lines[4]).slice(3), ['0 B', '64 MiB', '0.0 %']);
  assert.deepEqual(cells(lines[5]).slice(3), ['–', '–', '–']);
  assert.deepEqual(cells(lines[6]).slice(3), ['–', '–', '–']);
  assert.deepEqual(cells(lines[7]), ['all', hits, hits]);
  assert.deepEqual(cells(lines[9]), ['evicted', 'chunks', 'after, p50', 'p90', 'uses, p50', 'regret']);
  assert.deepEqual(cells(lines[10]), ['device', '–', '–', '–', '–', '–']);
  assert.deepEqual(cells(lines[11]), ['host', '4', '30 s', '54 s', '2', '0']);
  assert.deepEqual(cells(lines[15]), ['TTFT, hit', 'requests', 'p50, 1 min', 'p50, all', 'p95, all']);
  assert.deepEqual(cells(lines[16]), ['none', '1', '18 ms', '18 ms', '24 ms']);
  assert.deepEqual(cells(lines[18]), ['most', '0', '–', '–', '–']);
  assert.match(lines[20]!, /^tokens\/s {2}\d+\.\d prompt, \d+\.\d answer$/);
  assert.match(lines[21]!, /^requests {2}\d+\.\d \/s; 1 completed, 0 aborted, 0 failed, 1 refused$/);
  assert.match(lines[22]!, /^saved {5}\d+ ms of prefill$/);
  assert.equal(lines[23], 'tree      5 nodes, 7,000 chunks');
  assert.deepEqual(notes, []);
});

test('the key is sent, and the address may have a path', async (t) => {
  const asked: (string | undefined)[][] = [];
  const url = await listen(t, (req, res) => {
    asked.push([req.url, req.headers.authorization]);
    res.writeHead(401, { 'content-type': 'application/json' });
    res.end(JSON.stringify({ error: { code: 'unauthorized', message: 'Who are you?' } }));
  });
  const { terminal, frames, notes } = recorder();
  assert.equal(await runTop({ url: `${url}/kv`, key: 'sk-top' }, { once: true, clock }, terminal), false);
  assert.deepEqual(asked, [['/kv/v1/cache/stats', 'Bearer sk-top']]);
  assert.deepEqual(notes, [`radixkv: ${url}/kv can't be read: Who are you?`]);
  assert.deepEqual(frames, []);
});

test('a server that is not there, or answers otherwise, is noted in one line and asked again', async (t) => {
  const url = await listen(t, (_req, res) => res.end('{"hello": true}'));
  const { terminal, notes } = recorder();
  const waits: number[] = [];
  const turns = {
    now: () => 0,
    sleep: async (ms: number) => {
      if (waits.push(ms) === 2) throw new Error('enough');
    },
  };
  await assert.rejects(runTop({ url, key: undefined }, { once: false, clock: turns }, terminal), /enough/);
  assert.deepEqual(waits, [2000, 2000]);
  assert.deepEqual(notes, Array(2).fill(`radixkv: ${url} can't be read: it does not answer like radixkv`));
  const nobody = { url: 'http://127.0.0.1:10', key: '' };
  assert.equal(await runTop(nobody, { once: true, clock }, terminal), false);
  assert.equal(notes[2], "radixkv: http://127.0.0.1:10 can't be read: ECONNREFUSED");
});

test('without statistics over time the rest is shown', async (t) => {
  const { app } = fakeApp();
  const url = await listen(t, (req, res) => {
    if (req.url?.includes('window')) res.writeHead(503).end('{}');
    else app(req, res);
  });
  const { terminal, frames } = recorder();
  assert.equal(await runTop({ url, key: undefined }, { once: true, clock }, terminal), true);
  assert.match(frames[0]!, /^tokens\/s {2}– prompt, – answer$/m);
  assert.match(frames[0]!, /0 completed/);
});

test('what is no address is refused', async () => {
  const { terminal } = recorder();
  for (const url of ['localhost:8080', 'http://', 'ftp://host'])
    await assert.rejects(runTop({ url, key: undefined }, { once: true, clock }, terminal), {
      code: 'invalid_value',
      message: /--url/,
    });
});
