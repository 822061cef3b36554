/**
 * The capacity model: how much KV a load makes, what tiers of given sizes hold of it, what moving it takes, when that
 * beats computing, and how large a Redis Cluster must be. A list of results, each with its arithmetic; pure.
 *
 * The load: `users`, each with `conversationsPerUser` conversations that are kept and go on, of `turns` turns that each add
 * the same number of tokens (question and answer) to a beginning of `sharedTokens` that conversations have in common.
 * What is not in it: overlaps other than that beginning, bursts, and the growth of attention with the length of a prompt.
 */
import { type CodecName, codecsOf, kvLayout } from '#storage';
import { ceil, max, min, minus, over, plus, type Term, times } from './arithmetic.js';

export interface PlanInput {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** What the model computes with. */
  readonly kvType: 'float16' | 'float32';
  readonly chunkTokens: number;
  readonly users: number;
  readonly conversationsPerUser: number;
  readonly tokensPerConversation: number;
  readonly turns: number;
  /** Tokens that all conversations of a kind begin with, and how many kinds there are. */
  readonly sharedTokens: number;
  readonly sharedPrefixes: number;
  /** Turns that a user takes in an hour, at the busiest time. */
  readonly turnsPerHour: number;
  readonly nodes: number;
  /** Of one node. */
  readonly deviceBytes: number;
  readonly hostBytes: number;
  readonly diskBytes: number;
  readonly prefillTokensPerSecond: number;
  readonly diskReadBytesPerSecond: number;
  /** What a node reads from the remote tier at most, and how long it waits for the first byte. */
  readonly remoteBytesPerSecond: number;
  readonly remoteLatencyMs: number;
  /** Codec of the remote tier. */
  readonly remoteCodec: CodecName;
  /** Of one Redis server. */
  readonly redisMemoryBytes: number;
  readonly redisNetworkBytesPerSecond: number;
  readonly replicas: number;
}

export type PlanUnit = 'bytes' | 'bytes/s' | 'tokens' | 'tokens/s' | 'requests/s' | 's' | 'share' | 'count';

export interface PlanLine {
  readonly section: string;
  /** Stable, for machines. */
  readonly id: string;
  readonly label: string;
  readonly unit: PlanUnit;
  readonly value: number;
  /** As `arithmetic.ts` writes it. */
  readonly formula: string;
}

const GB = 1e9;
/** Key, list entry and bookkeeping of Redis for a chunk, and its header. */
const REDIS_OVERHEAD_BYTES = 512;
/** Share of a Redis server's memory that data may take: the rest is fragmentation, buffers, and copies while it saves. */
const REDIS_FILL = 0.7;
/** Share of a link, and of the engine's time, that may be planned with. */
const BUSY_SHARE = 0.7;
/** Fewer can't vote about which of them is down. */
const REDIS_MASTERS_MIN = 3;

/** The capacity model of a load on nodes, as lines in the order in which each follows from those before. */
export function planCapacity(input: PlanInput): PlanLine[] {
  const lines: PlanLine[] = [];
  const line = (section: string, id: string, label: string, unit: PlanUnit, term: Term): number => {
    lines.push({ section, id, label, unit, value: term.value, formula: term.text });
    return term.value;
  };
  const layout = kvLayout({ ...input, dtype: input.kvType });
  const codecs = codecsOf(layout);
  const remoteCodec = codecs.find(({ name }) => name === input.remoteCodec) ?? codecs[0]!;

  const kv = 'KV of a token';
  const elementBytes = input.kvType === 'float16' ? 2 : 4;
  const slotBytes = line(
    kv,
    'token_bytes',
    `in device and host memory (${input.kvType})`,
    'bytes',
    times(2, input.layers, input.kvHeads, input.headDim, elementBytes),
  );
  line(kv, 'tokens_per_gb', 'tokens that 1 GB of memory holds', 'tokens', over(GB, slotBytes));
  const codecBytes = new Map<CodecName, number>();
  for (const codec of codecs) {
    const bytes = over(codec.encodedBytes, input.chunkTokens);
    codecBytes.set(
      codec.name,
      line(kv, `token_bytes_${codec.name}`, `at rest as ${codec.name}`, 'bytes', bytes),
    );
    line(
      kv,
      `tokens_per_gb_${codec.name}`,
      `tokens that 1 GB holds as ${codec.name}`,
      'tokens',
      over(GB, bytes.value),
    );
  }
  const remoteTokenBytes = codecBytes.get(remoteCodec.name)!;

  const load = 'The load';
  const own = minus(input.tokensPerConversation, input.sharedTokens);
  const turnTokens = line(load, 'new_tokens', 'tokens that a turn adds', 'tokens', over(own, input.turns));
  const promptTokens = line(
    load,
    'prompt_tokens',
    'tokens of a prompt, on average over the turns',
    'tokens',
    plus(input.sharedTokens, over(times(own, plus(input.turns, 1)), times(2, input.turns))),
  );
  const requests = line(
    load,
    'requests',
    'requests',
    'requests/s',
    over(times(input.users, input.turnsPerHour), 3600),
  );
  const kept = line(
    load,
    'kept_tokens',
    'tokens to keep, shared beginnings once',
    'tokens',
    plus(
      times(input.sharedPrefixes, input.sharedTokens),
      times(input.users, input.conversationsPerUser, own),
    ),
  );
  const reused = line(
    load,
    'reused_tokens',
    'tokens of a prompt that whole chunks can give',
    'tokens',
    max(0, minus(minus(promptTokens, turnTokens), over(input.chunkTokens, 2))),
  );
  line(load, 'hit_rate', 'hit rate where all is kept', 'share', over(reused, promptTokens));

  const tiers = 'What fits';
  const tierTokens = (id: string, label: string, bytes: number, tokenBytes: number): number =>
    line(tiers, id, label, 'tokens', over(times(input.nodes, bytes), tokenBytes));
  const device = tierTokens('device_tokens', 'device memory of all nodes', input.deviceBytes, slotBytes);
  const host = tierTokens('host_tokens', 'host memory of all nodes', input.hostBytes, slotBytes);
  const disk = tierTokens(
    'disk_tokens',
    'disks of all nodes',
    input.diskBytes,
    codecBytes.get(codecs[0]!.name)!,
  );
  // What is in device or host memory is mostly on disk too.
  const routed = line(
    tiers,
    'kept_share_routed',
    'kept, where requests are routed by prefix',
    'share',
    min(1, over(max(plus(device, host), disk), kept)),
  );
  line(
    tiers,
    'kept_share_round_robin',
    'kept, where every node sees every conversation',
    'share',
    min(1, over(max(plus(device, host), disk), times(input.nodes, kept))),
  );

  const engine = 'Prefill';
  const without = line(
    engine,
    'prefill_without',
    'to compute without reuse',
    'tokens/s',
    times(requests, promptTokens),
  );
  const withReuse = line(
    engine,
    'prefill_with',
    'to compute with what is kept',
    'tokens/s',
    times(requests, minus(promptTokens, times(routed, reused))),
  );
  const usable = times(BUSY_SHARE, input.prefillTokensPerSecond);
  line(
    engine,
    'nodes_without',
    'nodes for prefill without reuse',
    'count',
    max(1, ceil(over(without, usable))),
  );
  line(engine, 'nodes_with', 'nodes for prefill with it', 'count', max(1, ceil(over(withReuse, usable))));

  const moves = 'What moves';
  const diskBytes = codecBytes.get(codecs[0]!.name)!;
  line(moves, 'disk_writes', 'written to the disks of all nodes', 'bytes/s', times(withReuse, diskBytes));
  const remoteWrites = line(
    moves,
    'remote_writes',
    `written to the remote tier (${remoteCodec.name})`,
    'bytes/s',
    times(withReuse, remoteTokenBytes),
  );
  const elsewhere = line(
    moves,
    'elsewhere_share',
    'turns whose node is another one, round robin',
    'share',
    over(minus(input.nodes, 1), input.nodes),
  );
  line(
    moves,
    'remote_reads_routed',
    'read from it, where requests are routed by prefix: what the nodes do not keep',
    'bytes/s',
    times(requests, minus(1, routed), reused, remoteTokenBytes),
  );
  const remoteReads = line(
    moves,
    'remote_reads_round_robin',
    'read from it, round robin',
    'bytes/s',
    times(requests, elsewhere, reused, remoteTokenBytes),
  );

  const even = 'When loading beats computing';
  for (const codec of codecs) {
    line(
      even,
      `break_even_${codec.name}`,
      `bandwidth above which a load of ${codec.name} is faster`,
      'bytes/s',
      times(codecBytes.get(codec.name)!, input.prefillTokensPerSecond),
    );
  }
  line(
    even,
    'compute_time',
    'to compute the reused part of a prompt',
    's',
    over(reused, input.prefillTokensPerSecond),
  );
  line(
    even,
    'disk_time',
    'to read it from disk',
    's',
    over(times(reused, diskBytes), input.diskReadBytesPerSecond),
  );
  line(
    even,
    'remote_time',
    'to read it from the remote tier',
    's',
    plus(
      over(input.remoteLatencyMs, 1000),
      over(times(reused, remoteTokenBytes), input.remoteBytesPerSecond),
    ),
  );
  // Both grow with the tokens; only the wait for the first byte does not.
  const gain = minus(
    over(1, input.prefillTokensPerSecond),
    over(remoteTokenBytes, input.remoteBytesPerSecond),
  );
  if (gain.value > 0) {
    line(
      even,
      'remote_tokens_min',
      'shortest prefix that is worth a load from the remote tier',
      'tokens',
      ceil(over(over(input.remoteLatencyMs, 1000), gain)),
    );
  }

  const cluster = 'Redis Cluster';
  const chunks = line(cluster, 'chunks', 'chunks to keep', 'count', ceil(over(kept, input.chunkTokens)));
  const data = line(
    cluster,
    'redis_bytes',
    'their bytes with what Redis adds',
    'bytes',
    times(chunks, plus(remoteCodec.encodedBytes, REDIS_OVERHEAD_BYTES)),
  );
  const perServer = line(
    cluster,
    'redis_usable_bytes',
    'of which one server may hold',
    'bytes',
    times(REDIS_FILL, input.redisMemoryBytes),
  );
  const byMemory = line(
    cluster,
    'masters_by_memory',
    'masters for the memory',
    'count',
    ceil(over(data, perServer)),
  );
  const byNetwork = line(
    cluster,
    'masters_by_network',
    'masters for the network, round robin',
    'count',
    ceil(over(plus(remoteWrites, remoteReads), times(BUSY_SHARE, input.redisNetworkBytesPerSecond))),
  );
  const masters = line(cluster, 'masters', 'masters', 'count', max(REDIS_MASTERS_MIN, byMemory, byNetwork));
  line(
    cluster,
    'servers',
    `servers with ${input.replicas === 1 ? 'one replica' : `${input.replicas} replicas`} each`,
    'count',
    times(masters, plus(1, input.replicas)),
  );
  line(
    cluster,
    'master_network',
    'through each master, round robin',
    'bytes/s',
    over(plus(remoteWrites, remoteReads), masters),
  );
  return lines;
}
