/** What the client makes of answers: of a real server, and of servers that refuse, stall and break off. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { suite, test } from 'node:test';
import { RadixkvApiError, RadixkvClient, type RadixkvClientOptions } from '../../src/client/index.js';
import { fuzzedServer } from '../support/fuzzed-server.js';

type Hooks = { after(hook: () => Promise<unknown>): void };

async function clientOf(t: Hooks, listener: RequestListener, options: Partial<RadixkvClientOptions> = {}) {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  assert(typeof address === 'object' && address !== null);
  const baseUrl = `http://127.0.0.1:${address.port}/below`;
  return new RadixkvClient({ baseUrl, ...options });
}

/** Answers with these statuses one after another, the last one from then on. */
function statuses(all: readonly (readonly [status: number, headers?: Record<string, string>])[]) {
  const asked: string[] = [];
  const listener: RequestListener = (req, res) => {
    const [status, headers = {}] = all[Math.min(asked.length, all.length - 1)]!;
    asked.push(`${req.method} ${req.url} ${req.headers.authorization ?? ''}`);
    const error = { message: 'no', type: 'server_error', code: 'queue_full', param: 'model' };
    res.writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'r1', ...headers });
    res.end(JSON.stringify(status === 200 ? { object: 'list', data: [] } : { error }));
  };
  return { asked, listener };
}

const AT_ONCE = { 'retry-after': '0' };

suite('a refused request', () => {
  test('is tried again after 429 and 503, as often as that, below the path of the server, with the key', async (t) => {
    const { asked, listener } = statuses([[429, AT_ONCE], [503, AT_ONCE], [200]]);
    const client = await clientOf(t, listener, { apiKey: 'sk' });
    assert.deepEqual(await client.models.list(), { object: 'list', data: [] });
    assert.deepEqual(asked, Array(3).fill('GET /below/v1/models Bearer sk'));
  });

  test('throws what the server said when all tries are used up', async (t) => {
    const { asked, listener } = statuses([[429, AT_ONCE]]);
    const client = await clientOf(t, listener, { retriesMax: 3 });
    await assert.rejects(client.models.list(), (error) => {
      assert(error instanceof RadixkvApiError);
      const { status, code, param, retryAfterS, requestId, message } = error;
      assert.deepEqual(
        { status, code, param, retryAfterS, requestId, message },
        { status: 429, code: 'queue_full', param: 'model', retryAfterS: 0, requestId: 'r1', message: 'no' },
      );
      return true;
    });
    assert.equal(asked.length, 4);
  });

  test('is not tried again where that can’t help', async (t) => {
    for (const [status, headers] of [
      [503, { ...AT_ONCE, 'x-should-retry': 'false' }],
      [500, AT_ONCE],
      [404, AT_ONCE],
    ] as const) {
      const { asked, listener } = statuses([[status, headers]]);
      await assert.rejects((await clientOf(t, listener)).models.list(), { status });
      assert.equal(asked.length, 1);
    }
  });

  test('waits no longer than the client would have it', async (t) => {
    const { listener } = statuses([[503, { 'retry-after': '3600' }], [200]]);
    await (await clientOf(t, listener, { retryWaitMaxMs: 1 })).models.list();
  });

  test('stops waiting when it is aborted, with the reason of the signal', async (t) => {
    const { listener } = statuses([[503, { 'retry-after': '3600' }]]);
    const client = await clientOf(t, listener, { retryWaitMaxMs: 3_600_000 });
    const aborter = new AbortController();
    const call = client.models.list({ signal: aborter.signal });
    setTimeout(() => aborter.abort(new Error('enough')), 50);
    await assert.rejects(call, /enough/);
  });

  test('is an error of its status where no server of this kind answered', async (t) => {
    const client = await clientOf(t, (_req, res) => res.writeHead(502).end('<html>'));
    await assert.rejects(client.statistics(), {
      status: 502,
      code: undefined,
      message: 'The server answered 502.',
    });
  });
});

test('an answer that does not come is a TimeoutError', async (t) => {
  const client = await clientOf(t, () => {}, { timeoutMs: 50 });
  await assert.rejects(client.live(), { name: 'TimeoutError' });
  await assert.rejects((await clientOf(t, () => {})).live({ timeoutMs: 50 }), { name: 'TimeoutError' });
});

test('that a server is not ready is an answer', async (t) => {
  const body = { status: 'not_ready', reason: 'the engine restarts' };
  const client = await clientOf(t, (_req, res) => res.writeHead(503).end(JSON.stringify(body)));
  assert.deepEqual(await client.ready(), body);
});

/** A frame of the stream. */
function removed(seq: number): string {
  const event = { seq, ts: 0, type: 'BlockRemoved', block_hashes: [], medium: 'CPU', reason: 'expired' };
  return `id: ${seq}\ndata: ${JSON.stringify(event)}\n\n`;
}

suite('events', () => {
  test('go on where the connection broke, also before the first one came, in a frame or between two', async (t) => {
    const asked: (string | null)[] = [];
    const connections = [
      'id: 4\n\n',
      `id: 4\n\n${removed(5)}id: 6\nda`,
      `${removed(6)}: ping\n\n`,
      removed(7),
    ];
    const client = await clientOf(t, (req, res) => {
      asked.push(new URL(req.url!, 'http://localhost').searchParams.get('after'));
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write(connections[asked.length - 1] ?? '', () => res.destroy());
    });
    const causes: unknown[] = [];
    const seen: number[] = [];
    for await (const event of client.events({}, { onDisconnect: (cause) => causes.push(cause) })) {
      if (event.type === 'BlockRemoved') seen.push(event.seq);
      if (seen.length === 3) break;
    }
    assert.deepEqual(seen, [5, 6, 7]);
    assert.deepEqual(asked, [null, '4', '5', '6']);
    assert.equal(causes.length, 3);
  });

  test('end with the reason of the signal, and with what can’t change', async (t) => {
    const open = await clientOf(t, (_req, res) => res.writeHead(200).write(': ping\n\n'));
    const aborter = new AbortController();
    setTimeout(() => aborter.abort(new Error('enough')), 50);
    await assert.rejects(open.events({}, { signal: aborter.signal }).next(), /enough/);
    const { asked, listener } = statuses([[401]]);
    await assert.rejects((await clientOf(t, listener)).events().next(), { status: 401 });
    assert.equal(asked.length, 1);
  });

  test('of a busy server are tried again', async (t) => {
    const { asked, listener } = statuses([[429, AT_ONCE]]);
    const client = await clientOf(t, (req, res) => {
      if (asked.length < 2) listener(req, res);
      else res.writeHead(200).write(removed(1));
    });
    assert.equal((await client.events().next()).value?.type, 'BlockRemoved');
    assert.equal(asked.length, 2);
  });
});

suite('of a real server', () => {
  test('pages are one sequence', async (t) => {
    const { url } = await fuzzedServer(t);
    const client = new RadixkvClient({ baseUrl: url });
    const documents = Array.from({ length: 7 }, (_, i) => ({
      id: `d${i}`,
      text: `The passage of number ${i}.`,
    }));
    const batch = await client.documents.putMany([...documents, { id: 'bad id', text: 'x' }]);
    assert.deepEqual([batch.accepted, batch.failed, batch.errors[0]?.line], [7, 1, 8]);
    const ids: string[] = [];
    for await (const { id } of client.documents.list({ limit: 3 })) ids.push(id);
    assert.deepEqual(
      ids,
      documents.map(({ id }) => id),
    );
    assert.equal((await client.documents.delete('d0')).deleted, true);

    const [model] = (await client.models.list()).data;
    const starts = ['Ada lit the lamp at dusk.', 'Bo rang the bell in fog.', 'Cy brought the flour.'];
    const prompts = starts.map((start) => ({ prompt: start.repeat(3) }));
    const progress: number[] = [];
    const { id } = await client.warming.start({ model: model!.id, prompts });
    const job = await client.warming.wait(id, {
      pollMs: 5,
      onProgress: (each) => progress.push(each.progress.done),
    });
    assert.deepEqual([job.status, progress.at(-1)], ['done', 3]);
    const texts: string[] = [];
    for await (const node of client.tree({ limit: 2 })) texts.push(node.text);
    assert.equal(texts.length, 3);
    const prompt = starts[0]!.repeat(3);
    assert((await client.lookup({ model: model!.id, prompt })).cached_tokens > 0);
    assert.equal((await client.explain({ model: model!.id, prompt })).divergence, null);
    const pin = await client.pins.create({ model: model!.id, prompt, ttl_seconds: 60 });
    assert.deepEqual((await client.pins.list()).data, [pin]);
    await client.pins.delete(pin.id);
    const archive = await new Response(await client.exportArchive({ model: model!.id, prompt })).blob();
    const cleared = await client.clearPrefix({ model: model!.id, prompt });
    assert(cleared.chunks > 0);
    assert.equal((await client.lookup({ model: model!.id, prompt })).cached_tokens, 0);
    assert.equal((await client.importArchive(archive)).imported, cleared.chunks);
    assert((await client.lookup({ model: model!.id, prompt })).cached_tokens > 0);
    await assert.rejects(client.importArchive(archive.slice(0, -1)), {
      status: 400,
      code: 'archive_invalid',
    });
    assert.equal((await client.tenants()).data.length, 1);
    const shared = await client.shared.create({ model: model!.id, prompt });
    assert.deepEqual((await client.shared.list()).data, [shared]);
    assert.equal((await client.shared.delete(shared.id)).deleted, true);
    assert.deepEqual((await client.requests()).data, []);
    await assert.rejects(client.request('none'), { status: 404 });
    assert.deepEqual((await client.top({ by: 'document' })).data, []);
    assert((await client.clear()).chunks > 0);
    assert.equal((await client.windowStatistics({})).window, 'all');
    assert.equal((await client.history({ step: '1m' })).step_seconds, 60);
    assert.equal((await client.ready()).status, 'ready');
    assert.equal((await client.warming.cancel(id)).status, 'done');
  });
});
