/** The capacity model: its arithmetic is computed again, its results obey what must hold, and a server measures the same. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { z } from 'zod';
import { ServerProcess } from '../../bench/server-process.js';
import { importTiny, TINY } from '../../bench/tiny.js';
import { runPlan } from '../../src/cli/plan.js';
import type { Terminal } from '../../src/cli/terminal.js';
import { parseServeOptions } from '../../src/config/options.js';
import { RadixkvError } from '../../src/errors.js';
import { type PlanInput, type PlanLine, planCapacity } from '../../src/plan/capacity.js';
import { parsePlanOptions } from '../../src/plan/plan-options.js';

/** The default model, and round numbers. */
const INPUT: PlanInput = {
  layers: 30,
  kvHeads: 3,
  headDim: 64,
  kvType: 'float16',
  chunkTokens: 64,
  users: 100,
  conversationsPerUser: 4,
  tokensPerConversation: 4000,
  turns: 10,
  sharedTokens: 500,
  sharedPrefixes: 1,
  turnsPerHour: 36,
  nodes: 3,
  deviceBytes: 2 ** 30,
  hostBytes: 2 ** 31,
  diskBytes: 2 ** 33,
  prefillTokensPerSecond: 400,
  diskReadBytesPerSecond: 888e6,
  remoteBytesPerSecond: 300e6,
  remoteLatencyMs: 1,
  remoteCodec: 'float16',
  redisMemoryBytes: 2 ** 34,
  redisNetworkBytesPerSecond: 1.25e9,
  replicas: 1,
};

const valuesOf = (input: PlanInput): Record<string, number> =>
  Object.fromEntries(planCapacity(input).map(({ id, value }) => [id, value]));

/** What a reader gets who types the arithmetic into a calculator. */
function computed({ formula }: PlanLine): number {
  const code = formula
    .replaceAll(',', '')
    .replaceAll(';', ',')
    .replaceAll('×', '*')
    .replaceAll('−', '-')
    .replaceAll(/\b(min|max|ceil)\(/g, 'Math.$1(');
  assert.match(code, /^[\d.\s+\-*/(),Mathinxcelm]+$/);
  return z.number().parse(runInNewContext(code));
}

const INPUTS: Readonly<Record<string, PlanInput>> = {
  'the default model': INPUT,
  'float32, one node, nothing shared': {
    ...INPUT,
    kvType: 'float32',
    nodes: 1,
    sharedTokens: 0,
    turns: 1,
    replicas: 0,
  },
  'a large model, a slow network': {
    ...INPUT,
    layers: 80,
    kvHeads: 8,
    headDim: 128,
    users: 50_000,
    prefillTokensPerSecond: 8000,
    remoteBytesPerSecond: 1e9,
    remoteLatencyMs: 12.5,
    turnsPerHour: 0.5,
  },
};

for (const [name, input] of Object.entries(INPUTS)) {
  test(`${name}: the arithmetic of each line, computed again, gives its value`, () => {
    const lines = planCapacity(input);
    assert.equal(new Set(lines.map(({ id }) => id)).size, lines.length);
    for (const line of lines) {
      const again = computed(line);
      // Numbers that are not whole are shown with six digits.
      const near = Math.abs(again - line.value) <= 1e-4 * Math.abs(line.value) + 1e-9;
      assert(near, `${line.id}: ${line.formula} = ${again}, not ${line.value}`);
    }
  });
}

test('the default model, by hand', () => {
  const plan = valuesOf(INPUT);
  assert.equal(plan.token_bytes, 23_040);
  assert.equal(Math.round(plan.tokens_per_gb!), 43_403);
  assert.equal(plan.new_tokens, 350);
  assert.equal(plan.prompt_tokens, 500 + (350 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10)) / 10);
  assert.equal(plan.requests, 1);
  assert.equal(plan.kept_tokens, 1_400_500);
  assert.equal(plan.prefill_without, 2425);
  assert.equal(plan.break_even_float16, 9_216_000);
  assert.equal(plan.chunks, 21_883);
  assert.equal(plan.servers, 6);
});

test('what must hold of any plan', () => {
  const [plan, twice, wide] = [
    valuesOf(INPUT),
    valuesOf({ ...INPUT, users: 200, sharedPrefixes: 2 }),
    valuesOf({ ...INPUT, kvType: 'float32' }),
  ];
  for (const id of ['requests', 'kept_tokens', 'prefill_without'])
    assert.equal(twice[id], 2 * plan[id]!, `${id} grows with the users`);
  assert.equal(wide.token_bytes, 2 * plan.token_bytes!);
  assert.equal(wide.token_bytes_float16, plan.token_bytes_float16, 'at rest both are float16');
  assert.equal(wide.token_bytes_float32, wide.token_bytes);
  const even = valuesOf({ ...INPUT, diskReadBytesPerSecond: plan.break_even_float16! });
  assert(Math.abs(even.disk_time! - even.compute_time!) < 1e-9, 'at the break-even both take the same');
  const { remote_tokens_min: least, token_bytes_float16: bytes } = plan;
  const seconds = (tokens: number) => ({
    load: INPUT.remoteLatencyMs / 1000 + (tokens * bytes!) / INPUT.remoteBytesPerSecond,
    compute: tokens / INPUT.prefillTokensPerSecond,
  });
  assert(seconds(least!).load <= seconds(least!).compute);
  assert(seconds(least! - 1).load > seconds(least! - 1).compute);
  const slow = valuesOf({ ...INPUT, remoteBytesPerSecond: 1e6 });
  assert.equal(slow.remote_tokens_min, undefined, 'below the break-even no prefix is long enough');
  assert(plan.masters! * plan.redis_usable_bytes! >= plan.redis_bytes!, 'the data fits');
  assert(plan.kept_share_routed! >= plan.kept_share_round_robin!);
  assert(plan.prefill_with! < plan.prefill_without!);
});

test('bad options are refused by name', () => {
  const cases: [Parameters<typeof parsePlanOptions>[0], RegExp][] = [
    [{ users: '0' }, /^--users must be a whole number from 1, got "0"$/],
    [{ kvHeads: 'x' }, /^--kv-heads must be/],
    [{ redisMemory: '1G' }, /^--redis-memory must be a size/],
    [{ remoteSpeed: '0' }, /^--remote-speed must be more than 0 bytes/],
    [{ remoteCodec: 'zip' }, /^--remote-codec must be one of/],
    [{ sharedTokens: '4000' }, /^--shared-tokens must be below --tokens-per-conversation/],
  ];
  for (const [texts, pattern] of cases) {
    assert.throws(
      () => parsePlanOptions(texts),
      (error) =>
        error instanceof RadixkvError && error.code === 'invalid_value' && pattern.test(error.message),
    );
  }
});

const PRINTED = z.object({
  input: z.object({ prefillTokensPerSecond: z.number(), kvType: z.string(), layers: z.number() }),
  lines: z.array(z.object({ id: z.string(), value: z.number(), formula: z.string() })),
});
const SPEEDS = z.object({ disk: z.object({ prefill_tokens_per_second: z.number().nullable() }) });

test('a server holds as many bytes a token as planned, and the plan takes the speeds that it measured', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-plan-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  await importTiny(join(directory, 'models'));
  const server = await ServerProcess.start(TINY, { 'data-dir': directory, threads: 1, 'disk-free-bytes': 0 });
  t.after(() => server.kill());
  await server.ask({ prompt: Array.from({ length: 1500 }, (_, i) => (i * 7) % 251), maxTokens: 1 });
  const printed: string[] = [];
  const terminal: Terminal = {
    print: (line) => void printed.push(line),
    note: () => undefined,
    progress: () => undefined,
    frame: () => undefined,
    endProgress: () => undefined,
  };
  const options = parseServeOptions({ dataDir: directory, model: TINY });
  await runPlan(options, { json: true, url: server.url }, undefined, terminal);
  const { input, lines } = PRINTED.parse(JSON.parse(printed.join('\n')));
  const plan = Object.fromEntries(lines.map(({ id, value }) => [id, value]));

  const { host, disk } = (await server.stats()).by_tier;
  assert(host.chunks! > 20);
  assert.equal(host.bytes! / (host.chunks! * options.chunkTokens), plan.token_bytes);
  const diskTokenBytes = disk.bytes! / (disk.chunks! * options.chunkTokens);
  t.diagnostic(`a token on disk: ${diskTokenBytes.toFixed(1)} bytes, planned ${plan.token_bytes_float16}`);
  // A file's head and its last block, which weigh more with the small chunks of this model.
  const file = 2 * 4096;
  assert(diskTokenBytes >= plan.token_bytes_float16!);
  assert(diskTokenBytes <= plan.token_bytes_float16! + file / options.chunkTokens);
  const stats = SPEEDS.parse(await (await fetch(new URL('/v1/cache/stats', server.url))).json());
  assert.equal(input.prefillTokensPerSecond, stats.disk.prefill_tokens_per_second);

  printed.length = 0;
  await runPlan(options, {}, undefined, terminal);
  assert.equal(printed.filter((line) => line.startsWith('    = ')).length, lines.length);
  const missing = parseServeOptions({ dataDir: directory, model: 'none' });
  await assert.rejects(runPlan(missing, {}, undefined, terminal), { code: 'model_not_found' });
  await assert.rejects(runPlan(options, { url: 'http://127.0.0.1:9' }, undefined, terminal), /--url/);
});
