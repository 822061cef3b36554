/** Log-probabilities, and how far two predictions are apart. Logits are float32, sums float64. Pure. */

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Natural logarithms of the softmax, `[vocab]` float64. */
export function logSoftmax(logits: Float32Array): Float64Array {
  let max = -Infinity;
  for (const logit of logits) max = Math.max(max, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  const shift = max + Math.log(sum);
  return Float64Array.from(logits, (logit) => logit - shift);
}

/** KL divergence in nats of `approximation` from `reference`, both log-probabilities. */
export function divergence(reference: Float64Array, approximation: Float64Array): number {
  let kl = 0;
  for (let i = 0; i < reference.length; i++) {
    kl += Math.exp(reference[i]!) * (reference[i]! - approximation[i]!);
  }
  return kl;
}
