/**
 * The cases of `prefill`, `decode` and `ttft`, with the targets of the project.
 *
 * Prompts are pseudo-random token ids, new in every round, so that no cache helps where none should. What an id is
 * does not change the work.
 */
import type { BenchCase } from './harness.js';
import type { CacheState } from './subject.js';

/** Ids from here to `LAST_TOKEN` are plain text in the default model. */
const FIRST_TOKEN = 100;
const LAST_TOKEN = 30_000;

/** `count` token ids, the same for the same seed. */
export function promptTokens(count: number, seed: number): number[] {
  let state = (seed + 1) * 0x9e3779b9;
  return Array.from({ length: count }, () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5;
    const mixed = Math.imul(state ^ (state >>> 13), 0x297a2d39) >>> 0;
    return FIRST_TOKEN + (mixed % (LAST_TOKEN - FIRST_TOKEN));
  });
}

const everywhere = (): boolean => true;

function prefill(tokens: number, atLeast: number): BenchCase {
  return {
    name: `prefill ${tokens}`,
    ratio: 'speed',
    tokens,
    target: { atLeast },
    applies: everywhere,
    measure: async (subject, round) => [await subject.prefill(promptTokens(tokens, round))],
  };
}

/** Cold prompts of 512 and 2,048 tokens. */
export const prefillCases = (): BenchCase[] => [prefill(512, 2.2), prefill(2048, 2)];

function decode(context: number, steps: number): BenchCase {
  return {
    name: `decode at ${context}`,
    ratio: 'speed',
    tokens: 1,
    target: { atLeast: 1 },
    applies: everywhere,
    measure: (subject, round) => subject.decode(promptTokens(context, round), steps),
  };
}

/** One sequence after 16 and 2,048 tokens of context; the time is that of one token. */
export const decodeCases = (steps: number): BenchCase[] => [decode(16, steps), decode(2048, steps)];

function ttft(from: CacheState, rest: Pick<BenchCase, 'target' | 'shareOf'>): BenchCase {
  return {
    name: `TTFT ${from}`,
    ratio: 'time',
    applies: (subject) => subject.supports(from),
    measure: async (subject, round) => {
      const prefixSeed = from === 'cold' ? 100 + round : 99;
      return [await subject.ttft(promptTokens(2048, prefixSeed), promptTokens(32, 200 + round), from)];
    },
    ...rest,
  };
}

/** Against the peer, and against our own cold time. */
const FROM_DISK = { target: { atMost: 0.5 }, shareOf: { name: 'TTFT cold', atMost: 0.12 } };

/** 32 new tokens after 2,048: nothing cached, and with the prefix in each tier. */
export const ttftCases = (): BenchCase[] => [
  ttft('cold', {}),
  ttft('device', { target: { atMost: 0.6 }, shareOf: { name: 'TTFT cold', atMost: 0.06 } }),
  ttft('host', { shareOf: { name: 'TTFT cold', atMost: 0.08 } }),
  ttft('disk', FROM_DISK),
  ttft('disk, page cache dropped', FROM_DISK),
];
