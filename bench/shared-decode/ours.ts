/** Our engine with a prefix in common, message to its thread and back and sampling included, in three ways. */
import type { KvLayout } from '#storage';
import type { Engine } from '../../src/engine/engine.js';
import type { RunId } from '../../src/engine/protocol.js';
import { BATCH_SLOTS } from '../../src/model/graphs/decode-batch.js';
import { GREEDY } from '../../src/serving/completion.js';
import type { Shape } from './shape.js';

export const OUR_WAYS = ['one by one', 'together, nothing shared', 'together, shared'] as const;
export type OurWay = (typeof OUR_WAYS)[number];

const TILE_TOKENS = 512;
const VOCAB = 49_152;

const token = (i: number) => 100 + ((i * 7919) % 20_000);

interface Sequence {
  /** With all rows, and with those that are not shared. */
  readonly whole: RunId;
  readonly standing: RunId;
}

/** The sequences of a shape, prefilled, in runs of their own and in runs that stand on one. */
export class OurSequences {
  readonly #engine: Engine;
  readonly #shape: Shape;
  readonly #sequences: readonly Sequence[];
  readonly #tokens: number[];
  #position: number;

  private constructor(engine: Engine, shape: Shape, sequences: readonly Sequence[]) {
    this.#engine = engine;
    this.#shape = shape;
    this.#sequences = sequences;
    this.#tokens = sequences.map((_, i) => 1000 + i);
    this.#position = shape.shared + shape.own;
  }

  static async create(engine: Engine, shape: Shape, steps: number): Promise<OurSequences> {
    const { sequences, shared, own } = shape;
    const capacityTokens = shared + own + steps;
    const prefill = async (run: RunId, start: number, tokens: Int32Array) => {
      for (let at = 0; at < tokens.length; at += TILE_TOKENS) {
        const tile = tokens.slice(at, at + TILE_TOKENS);
        await engine.call({ op: 'prefill', run, start: start + at, tokens: tile, samplers: [] });
      }
    };
    const made: Sequence[] = [];
    for (let i = 0; i < sequences; i++) {
      const [whole, standing] = [2 * i, 2 * i + 1];
      await engine.call({ op: 'createRun', run: whole, capacityTokens });
      if (i === 0)
        await prefill(
          whole,
          0,
          Int32Array.from({ length: shared }, (_, at) => token(at)),
        );
      else await engine.call({ op: 'copyRun', from: 0, to: whole, tokens: shared });
      await prefill(
        whole,
        shared,
        Int32Array.from({ length: own }, (_, at) => token(at + 31 * i)),
      );
      await engine.call({ op: 'createRun', run: standing, capacityTokens, base: { run: 0, rows: shared } });
      await engine.call({ op: 'copyRun', from: whole, to: standing, tokens: shared + own });
      await engine.call({ op: 'createSampler', sampler: i, params: GREEDY, vocab: VOCAB });
      made.push({ whole, standing });
    }
    return new OurSequences(engine, shape, made);
  }

  /** Milliseconds of a step of all sequences. Each way goes over the same position again. */
  async step(way: OurWay): Promise<number> {
    const isShared = way === 'together, shared';
    const rows = this.#sequences.map(({ whole, standing }, i) => {
      const run = isShared && i > 0 ? standing : whole;
      return { run, position: this.#position, token: this.#tokens[i]!, sampler: i };
    });
    const size = way === 'one by one' ? 1 : BATCH_SLOTS;
    const sharedRows = isShared ? this.#shape.shared : 0;
    const begun = performance.now();
    for (let start = 0; start < rows.length; start += size) {
      const batch = rows.slice(start, start + size);
      const { result } = await this.#engine.call<'decode'>({
        op: 'decode',
        rows: batch,
        sharedRows: batch.length > 1 ? sharedRows : 0,
      });
      for (const [i, drawn] of result.sampled.entries()) {
        if ('error' in drawn) throw new Error(drawn.error);
        this.#tokens[start + i] = drawn.token;
      }
    }
    return performance.now() - begun;
  }

  next(): void {
    this.#position++;
  }

  async free(): Promise<void> {
    for (const [i, { whole, standing }] of this.#sequences.entries()) {
      await this.#engine.call({ op: 'freeRun', run: whole });
      await this.#engine.call({ op: 'freeRun', run: standing });
      await this.#engine.call({ op: 'freeSampler', sampler: i });
    }
  }
}

/** KV of the sequences at their end in bytes, with the common rows once and with a copy for each. */
export function kvBytes({ tokenBytes }: KvLayout, { sequences, shared, own }: Shape) {
  const copied = sequences * (shared + own) * tokenBytes;
  return { shared: copied - (sequences - 1) * shared * tokenBytes, copied };
}
