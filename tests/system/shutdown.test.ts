/** How a server ends, as a process of its own: what is finished, what is cut, and with which exit code. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, get, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ServerProcess } from '../../bench/server-process.js';
import { importTiny, TINY } from '../../bench/tiny.js';
import { sseEvents } from '../support/fake-app.js';
import { Collector } from '../tracing/collector.js';

/** An answer of up to the whole context: the tokens that would end it are ruled out. */
const ENDLESS = { model: TINY, prompt: 'x', stream: true, logit_bias: { 256: -100, 257: -100, 258: -100 } };

async function serve(
  t: TestContext,
  flags: Readonly<Record<string, string | number>>,
): Promise<ServerProcess> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-shutdown-'));
  await importTiny(join(directory, 'models'));
  const server = new ServerProcess(TINY, { 'data-dir': directory, threads: 1, ...flags });
  t.after(() => server.kill());
  t.after(() => rm(directory, { recursive: true, force: true }));
  await server.ready();
  return server;
}

/** Begins a streamed answer. @returns it after its first event */
async function begun(server: ServerProcess, fields: object = {}) {
  const response = await fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...ENDLESS, max_tokens: 1500, ...fields }),
  });
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let text = decoder.decode((await reader.read()).value);
  return {
    async rest(): Promise<ReturnType<typeof sseEvents>> {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return sseEvents(text);
        text += decoder.decode(value, { stream: true });
      }
    },
  };
}

/** A client that asks for a large answer and never reads any of it. */
async function deafClient(server: ServerProcess): Promise<Socket> {
  const { port } = new URL(server.url);
  const socket = connect({ port: Number(port), host: '127.0.0.1' });
  socket.pause();
  await once(socket, 'connect');
  const body = JSON.stringify({ ...ENDLESS, n: 8, max_tokens: 1500, logprobs: 5 });
  const head = 'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n';
  socket.on('error', () => {});
  socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`);
  while ((await active(server)) === 0) await new Promise(setImmediate);
  return socket;
}

async function active(server: ServerProcess): Promise<number> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/^radixkv_active_sequences (\d+)$/m.exec(metrics)?.[1]);
}

test('a stream reaches its end, idle connections are closed, new ones refused, traces sent, and the code is 0', async (t) => {
  const collector = await Collector.start(t);
  const server = await serve(t, { 'drain-ms': 600_000, 'otlp-endpoint': new URL(collector.url).origin });
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const idle = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`${server.url}/health/ready`, { agent }, resolve).once('error', reject);
  });
  const idleClosed = once(idle.socket, 'close');
  idle.resume();
  await once(idle, 'end');

  const answer = await begun(server);
  const stopped = server.stop();
  await idleClosed;
  await assert.rejects(fetch(`${server.url}/health/ready`), 'it accepts nothing new');
  const events = await answer.rest();
  assert.equal(events.at(-1), '[DONE]');
  assert.equal(events.flatMap(({ choices }) => choices ?? []).at(-1).finish_reason, 'length');
  assert.equal(await stopped, 0);
  assert.equal(collector.named('POST /v1/completions').attributes['http.response.status_code'], 200);
});

test('what is not done when the time to drain is over ends with an error that says so, and the code is 0', async (t) => {
  const server = await serve(t, { 'drain-ms': 0, 'flush-ms': 600_000 });
  const answer = await begun(server);
  const stopped = server.stop();
  const last = (await answer.rest()).at(-1);
  assert.equal(last.error.code, 'shutting_down');
  assert.equal(await stopped, 0);
});

test('a client that never reads is cut', async (t) => {
  const server = await serve(t, { 'drain-ms': 0, 'flush-ms': 600_000 });
  const socket = await deafClient(server);
  t.after(() => socket.destroy());
  assert.equal(await server.stop(), 0);
});

test('a stop that takes too long is killed', async (t) => {
  // The client is given longer than that to take the end of its answer.
  const server = await serve(t, { 'drain-ms': 0, 'flush-ms': 1 });
  const socket = await deafClient(server);
  t.after(() => socket.destroy());
  assert.equal(await server.stop(), 'SIGKILL');
});

test('a second signal ends it at once', async (t) => {
  const server = await serve(t, { 'drain-ms': 600_000 });
  const socket = await deafClient(server);
  t.after(() => socket.destroy());
  const stopped = server.stop();
  while (await accepts(server)) await new Promise(setImmediate);
  await server.stop();
  assert.equal(await stopped, 'SIGTERM');
});

async function accepts(server: ServerProcess): Promise<boolean> {
  return fetch(`${server.url}/health/live`).then(
    (response) => response.arrayBuffer().then(() => true),
    () => false,
  );
}
