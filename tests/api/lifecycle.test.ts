import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { suite, test } from 'node:test';
import { startServer } from '../../src/api/server.js';
import { type CompletionEvent, type CompletionRequest, NO_TOKENS } from '../../src/serving/completion.js';
import { fakeApp, sseEvents } from '../support/fake-app.js';

const CHAT = { model: 'fake/model-1', messages: [{ role: 'user', content: 'Hello there' }] };
const USAGE = {
  promptTokens: 2,
  completionTokens: 1,
  cachedTokens: { device: 0, host: 0, disk: 0, remote: 0 },
  blendedTokens: NO_TOKENS,
  computedTokens: 2,
};
const TIMINGS = { queueMs: 1, loadMs: 0, prefillMs: 20, blend: undefined, decodeMs: 100, ttftMs: 21 };

/** A model that says one word and waits for `gate`, or for the abort, before it ends. */
function gated() {
  const { promise: gate, resolve: open } = promiseWithResolvers();
  const started = promiseWithResolvers();
  const ended = promiseWithResolvers();
  async function* reply({ signal }: CompletionRequest): AsyncGenerator<CompletionEvent> {
    try {
      yield { type: 'prompt', usage: USAGE };
      yield { type: 'delta', index: 0, text: 'Hello' };
      started.resolve();
      await Promise.race([gate, once(signal, 'abort')]);
      if (!signal.aborted) yield { type: 'finish', index: 0, reason: 'stop' };
      yield { type: 'end', usage: USAGE, timings: TIMINGS };
    } finally {
      ended.resolve();
    }
  }
  return { reply, open, started: started.promise, ended: ended.promise };
}

function promiseWithResolvers() {
  let resolve!: () => void;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

function post(url: string, body: object, signal?: AbortSignal) {
  return fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}

async function serve(parts: ReturnType<typeof fakeApp>, shutdownTimeoutMs = 60_000) {
  return await startServer({
    app: parts.app,
    host: '127.0.0.1',
    port: 0,
    shutdownTimeoutMs,
    onShutdown: () => {
      parts.service.unreadyReason = 'the server is stopping';
    },
  });
}

suite('a client that goes away', () => {
  for (const stream of [false, true]) {
    test(`aborts its ${stream ? 'streamed' : 'unstreamed'} request, which is counted once, with its tokens`, async () => {
      const model = gated();
      const parts = fakeApp({ reply: model.reply });
      const server = await serve(parts);
      const client = new AbortController();
      const recorded = once(parts.statistics.events, 'record');
      const answer = post(server.url, { ...CHAT, stream }, client.signal).then((response) => response.text());
      await model.started;
      client.abort();
      await assert.rejects(answer, { name: 'AbortError' });
      await model.ended;
      await recorded;
      assert.equal(parts.service.activeRequests, 0);
      assert.equal(parts.statistics.counts.aborted, 1);
      assert.equal(parts.statistics.counts.completed, 0);
      assert.equal(parts.statistics.tokens.prompt, 2);
      await server.close();
    });
  }

  test('in the middle of its upload costs nothing and breaks nothing', async () => {
    const parts = fakeApp();
    const server = await serve(parts);
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    const recorded = once(parts.statistics.events, 'record');
    socket.write('POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n');
    socket.write('content-length: 100\r\n\r\n{"model"');
    await once(socket, 'ready');
    socket.end();
    await recorded;
    assert.equal(parts.service.requests.length, 0);
    assert.equal((await post(server.url, CHAT)).status, 200);
    await server.close();
  });

  test('while it reads slowly is noticed, though the writer waits for room', async () => {
    const big = 'x'.repeat(1024 * 1024);
    let sent = 0;
    async function* reply({ signal }: CompletionRequest): AsyncGenerator<CompletionEvent> {
      yield { type: 'prompt', usage: USAGE };
      while (!signal.aborted) {
        sent++;
        yield { type: 'delta', index: 0, text: big };
      }
    }
    const parts = fakeApp({ reply });
    const server = await serve(parts);
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    const body = JSON.stringify({ ...CHAT, stream: true });
    const head = 'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n';
    socket.pause();
    socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`);
    const recorded = once(parts.statistics.events, 'record');
    socket.once('readable', () => socket.destroy());
    await recorded;
    assert.ok(sent < 50, `${sent} MiB were written to a client that read nothing`);
    assert.equal(parts.service.activeRequests, 0);
    assert.equal(parts.statistics.counts.aborted, 1);
    await server.close();
  });
});

suite('shutdown', () => {
  test('lets a stream reach its [DONE], and accepts nothing new', async () => {
    const model = gated();
    const parts = fakeApp({ reply: model.reply });
    const server = await serve(parts);
    const response = await post(server.url, { ...CHAT, stream: true });
    await model.started;
    const closed = server.close();
    assert.equal(parts.service.ready().ready, false);
    await assert.rejects(post(server.url, CHAT));
    model.open();
    assert.equal(sseEvents(await response.text()).at(-1), '[DONE]');
    await closed;
    assert.equal(server.close(), closed);
  });

  test('cuts what still runs at the timeout, and aborts it', async () => {
    const model = gated();
    const parts = fakeApp({ reply: model.reply });
    const server = await serve(parts, 10);
    const response = await post(server.url, { ...CHAT, stream: true });
    await model.started;
    await Promise.all([server.close(), assert.rejects(response.text()), model.ended]);
    assert.equal(parts.service.activeRequests, 0);
  });
});

test('a port that is taken is an error of the start', async () => {
  const parts = fakeApp();
  const server = await serve(parts);
  const port = Number(new URL(server.url).port);
  const again = startServer({ app: parts.app, host: '127.0.0.1', port, shutdownTimeoutMs: 0 });
  await assert.rejects(again, { code: 'EADDRINUSE' });
  await server.close();
});
