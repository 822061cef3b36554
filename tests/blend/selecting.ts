/** Runs a selection to its end with measurements at hand. */
import { type Measurement, type ReusedTokens, reusedTokens, type SegmentLayout, type Selector } from '#blend';

/** Nothing may be measured. */
export const blind = (measurement: Measurement): ArrayLike<number> => {
  throw new Error(`asked for ${measurement.kind}`);
};

export function choose(
  selector: Selector,
  from: ReusedTokens | SegmentLayout,
  ratio: number,
  measure: (measurement: Measurement) => ArrayLike<number> = blind,
): Int32Array {
  const selection = selector('positions' in from ? from : reusedTokens(from), ratio);
  let step = selection.next();
  while (!step.done) step = selection.next(measure(step.value));
  return step.value;
}
