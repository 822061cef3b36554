/** What must be equal whatever a model makes of it: the largest differences of logits, on one prompt. */
import { SELECTORS } from '#blend';
import type { BlendSession, Prompt } from '../../src/calibration/blend-session.js';
import { Trial } from '../../src/calibration/trial.js';

export interface Equalities {
  /** All recomputed, and full prefill. */
  readonly all: number;
  /** None recomputed, and the question prefilled behind the same rows as if they were exact. */
  readonly none: number;
  /** Only the first passage reused, the rest computed as scattered rows, and full prefill. */
  readonly firstOnly: number;
}

export async function measureEqualities(session: BlendSession, prompt: Prompt): Promise<Equalities> {
  const trial = await Trial.begin(session, prompt, 1);
  const exact = trial.exact.logits;
  const all = await trial.blend(SELECTORS.all(), 1);
  const none = await trial.reuse();
  const question = session.layoutOf(prompt).newSpans.at(-1)!.start;
  const ordinary = await session.prefill(none.run, prompt.tokens, question);
  const first = await trial.with({ ...prompt, segments: prompt.segments.slice(0, 1) });
  return {
    all: largestDifference(all.logits, exact),
    none: largestDifference(none.logits, ordinary),
    firstOnly: largestDifference((await first.reuse()).logits, exact),
  };
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0);
}
