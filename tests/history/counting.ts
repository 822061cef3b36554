/** Counts of made-up requests, and what many of them come to. */
import fc from 'fast-check';
import { addCounts, type Counts, countsOf, noCounts, OUTCOMES } from '../../src/serving/counts.js';

/** One request of `tokens` prompt tokens, some of them from each place. */
export function counted(tokens = 1, outcome: (typeof OUTCOMES)[number] = 'completed'): Counts {
  const usage = {
    promptTokens: 7 * tokens,
    completionTokens: tokens,
    cachedTokens: { device: tokens, host: tokens, disk: tokens, remote: tokens },
    blendedTokens: { device: tokens, host: tokens, disk: tokens, remote: tokens },
    computedTokens: tokens,
  };
  const known = {
    usage,
    ttftMs: tokens * 30,
    regretted: { device: 0, host: tokens, disk: 2 * tokens, remote: 0 },
  };
  return countsOf(outcome, known, tokens % 2 === 0 ? 1000 : undefined);
}

export const arbitraryCounts: fc.Arbitrary<Counts> = fc
  .tuple(fc.nat(9), fc.constantFrom(...OUTCOMES))
  .map(([tokens, outcome]) => counted(tokens, outcome));

export function summed(all: Iterable<Counts>): Counts {
  const sum = noCounts();
  for (const counts of all) addCounts(sum, counts);
  return sum;
}
