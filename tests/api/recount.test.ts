/**
 * Every request of a mixed load, counted again from what its client was told: `/v1/cache/stats`, its groups, `/metrics`
 * and the history after a restart must say the same, to the token. Only what aborted requests had used, which no client
 * is told, is taken from where the service reports it.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { RedisServer, until } from '../../bench/redis-server.js';
import { createApp } from '../../src/api/app.js';
import { startServer } from '../../src/api/server.js';
import {
  type CompletionRequest,
  type CompletionService,
  TIERS,
  type TierTokens,
  type Usage,
} from '../../src/serving/completion.js';
import { OUTCOMES, type Outcome } from '../../src/serving/counts.js';
import {
  ask,
  type TestBackend,
  TINY_CHUNK_BYTES,
  TINY_TOKEN_BYTES,
  testBackend,
} from '../support/backend.js';
import { redisTest } from '../support/redis-test.js';
import { node, remoteAt, remoteOf, written } from '../support/remote-backend.js';

/** An answer of letters that never ends by itself. */
const ENDLESS = { max_tokens: 1000, logit_bias: { 256: -100, 257: -100, 258: -100 } };
const MAX_ACTIVE = 2;
const MAX_QUEUE = 3;

type Path = 'completions' | 'chat/completions';

interface Entry {
  readonly tenant: string;
  readonly route: string;
  readonly outcome: Outcome;
  readonly usage: Usage | undefined;
  /** Undefined without a first token. */
  readonly ttftMs?: number | undefined;
}

/** What the JSON of an answer says of its tokens. */
interface Told {
  readonly usage: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly prompt_tokens_details: { readonly cached_tokens: number; readonly blended_tokens: number };
  };
  readonly timings: {
    readonly cached_tokens: TierTokens;
    readonly blended_tokens: TierTokens;
    readonly computed_tokens: number;
    readonly ttft_ms: number;
  };
}

function usageOf({ usage, timings }: Told): Usage {
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    cachedTokens: timings.cached_tokens,
    blendedTokens: timings.blended_tokens,
    computedTokens: timings.computed_tokens,
  };
}

const tenantOf = (key: string | undefined): string =>
  key === undefined ? 'anonymous' : createHash('sha256').update(key).digest('hex').slice(0, 16);

/** A server, its clients, and their books. */
class Shop {
  readonly backend: TestBackend;
  readonly entries: Entry[] = [];
  readonly logged: { readonly res: { readonly status: number }; readonly msg: string }[] = [];
  readonly #aborted = new Map<string, Pick<Entry, 'usage' | 'ttftMs'>>();
  #sent = 0;
  #recorded = 0;
  #onRecord = () => {};
  #onSubmit = () => {};
  url = '';
  close = async () => {};

  private constructor(backend: TestBackend) {
    this.backend = backend;
  }

  static async open(backend: TestBackend): Promise<Shop> {
    const shop = new Shop(backend);
    const { statistics, history } = backend;
    const sink = { write: (line: string) => void shop.logged.push(JSON.parse(line)) };
    statistics.events.on('record', () => {
      shop.#recorded++;
      shop.#onRecord();
    });
    const app = createApp({ service: shop.#tapped(), statistics, history, logger: pino({}, sink) });
    const server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
    shop.url = server.url;
    shop.close = () => server.close();
    return shop;
  }

  /** Sends a request and books what it is told. */
  async ask(path: Path, body: object, { key }: { readonly key?: string } = {}): Promise<number> {
    const entry = { tenant: tenantOf(key), route: path.replace('/', '.') };
    const response = await this.#post(path, { temperature: 0, max_tokens: 4, ...body }, { key });
    const text = await response.text();
    const { status } = response;
    if (status !== 200) {
      this.entries.push({ ...entry, outcome: status < 500 ? 'refused' : 'failed', usage: undefined });
      return status;
    }
    const last = text.startsWith('data: ') ? text.split('\n\n').at(-3)!.slice('data: '.length) : text;
    const told: Told = JSON.parse(last);
    const ttftMs = told.timings.ttft_ms;
    this.entries.push({ ...entry, outcome: 'completed', usage: usageOf(told), ttftMs });
    return status;
  }

  stream(path: Path, body: object, rest?: { readonly key?: string }): Promise<number> {
    return this.ask(path, { ...body, stream: true, stream_options: { include_usage: true } }, rest);
  }

  /** Begins an answer without end. @returns what ends it: the client goes away */
  async begin(body: object, isRunning: boolean, key = 'aborter'): Promise<() => Promise<void>> {
    const client = new AbortController();
    const { signal } = client;
    const all = { ...ENDLESS, ...body, stream: true };
    const submitted = this.#queuedOrBegun();
    const answer = this.#post('completions', all, { key, signal });
    const ended = answer.then((response) => response.text()).catch((error: Error) => error.name);
    if (isRunning) await answer;
    else await submitted;
    return async () => {
      const recorded = this.#recorded;
      client.abort();
      assert.equal(await ended, 'AbortError');
      await this.#until(() => this.#recorded > recorded);
    };
  }

  /** Every request that was sent is counted, and those that were aborted are booked. */
  async settled(): Promise<void> {
    await this.#until(() => this.#recorded === this.#sent);
    for (const used of this.#aborted.values()) {
      const tenant = tenantOf('aborter');
      this.entries.push({ tenant, route: 'completions', outcome: 'aborted', ...used });
    }
    this.#aborted.clear();
  }

  // biome-ignore lint/suspicious/noExplicitAny: each test knows the shapes that it asserts
  async get(path: string): Promise<any> {
    const response = await fetch(this.url + path);
    assert.equal(response.status, 200, path);
    return path === '/metrics' ? response.text() : response.json();
  }

  #post(
    path: Path,
    body: object,
    { key, signal }: { readonly key?: string | undefined; readonly signal?: AbortSignal },
  ): Promise<Response> {
    this.#sent++;
    return fetch(`${this.url}/v1/${path}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify({ model: this.backend.service.model.id, ...body }),
      ...(signal && { signal }),
    });
  }

  #queuedOrBegun(): Promise<void> {
    return new Promise((resolve) => {
      this.#onSubmit = resolve;
    });
  }

  /** Resolves at the request after which it is so. */
  #until(isSo: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#onRecord = () => {
        if (isSo()) resolve();
      };
      this.#onRecord();
    });
  }

  /** The service, which tells what aborted requests had used. */
  #tapped(): CompletionService {
    const { service } = this.backend;
    const aborted = this.#aborted;
    const submitted = () => this.#onSubmit();
    async function* complete(request: CompletionRequest) {
      const events = service.complete(request)[Symbol.asyncIterator]();
      // Generators begin with the first event that is asked for.
      let next = events.next();
      submitted();
      for (;;) {
        const { value, done } = await next;
        if (done) return;
        if (value.type === 'end' && request.signal.aborted) {
          const { usage, timings } = value;
          const ttftMs = usage.completionTokens > 0 ? timings.ttftMs : undefined;
          aborted.set(request.id, { usage, ttftMs });
        }
        yield value;
        next = events.next();
      }
    }
    return { model: service.model, ready: () => service.ready(), complete };
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

const having = (entries: readonly Entry[], outcome: Outcome): number =>
  entries.filter((entry) => entry.outcome === outcome).length;

/** How many requests had a first token, and after how long on average, by how much of their prompts was reused. */
function firstTokens(entries: readonly Entry[]) {
  const answered = entries.flatMap(({ usage, ttftMs }) => (usage && ttftMs ? { usage, ttftMs } : []));
  const classes = {
    none: (share: number) => share === 0,
    partial: (share: number) => share > 0 && share < 0.5,
    most: (share: number) => share >= 0.5,
  };
  return Object.fromEntries(
    Object.entries(classes).map(([hit, isOne]) => {
      const times = answered
        .filter(({ usage }) => isOne(1 - usage.computedTokens / usage.promptTokens))
        .map(({ ttftMs }) => Math.round(ttftMs * 1000));
      const mean = times.length === 0 ? null : Math.round(sum(times) / times.length / 1000);
      return [hit, { requests: times.length, mean }];
    }),
  );
}

/** What the API should say of some entries, but for the price of what was reused. */
function expected(entries: readonly Entry[]) {
  const all = entries.flatMap(({ usage }) => usage ?? []);
  const byTier = TIERS.map((tier) => {
    const cached = sum(all.map(({ cachedTokens }) => cachedTokens[tier]));
    const blended = sum(all.map(({ blendedTokens }) => blendedTokens[tier]));
    return [tier, { cached_tokens: cached, blended_tokens: blended }] as const;
  });
  const prompt = sum(all.map(({ promptTokens }) => promptTokens));
  const cached = sum(byTier.map(([, tokens]) => tokens.cached_tokens));
  const blended = sum(byTier.map(([, tokens]) => tokens.blended_tokens));
  const computed = sum(all.map(({ computedTokens }) => computedTokens));
  assert.equal(cached + blended + computed, prompt);
  return {
    requests: Object.fromEntries(OUTCOMES.map((outcome) => [outcome, having(entries, outcome)])),
    prompt_tokens: prompt,
    cached_tokens: cached,
    blended_tokens: blended,
    computed_tokens: computed,
    completion_tokens: sum(all.map(({ completionTokens }) => completionTokens)),
    hit_rate: prompt === 0 ? null : (cached + blended) / prompt,
    exact_hit_rate: prompt === 0 ? null : cached / prompt,
    by_tier: Object.fromEntries(byTier),
    ttft_ms: firstTokens(entries),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: the JSON of an answer
function said(json: any) {
  const names = Object.keys(expected([]));
  const told = Object.fromEntries(names.map((name) => [name, json[name]]));
  const { by_tier: byTier, ttft_ms: ttft, ...rest } = told;
  const times = Object.entries<{ requests: number; mean: number | null }>(ttft);
  const firsts = times.map(([hit, { requests, mean }]) => [hit, { requests, mean }]);
  const tiers = TIERS.map((tier) => {
    const { cached_tokens, blended_tokens } = byTier[tier];
    return [tier, { cached_tokens, blended_tokens }];
  });
  return { ...rest, by_tier: Object.fromEntries(tiers), ttft_ms: Object.fromEntries(firsts) };
}

/** The groups of a window are those of the books, and add up. */
async function assertGroups(shop: Shop, window: string, entries: readonly Entry[], model: string) {
  const keyOf = {
    tenant: ({ tenant }: Entry) => tenant,
    model: () => model,
    route: ({ route }: Entry) => route,
  };
  for (const [groupBy, key] of Object.entries(keyOf)) {
    const json = await shop.get(`/v1/cache/stats?window=${window}&group_by=${groupBy}`);
    assert.deepEqual(said(json), expected(entries));
    const names = new Set(entries.map(key));
    assert.deepEqual(new Set(json.groups.map(({ group }: { group: string }) => group)), names);
    for (const group of json.groups) {
      const own = entries.filter((entry) => key(entry) === group.group);
      assert.deepEqual(said(group), expected(own), `${groupBy} ${group.group}`);
    }
    assert.equal(Number(sumOf(json.groups, 'saved_prefill_seconds').toFixed(6)), json.saved_prefill_seconds);
    assert.equal(sumOf(json.groups, 'unpriced_tokens'), json.unpriced_tokens);
    assert.equal(sumOf(json.groups, 'regret_tokens'), json.regret_tokens);
  }
}

function sumOf(all: readonly Record<string, number>[], name: string): number {
  return sum(all.map((each) => each[name] ?? 0));
}

async function assertMetrics(shop: Shop, entries: readonly Entry[], savedSeconds: number) {
  const lines = (await shop.get('/metrics')).split('\n');
  const { by_tier: tiers, ...all } = expected(entries);
  const times = Object.entries(all.ttft_ms);
  for (const line of [
    ...['completions', 'chat.completions'].flatMap((endpoint) =>
      OUTCOMES.map((outcome) => {
        const own = entries.filter((entry) => entry.route === endpoint && entry.outcome === outcome);
        return `radixkv_requests_total{endpoint="${endpoint}",outcome="${outcome}"} ${own.length}`;
      }),
    ),
    ...TIERS.map((tier) => `radixkv_prompt_tokens_total{source="${tier}"} ${tiers[tier]!.cached_tokens}`),
    ...TIERS.map((tier) => `radixkv_blended_tokens_total{tier="${tier}"} ${tiers[tier]!.blended_tokens}`),
    `radixkv_prompt_tokens_total{source="blended"} ${all.blended_tokens}`,
    `radixkv_prompt_tokens_total{source="computed"} ${all.computed_tokens}`,
    `radixkv_completion_tokens_total ${all.completion_tokens}`,
    `radixkv_saved_prefill_seconds_total ${savedSeconds}`,
    ...times.map(([hit, { requests }]) => `radixkv_ttft_seconds_count{hit="${hit}"} ${requests}`),
    'radixkv_history_faults_total{fault="writes_failed"} 0',
    'radixkv_history_lost_requests_total 0',
  ])
    assert(lines.includes(line), line);
}

const DOCUMENTS = [
  { title: 'The lamp', text: 'The lamp of the tower burns oil, and is lit at dusk by the keeper himself.' },
  { title: 'The boat', text: 'A boat brings flour and letters on the first day of each month, if it can.' },
];
/** What another node has computed. */
const ELSEWHERE = 'These words were read by another node, which told nobody of it. '.repeat(3);
const RULES = 'Answer in one word, and never twice the same one. '.repeat(6);

function chat(...words: readonly string[]) {
  const roles = ['system', 'user', 'assistant'];
  return {
    messages: words.map((content, i) => ({ role: roles[i === 0 ? 0 : 1 + ((i - 1) % 2)], content })),
  };
}

/** Prompts that share beginnings, in memory, on disk and in the remote tier, of several tenants; some blended, some in streams. */
async function serveAll(shop: Shop): Promise<void> {
  const { cache, scheduler } = shop.backend;
  for (const key of [undefined, 'alice', 'bob'] as const) {
    const options = key === undefined ? {} : { key };
    await shop.ask('chat/completions', chat(RULES, 'one?'), options);
    await shop.stream('chat/completions', chat(RULES, 'two?'), options);
  }
  await shop.ask('completions', { prompt: `${ELSEWHERE} Which?` });
  await shop.ask('completions', { prompt: RULES, n: 2 }, { key: 'alice' });
  await shop.ask('completions', { prompt: RULES, cache: { mode: 'off' } }, { key: 'alice' });
  const blend = { documents: DOCUMENTS, cache: { mode: 'blend', recompute_ratio: 0.2 } };
  await shop.ask('chat/completions', { ...chat('', 'Who?'), ...blend }, { key: 'bob' });
  await shop.stream('chat/completions', { ...chat('', 'Where?'), ...blend }, { key: 'bob' });
  await scheduler.idle();
  cache.dropWarm();
  await shop.ask('chat/completions', chat(RULES, 'one?', 'yes', 'and?'), { key: 'bob' });
  // The disk alone has the first prompt by now.
  await scheduler.idle();
  cache.dropWarm();
  await shop.ask('chat/completions', chat(RULES, 'one?', 'yes', 'and?'));
}

/** Those that give way, are aborted while they run or wait, are refused since all places are taken, or come too late. */
async function crowd(shop: Shop): Promise<void> {
  const { scheduler } = shop.backend;
  const long = { prompt: 'a long answer', max_tokens: 60, logit_bias: ENDLESS.logit_bias };
  const running = [await shop.begin({ prompt: 'first' }, true), await shop.begin({ prompt: 'second' }, true)];
  await shop.ask('completions', { prompt: 'urgent', priority: -1 }, { key: 'alice' });
  assert(scheduler.preemptions > 0);
  assert.equal(await shop.ask('completions', { ...long, deadline_ms: 1 }, { key: 'bob' }), 504);
  const waiting: (() => Promise<void>)[] = [];
  for (let i = 0; i < MAX_QUEUE; i++) waiting.push(await shop.begin({ prompt: `${RULES} ${i}` }, false));
  assert.equal(await shop.ask('completions', { prompt: 'one too many' }, { key: 'bob' }), 429);
  for (const abort of [...waiting.slice(1), ...running, waiting[0]!]) await abort();
  await Promise.all([
    shop.ask('completions', { ...long, priority: 1 }, { key: 'alice' }),
    shop.stream('completions', { ...long, priority: 1 }),
    shop.ask('completions', { prompt: RULES, priority: -1 }, { key: 'bob' }),
  ]);
}

async function refuse(shop: Shop): Promise<void> {
  for (const body of [
    { prompt: 'x', temperature: 9 },
    { prompt: 'x', what: 1 },
    { prompt: 'x', model: 'another' },
    { prompt: 'x'.repeat(3000) },
  ])
    assert((await shop.ask('completions', body, { key: 'carol' })) < 500);
  assert.equal(await shop.ask('chat/completions', { messages: [] }), 400);
}

/** As the request log has it. */
function assertLogged({ logged, entries }: Shop): void {
  const outcomes = logged
    .filter(({ res }) => res !== undefined)
    .map(({ res: { status }, msg }): Outcome => {
      if (msg === 'request aborted') return 'aborted';
      return status < 400 ? 'completed' : status < 500 ? 'refused' : 'failed';
    });
  for (const outcome of OUTCOMES) {
    const own = having(entries, outcome);
    assert.equal(outcomes.filter((each) => each === outcome).length, own, outcome);
    assert(own > 0, outcome);
  }
}

async function backendOf(t: TestContext, directory: string, redis: RedisServer): Promise<TestBackend> {
  const backend = await testBackend(t, {
    maxActive: MAX_ACTIVE,
    maxQueue: MAX_QUEUE,
    deviceBytes: 4096 * TINY_TOKEN_BYTES,
    hostBytes: 60 * TINY_CHUNK_BYTES,
    disk: { directory: join(directory, 'disk'), capacityBytes: 2 ** 26, freeBytesMin: 0, codec: 'auto' },
    historyFile: join(directory, 'statistics.sqlite'),
    remoteTier: remoteAt(redis.url, { writePolicy: 'off' }),
  });
  await until(() => remoteOf(backend).state === 'closed', 'it is connected');
  return backend;
}

redisTest('what every client was told adds up to the statistics, and to those after a restart', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'radixkv-recount-'));
  const redis = await RedisServer.start(t);
  const other = await node(t, remoteAt(redis.url));
  await ask(other, { prompt: ELSEWHERE, maxTokens: 1 });
  await written(other);
  await other.close();
  const backend = await backendOf(t, directory, redis);
  const { id: model } = backend.service.model;
  const shop = await Shop.open(backend);
  for (const part of [serveAll, crowd, refuse]) await part(shop);
  await shop.settled();
  const { entries } = shop;
  assertLogged(shop);
  const { device, host, disk, remote } = expected(entries).by_tier;
  for (const tokens of [
    device!.cached_tokens,
    host!.cached_tokens,
    disk!.cached_tokens,
    remote!.cached_tokens,
    host!.blended_tokens,
  ])
    assert(tokens > 0, 'tokens came from everywhere');

  const json = await shop.get('/v1/cache/stats');
  assert.deepEqual(said(json), expected(entries));
  assert(json.saved_prefill_seconds > 0);
  await assertMetrics(shop, entries, json.saved_prefill_seconds);
  await assertGroups(shop, 'all', entries, model);
  await assertGroups(shop, '24h', entries, model);
  await shop.close();
  await backend.close();

  const again = await backendOf(t, directory, redis);
  // Behind those that close what writes there.
  t.after(() => rmSync(directory, { recursive: true }));
  const later = await Shop.open(again);
  assert.deepEqual(said(await later.get('/v1/cache/stats')), expected([]));
  const all = await later.get('/v1/cache/stats?window=all');
  assert.equal(all.saved_prefill_seconds, json.saved_prefill_seconds);
  assert(Date.parse(all.since) < Date.parse((await later.get('/v1/cache/stats')).since));
  await assertGroups(later, 'all', entries, model);
  await later.ask('completions', { prompt: RULES }, { key: 'alice' });
  const both = [...entries, ...later.entries];
  await assertGroups(later, 'all', both, model);
  const wanted = new Map<string, unknown>(Object.entries(expected(both)));
  for (const step of ['10s', '60', '5m', '1h']) {
    const { points } = await later.get(`/v1/cache/stats/history?step=${step}`);
    const names = [
      'prompt_tokens',
      'cached_tokens',
      'blended_tokens',
      'computed_tokens',
      'completion_tokens',
    ];
    for (const name of names) assert.equal(sumOf(points, name), wanted.get(name), `${name} by ${step}`);
    for (const outcome of OUTCOMES) {
      const requests = points.map((point: { requests: Record<Outcome, number> }) => point.requests);
      assert.equal(sumOf(requests, outcome), having(both, outcome), `${outcome} by ${step}`);
    }
  }
  await later.close();
  await again.close();
});
