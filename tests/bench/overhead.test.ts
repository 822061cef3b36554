import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type TestContext, test } from 'node:test';
import { streamOverhead } from '../../bench/overhead.js';

/** A server that answers every request with this body. */
async function serve(t: TestContext, status: number, body: string): Promise<string> {
  const server = createServer((req, res) => {
    req.resume();
    res.writeHead(status).end(body);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const address = server.address();
  assert(typeof address === 'object' && address);
  return `http://127.0.0.1:${address.port}`;
}

const event = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`;
const text = (content: string): string => event({ choices: [{ delta: { content } }] });

/** A clock that advances by 10 ms at each reading. */
function tickingClock(): () => number {
  let now = 0;
  return () => (now += 10);
}

test('overhead is the wall time between texts less the engine time, per token after the first', async (t) => {
  const url = await serve(
    t,
    200,
    event({ choices: [{ delta: { role: 'assistant' } }] }) +
      text('a') +
      text('b') +
      text('c') +
      event({ choices: [], usage: { completion_tokens: 3 }, timings: { decode_ms: 14 } }) +
      'data: [DONE]\n\n',
  );
  assert.deepEqual(await streamOverhead({ url, model: 'm', tokens: 3, now: tickingClock() }), {
    completionTokens: 3,
    wallMsPerToken: 10,
    engineMsPerToken: 7,
    overheadMsPerToken: 3,
  });
});

test('a refusal is reported with its status and body', async (t) => {
  const url = await serve(t, 429, 'busy');
  await assert.rejects(streamOverhead({ url, model: 'm', tokens: 3 }), /429: busy/);
});

test('a stream without timings can not be measured', async (t) => {
  const url = await serve(t, 200, `${text('a')}${text('b')}data: [DONE]\n\n`);
  await assert.rejects(streamOverhead({ url, model: 'm', tokens: 3 }), /no text, usage or timings/);
});
