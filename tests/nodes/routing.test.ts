/**
 * The proxy's configuration as it ships, with a real HAProxy: conversations keep to their node, a node dies and comes
 * back, no node is overloaded. Real nodes of the tiny model where the cache matters, listening stubs where only the
 * routing does.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { conversations, interleaved, type Message, type Request } from '../../bench/nodes/conversations.js';
import { type Balance, HAPROXY, ProxyProcess } from '../../bench/nodes/proxy-process.js';
import { hitRateOf, type Replayed, replayRequests } from '../../bench/nodes/replay.js';
import { ServerProcess } from '../../bench/server-process.js';
import { importTiny, TINY } from '../../bench/tiny.js';

const skip = HAPROXY === undefined && 'HAProxy is not installed';
const NODES = 3;
const CLIENTS = 4;

async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-nodes-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function startProxy(
  t: TestContext,
  options: { readonly nodes: readonly string[]; readonly balance?: Balance },
): Promise<ProxyProcess> {
  const directory = await temporaryDirectory(t);
  const proxy = await ProxyProcess.start({ balance: 'prefix', directory, ...options });
  t.after(() => proxy.stop());
  return proxy;
}

/** Real nodes, each with a data directory and a port of its own. */
class Nodes {
  readonly #directory: string;
  readonly servers: ServerProcess[] = [];

  constructor(directory: string) {
    this.#directory = directory;
  }

  async start(): Promise<void> {
    const modelsDir = join(this.#directory, 'models');
    await importTiny(modelsDir);
    for (let i = 0; i < NODES; i++) this.servers.push(this.#spawn(i, 0));
    for (const server of this.servers) await server.ready();
  }

  get urls(): string[] {
    return this.servers.map(({ url }) => url);
  }

  /** The node that was killed, on the port it had. */
  async startAgain(node: number): Promise<void> {
    const port = Number(new URL(this.servers[node]!.url).port);
    this.servers[node] = this.#spawn(node, port);
    await this.servers[node].ready();
  }

  #spawn(node: number, port: number): ServerProcess {
    return new ServerProcess(TINY, {
      port,
      'data-dir': join(this.#directory, `node-${node}`),
      'models-dir': join(this.#directory, 'models'),
      threads: 1,
      'chunk-tokens': 16,
      'device-bytes': '4MiB',
      'host-bytes': '16MiB',
      'disk-bytes': 0,
    });
  }
}

async function startNodes(t: TestContext): Promise<Nodes> {
  const nodes = new Nodes(await temporaryDirectory(t));
  t.after(() => Promise.all(nodes.servers.map((server) => server.kill())));
  await nodes.start();
  return nodes;
}

/** Sums of what the nodes themselves say. */
async function hitRateOfNodes(nodes: Nodes): Promise<number> {
  const stats = await Promise.all(nodes.servers.map((server) => server.stats()));
  const sum = (key: 'cached_tokens' | 'prompt_tokens') => stats.reduce((total, one) => total + one[key], 0);
  return sum('cached_tokens') / sum('prompt_tokens');
}

function nodesOf(replayed: readonly Replayed[]): Map<number, Set<string>> {
  const nodes = new Map<number, Set<string>>();
  for (const { request, node } of replayed)
    nodes.set(request.conversation, (nodes.get(request.conversation) ?? new Set()).add(node));
  return nodes;
}

const replayOn = (proxy: ProxyProcess, requests: readonly Request[], clients: number) =>
  replayRequests(requests, { url: proxy.url, model: TINY, clients, maxTokens: 2 });

test('each conversation keeps to a node, and reuses more than under round robin', { skip }, async (t) => {
  const scripts = conversations({ conversations: 12, turns: 6, seed: 1 });
  const requests = interleaved(scripts, { seed: 2 });
  const rates: number[] = [];
  for (const balance of ['prefix', 'round-robin'] as const) {
    const nodes = await startNodes(t);
    const proxy = await startProxy(t, { nodes: nodes.urls, balance });
    const replayed = await replayOn(proxy, requests, 1);
    assert(replayed.every(({ status }) => status === 200));
    const nodesEach = [...nodesOf(replayed).values()];
    if (balance === 'prefix') {
      assert.deepEqual(new Set(nodesEach.map((each) => each.size)), new Set([1]));
      assert.equal(new Set(nodesEach.flatMap((each) => [...each])).size, NODES, 'all nodes are used');
    } else assert(nodesEach.every((each) => each.size > 1));
    const rate = hitRateOf(replayed);
    assert(Math.abs(rate - (await hitRateOfNodes(nodes))) < 1e-9, 'answers and nodes tell the same');
    rates.push(rate);
    await Promise.all(nodes.servers.map((server) => server.kill()));
  }
  t.diagnostic(`hit rate ${rates[0]!.toFixed(3)}, under round robin ${rates[1]!.toFixed(3)}`);
  assert(rates[0]! > 1.2 * rates[1]!);
});

test('a node that dies fails only what it was streaming; others take over, and it gets its share back', {
  skip,
  timeout: 200_000,
}, async (t) => {
  const nodes = await startNodes(t);
  const proxy = await startProxy(t, { nodes: nodes.urls });
  const scripts = conversations({ conversations: 24, turns: 9, seed: 3 });
  const turnsFrom = (from: number, to: number) =>
    interleaved(
      scripts.map((turns) => turns.slice(from, to)),
      { seed: 4 },
    );
  const before = await replayOn(proxy, turnsFrom(0, 3), CLIENTS);
  assert(before.every(({ status }) => status === 200));

  const stream = await openStream(proxy, before[0]!.request.messages);
  const victim = stream.node;
  let killed: Promise<void> | undefined;
  let count = 0;
  const during = await replayRequests(turnsFrom(3, 6), {
    url: proxy.url,
    model: TINY,
    clients: CLIENTS,
    maxTokens: 2,
    onReplayed: () => {
      if (++count === 10) killed = nodes.servers[Number(victim.slice(-1)) - 1]!.kill();
    },
  });
  await killed;
  await assert.rejects(stream.rest(), 'its stream breaks off, and no other node pretends to go on');
  assert.deepEqual(
    during.filter(({ status }) => status !== 200),
    [],
    'what had no answer yet was tried on another node',
  );
  await proxy.settled(NODES - 1);

  await nodes.startAgain(Number(victim.slice(-1)) - 1);
  await proxy.settled(NODES);
  // Its weight grows for a second.
  const ramp = await replayOn(proxy, turnsFrom(6, 7), 1);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const after = await replayOn(proxy, turnsFrom(7, 9), 1);
  assert([...ramp, ...after].every(({ status }) => status === 200));
  const share = after.filter(({ node }) => node === victim).length / after.length;
  t.diagnostic(`${victim} has ${(100 * share).toFixed(0)} % of the requests again`);
  const had = nodesOf(before);
  const its = after.filter(({ request }) => had.get(request.conversation)!.has(victim));
  assert(
    its.filter(({ node }) => node === victim).length > its.length / 2,
    'it has its own conversations again',
  );
});

/** An answer that is being streamed; `rest` reads it to its end. */
async function openStream(proxy: ProxyProcess, messages: readonly Message[]) {
  const response = await fetch(new URL('/v1/chat/completions', proxy.url), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    // The tiny model seldom ends by itself before that.
    body: JSON.stringify({ model: TINY, messages, stream: true, logit_bias: { 257: -100, 258: -100 } }),
  });
  const reader = response.body!.getReader();
  assert.equal((await reader.read()).done, false);
  return {
    node: response.headers.get('x-radixkv-node')!,
    rest: async () => {
      while (!(await reader.read()).done);
    },
  };
}

interface Held {
  readonly req: IncomingMessage;
  readonly body: string;
  readonly forwardedFor: string | undefined;
  release(): void;
}

/** A node that is ready and holds what it is asked until it is let go. */
class Stub {
  readonly held: Held[] = [];
  readonly #server: Server;
  onHeld: () => void = () => undefined;
  url = '';

  constructor() {
    this.#server = createServer((req, res) => void this.#take(req, res));
  }

  async start(t: TestContext): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    t.after(() => this.#server.closeAllConnections());
    t.after(() => this.#server.close());
    const address = this.#server.address();
    assert(address !== null && typeof address === 'object');
    this.url = `http://127.0.0.1:${address.port}`;
  }

  async #take(req: IncomingMessage, res: ServerResponse): Promise<void> {
    if (req.url === '/health/ready') {
      res.end();
      return;
    }
    let body = '';
    for await (const piece of req) body += String(piece);
    const forwardedFor = req.headers['x-forwarded-for']?.toString();
    this.held.push({ req, body, forwardedFor, release: () => void res.end('{}') });
    this.onHeld();
  }
}

async function startStubs(t: TestContext): Promise<Stub[]> {
  const stubs = Array.from({ length: NODES }, () => new Stub());
  for (const stub of stubs) await stub.start(t);
  return stubs;
}

test('a key that all ask for at once loads no node with much more than twice the average', {
  skip,
}, async (t) => {
  const stubs = await startStubs(t);
  const proxy = await startProxy(t, { nodes: stubs.map(({ url }) => url) });
  const requests = 60;
  const few = 12;
  const all = new Promise<void>((resolve) => {
    for (const stub of stubs)
      stub.onHeld = () => {
        if (stubs.reduce((sum, { held }) => sum + held.length, 0) === requests) resolve();
      };
  });
  const answers = Array.from({ length: requests }, () => post(proxy, { prompt_cache_key: 'hot' }));
  await all;
  const loads = stubs.map(({ held }) => held.length);
  t.diagnostic(`requests at a time: ${loads.join(', ')}`);
  assert(Math.max(...loads) <= few + (2 * (requests - few)) / NODES, loads.join());
  assert(Math.max(...loads) > requests / NODES, 'the key has a node that it prefers');
  for (const one of stubs.flatMap(({ held }) => held)) one.release();
  for (const { status } of await Promise.all(answers)) assert.equal(status, 200);
});

test('a request whose node hangs up is tried on another one only where computing it twice is safe', {
  skip,
}, async (t) => {
  const stubs = await startStubs(t);
  const proxy = await startProxy(t, { nodes: stubs.map(({ url }) => url) });
  const attempts: Stub[] = [];
  for (const stub of stubs)
    stub.onHeld = () => {
      attempts.push(stub);
      if (attempts.length === 1) stub.held[0]!.req.socket.destroy();
      else stub.held.at(-1)!.release();
    };
  assert.equal((await post(proxy, chat('s', 'q'))).status, 200);
  assert.equal(new Set(attempts).size, 2);
  await proxy.settled(NODES);
  attempts.length = 0;
  for (const stub of stubs) stub.held.length = 0;
  // On a connection that had a request before, HAProxy closes it, as a server does that tires of waiting.
  const status = await post(proxy, {}, { path: '/v1/cache/warm' }).then(
    (response) => response.status,
    () => 502,
  );
  assert.equal(status, 502);
  assert.equal(attempts.length, 1);
});

test('a client that goes away takes its request from the node', { skip }, async (t) => {
  const stubs = await startStubs(t);
  const proxy = await startProxy(t, { nodes: stubs.map(({ url }) => url) });
  const controller = new AbortController();
  const gone = new Promise<unknown>((resolve) => {
    for (const stub of stubs)
      stub.onHeld = () => {
        stub.held[0]!.req.socket.once('close', resolve);
        controller.abort();
      };
  });
  const response = fetch(new URL('/v1/chat/completions', proxy.url), {
    method: 'POST',
    body: JSON.stringify(chat('s', 'q')),
    signal: controller.signal,
  });
  await assert.rejects(response);
  await gone;
});

const post = (
  proxy: ProxyProcess,
  body: unknown,
  options: { readonly path?: string; readonly headers?: Record<string, string> } = {},
): Promise<Response> =>
  fetch(new URL(options.path ?? '/v1/chat/completions', proxy.url), {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...options.headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

const chat = (...contents: readonly unknown[]) => ({
  messages: contents.map((content, i) => ({ role: ['system', 'user', 'assistant', 'user'][i], content })),
});

test('what belongs together has one route, and what does not has its own', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const stubs = await startStubs(t);
  for (const stub of stubs) stub.onHeld = () => stub.held.at(-1)!.release();
  const proxy = await startProxy(t, { nodes: stubs.map(({ url }) => url) });
  const nodeOf = async (
    ...request: Parameters<typeof post> extends [ProxyProcess, ...infer Rest] ? Rest : never
  ) => {
    const response = await post(proxy, ...request);
    await response.text();
    assert.equal(response.status, 200);
    return response.headers.get('x-radixkv-node');
  };
  /** Sixteen variants of a request each have the node of their twin, and not all the same one. */
  const spreads = async (
    variants: (i: number) => readonly (readonly [unknown, Parameters<typeof post>[2]?])[],
  ): Promise<void> => {
    const seen = new Set<string | null>();
    for (let i = 0; i < 16; i++) {
      const nodes = new Set<string | null>();
      for (const [body, options] of variants(i)) nodes.add(await nodeOf(body, options));
      assert.equal(nodes.size, 1, `variant ${i}`);
      for (const node of nodes) seen.add(node);
    }
    assert.equal(seen.size, NODES);
  };
  const long = 'x'.repeat(200_000);

  await t.test('the key, in a header or in the body, whatever else is asked', () =>
    spreads((i) => [
      [{ ...chat('s', `q${i}`), prompt_cache_key: `key ${i}` }],
      [{ prompt_cache_key: `key ${i}`, messages: [] }],
      [{ ...chat('other'), prompt_cache_key: 'not this' }, { headers: { 'x-prompt-cache-key': `key ${i}` } }],
      [{ text: 'lamp' }, { path: '/v1/documents/lamp', headers: { 'x-prompt-cache-key': `key ${i}` } }],
    ]),
  );
  await t.test('a conversation, by its system prompt and first message', () =>
    spreads((i) => [
      [chat('s', `q${i}`)],
      [chat('s', `q${i}`, 'answer', 'and?')],
      [chat('s', [{ type: 'text', text: `q${i}`, cache_control: { type: 'ephemeral' } }])],
    ]),
  );
  await t.test('a conversation without a system prompt, by its first message', () =>
    spreads((i) => [
      [{ messages: [{ role: 'user', content: `q "${i}" \n é` }] }],
      [
        {
          messages: [
            { role: 'user', content: `q "${i}" \n é` },
            { role: 'assistant', content: 'a' },
          ],
        },
      ],
    ]),
  );
  await t.test("Anthropic's messages, whose system prompt stands beside them", () =>
    spreads((i) => [
      [{ system: `s${i}`, messages: [{ role: 'user', content: 'q' }] }, { path: '/v1/messages' }],
      [
        {
          system: [{ type: 'text', text: `s${i}`, cache_control: { type: 'ephemeral' } }],
          messages: [
            { role: 'user', content: 'q' },
            { role: 'assistant', content: 'a' },
          ],
        },
        { path: '/v1/messages' },
      ],
    ]),
  );
  await t.test('a text prompt, by its beginning', () =>
    spreads((i) => [
      [{ prompt: `${i} ${long.slice(0, 1200)}` }, { path: '/v1/completions' }],
      [{ prompt: `${i} ${long.slice(0, 1200)} and more` }, { path: '/v1/completions' }],
    ]),
  );
  await t.test('a history that is longer than the buffer, by its first messages', () =>
    spreads((i) => [[chat('s', `q${i}`)], [chat('s', `q${i}`, long, 'and?')]]),
  );
  await t.test('a first message that is longer than the buffer, by its beginning', () =>
    spreads((i) => [[chat('s', `q${i}${long}`)], [chat('s', `q${i}${long}`, 'a', 'and?')]]),
  );
  await t.test('what is not JSON, by its beginning', () => spreads((i) => [[`{${i}`], [`{${i}`]]));
  await t.test('everything else, by who asks', () =>
    spreads((i) => [
      [{}, { path: '/v1/cache/pins', headers: { authorization: `Bearer ${i}` } }],
      [{ a: 1 }, { path: '/v1/cache/warm', headers: { authorization: `Bearer ${i}` } }],
    ]),
  );
  await t.test('nodes get the body whole and the address of the client', async () => {
    const sent = JSON.stringify(chat('s', `whole ${long}`));
    await nodeOf(sent);
    const got = stubs.flatMap(({ held }) => held).find(({ body }) => body.includes('whole'))!;
    assert.equal(got.body, sent);
    assert.equal(got.forwardedFor, '127.0.0.1');
  });
  await t.test('a body over the limit of the nodes is refused, but for a batch of documents', async () => {
    const body = JSON.stringify(chat('s', 'x'.repeat(8 * 1024 * 1024)));
    const refused = await post(proxy, body).catch(() => undefined);
    if (refused !== undefined) {
      assert.equal(refused.status, 413);
      assert.match(await refused.text(), /"code":"body_too_large"/);
    }
    assert(!stubs.some(({ held }) => held.some((one) => one.body.length > 8 * 1024 * 1024)));
    assert.equal(typeof (await nodeOf(body, { path: '/v1/documents/batch' })), 'string');
  });
});
