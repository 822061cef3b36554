/**
 * How fast the radix tree is with one million chunks, and how much memory a chunk costs it.
 *
 * The tree: 200 system prompts of 1,024 tokens, each followed by conversations of 3,072 own tokens, chunks of 64.
 * Measured prompts are 4,096 tokens long. Times are of single calls in one process, medians and 99th percentiles.
 */
import { performance } from 'node:perf_hooks';
import { type ChunkId, chunkId, RadixTree } from '#radix';
import { settledBytes } from './settled.js';

const CHUNK_TOKENS = 64;
const PROMPT_TOKENS = 4096;
const SYSTEM_PROMPTS = 200;
const SYSTEM_TOKENS = 1024;
const CHUNKS = 1_000_000;
const SAMPLES = 2000;

interface Timing {
  readonly medianUs: number;
  readonly p99Us: number;
}

export interface RadixBench {
  readonly chunks: number;
  readonly nodes: number;
  readonly promptTokens: number;
  /** A prompt that is cached whole. */
  readonly matchHit: Timing;
  /** A prompt of which only the system prompt is cached. */
  readonly matchSystemPrompt: Timing;
  /** A new prompt, nothing of it cached. */
  readonly insertNew: Timing;
  /** A new conversation after a cached system prompt. */
  readonly insertAfterSystemPrompt: Timing;
  /** A prompt that leaves a cached conversation in the middle of a chunk, so that its edge splits. */
  readonly insertSplitting: Timing;
  readonly leaseAndRelease: Timing;
  /** Removal of the least recently used chunk. */
  readonly evict: Timing;
  /** Heap and array buffers per chunk: 256 bytes of them are its tokens. */
  readonly bytesPerChunk: number;
  /** The same by the tree's own estimate. */
  readonly estimatedBytesPerChunk: number;
}

/** Runs the benchmark (about ten seconds, 500 MB) and prints a line per measure. */
export async function radixBench(): Promise<RadixBench> {
  const before = settledBytes();
  const tree = new RadixTree({ chunkTokens: CHUNK_TOKENS });
  const ids = idSource();
  let conversations = 0;
  for (; tree.stats().chunks < CHUNKS; conversations++) insert(tree, prompt(conversations), ids);
  const { chunks, nodes, bytes } = tree.stats();
  const bytesPerChunk = (settledBytes() - before) / chunks;

  const known = (sample: number): number => (sample * 7919) % conversations;
  const unknown = (sample: number): number => conversations + sample;
  const matchHit = time(
    (i) => prompt(known(i)),
    (tokens) => tree.match('', tokens),
  );
  const matchSystemPrompt = time(
    (i) => prompt(unknown(i)),
    (tokens) => tree.match('', tokens),
  );
  const leaseAndRelease = time(
    (i) => tree.match('', prompt(known(i))),
    (match) => tree.release(tree.lease(match)),
  );
  const fresh = (tokens: Int32Array) => ({ tokens, ids: idsFor(tree, tokens, ids) });
  const insertOne = (path: ReturnType<typeof fresh>) => tree.insert('', path.tokens, path.ids);
  const insertNew = time((i) => fresh(prompt(unknown(i), -1 - i)), insertOne);
  const insertAfterSystemPrompt = time((i) => fresh(prompt(unknown(i))), insertOne);
  const insertSplitting = time((i) => fresh(diverging(prompt(known(i)), 2000)), insertOne);
  const evict = time(
    () => tree.victim()!,
    (id) => tree.remove(id),
  );

  const result = {
    chunks,
    nodes,
    promptTokens: PROMPT_TOKENS,
    matchHit,
    matchSystemPrompt,
    insertNew,
    insertAfterSystemPrompt,
    insertSplitting,
    leaseAndRelease,
    evict,
    bytesPerChunk: Math.round(bytesPerChunk),
    estimatedBytesPerChunk: Math.round(bytes / chunks),
  };
  for (const [name, value] of Object.entries(result)) {
    const text =
      typeof value === 'number' ? String(value) : `median ${value.medianUs} µs, p99 ${value.p99Us} µs`;
    console.log(`radix ${name.padEnd(24)} ${text}`);
  }
  return result;
}

/** The prompt of a conversation: system prompt, then tokens of its own, both pseudo-random and repeatable. */
function prompt(conversation: number, system = conversation % SYSTEM_PROMPTS): Int32Array {
  const tokens = new Int32Array(PROMPT_TOKENS);
  fill(tokens.subarray(0, SYSTEM_TOKENS), system);
  fill(tokens.subarray(SYSTEM_TOKENS), conversation + 1_000_000);
  return tokens;
}

function fill(tokens: Int32Array, seed: number): void {
  let state = Math.imul(seed + 1, 0x9e3779b1);
  for (let i = 0; i < tokens.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    tokens[i] = state >>> 15;
  }
}

function diverging(tokens: Int32Array, at: number): Int32Array {
  fill(tokens.subarray(at), tokens[at]! + 5_000_000);
  return tokens;
}

function idSource(): () => ChunkId {
  let next = 0;
  return () => chunkId(next++);
}

/** Ids for all chunks of a prompt: those that stand, then new ones. */
function idsFor(tree: RadixTree, tokens: Int32Array, newId: () => ChunkId): ChunkId[] {
  const ids = [...tree.match('', tokens).chunks];
  while (ids.length < tokens.length / CHUNK_TOKENS) ids.push(newId());
  return ids;
}

function insert(tree: RadixTree, tokens: Int32Array, newId: () => ChunkId): void {
  tree.insert('', tokens, idsFor(tree, tokens, newId));
}

function time<T>(prepare: (sample: number) => T, run: (input: T) => unknown): Timing {
  const samples = new Float64Array(SAMPLES);
  for (let i = 0; i < SAMPLES; i++) {
    const input = prepare(i);
    const start = performance.now();
    run(input);
    samples[i] = (performance.now() - start) * 1000;
  }
  samples.sort();
  const at = (share: number): number => Math.round(samples[Math.floor(SAMPLES * share)]! * 10) / 10;
  return { medianUs: at(0.5), p99Us: at(0.99) };
}
