/** How sure a statistic of few samples is. Pure: the draws are the same each time. */

const RESAMPLES = 1000;

/** 5th and 95th percentile of a statistic over samples drawn with replacement. */
export function bootstrap<T>(
  samples: readonly T[],
  statistic: (some: readonly T[]) => number,
): readonly [number, number] {
  let state = 1;
  const draw = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return samples[Math.floor((state / 2 ** 32) * samples.length)]!;
  };
  const values = Array.from({ length: RESAMPLES }, () => statistic(samples.map(draw))).sort((a, b) => a - b);
  return [values[Math.floor(RESAMPLES * 0.05)]!, values[Math.floor(RESAMPLES * 0.95)]!];
}
