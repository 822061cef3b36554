/**
 * Draws the next token from a model's logits. Pure but for its own state: counts of generated tokens and the random
 * numbers. One sampler a sequence.
 *
 * Order: logit bias, presence and frequency penalties, then greedy (temperature 0) or temperature, top-k, top-p,
 * min-p, draw. Top-p is the smallest set of most likely tokens, of those that top-k left, whose share is at least
 * `topP`; equals at the edge are taken by lower id. Every filter keeps at least one token. The caller's logits are
 * never modified. Without log probabilities a greedy token costs one pass, a drawn one O(vocab) without sorting.
 */
import { RadixkvError } from '../errors.js';
import type { SamplingParams } from '../serving/completion.js';
import { exponential } from './exponential.js';
import { type Random, seededRandom } from './random.js';
import { selectLargest, selectThreshold } from './selection.js';

export interface ScoredToken {
  readonly token: number;
  readonly logprob: number;
}

export interface SampledToken {
  readonly token: number;
  /**
   * Natural logarithm of the token's probability in the model's own distribution: softmax of the logits as they came,
   * before bias, penalties and temperature. `undefined` unless asked for.
   */
  readonly logprob: number | undefined;
  /** The `topLogprobs` most likely tokens of the same distribution, best first, equals by lower id. */
  readonly top: readonly ScoredToken[];
}

export interface Sampler {
  /**
   * Draws a token and counts it as generated.
   *
   * @param logits at least `vocab` values; further ones (padding) are ignored, and so are biases for tokens there.
   * @throws RadixkvError `engine_failed` for NaN or infinite logits, or when all are −∞.
   */
  sample(logits: Float32Array): SampledToken;
}

/**
 * @param vocab tokens that may be drawn are `[0, vocab)`.
 * @param random source of randomness when `params.seed` is undefined; uniform in [0, 1).
 * @param drawn tokens that one like it has drawn already: it goes on from there
 */
export function createSampler(
  params: SamplingParams,
  vocab: number,
  random: Random,
  drawn: Int32Array = new Int32Array(),
): Sampler {
  const numbers = params.seed === undefined ? random : seededRandom(params.seed);
  return new LogitSampler(params, vocab, numbers, drawn);
}

class LogitSampler implements Sampler {
  readonly #params: SamplingParams;
  readonly #vocab: number;
  readonly #random: Random;
  /** How often each token was generated. */
  readonly #generated = new Map<number, number>();
  readonly #adjusted: Float32Array;
  /** Candidates of a draw and their weights, `[0, count)` of each in ascending order of token. */
  readonly #tokens: Int32Array;
  readonly #weights: Float64Array;
  readonly #scratch: Float64Array;

  constructor(params: SamplingParams, vocab: number, random: Random, drawn: Int32Array) {
    this.#params = params;
    this.#vocab = vocab;
    this.#random = random;
    const draws = params.temperature > 0;
    const filters = draws && (params.topK > 0 || params.topP < 1);
    const penalises = params.presencePenalty !== 0 || params.frequencyPenalty !== 0;
    this.#adjusted = new Float32Array(penalises || params.logitBias.size > 0 ? vocab : 0);
    this.#tokens = new Int32Array(draws ? vocab : 0);
    this.#weights = new Float64Array(draws ? vocab : 0);
    this.#scratch = new Float64Array(filters ? vocab : 0);
    for (const token of drawn) {
      this.#note(token);
      if (draws) random();
    }
  }

  #note(token: number): void {
    this.#generated.set(token, (this.#generated.get(token) ?? 0) + 1);
  }

  sample(logits: Float32Array): SampledToken {
    const own = logits.subarray(0, this.#vocab);
    const likeliest = findLikeliest(own);
    const { topLogprobs, temperature } = this.#params;
    const adjusted = this.#adjust(own);
    const best = adjusted === own ? likeliest : findLikeliest(adjusted);
    const token = temperature > 0 ? this.#draw(adjusted, adjusted[best]!) : best;
    this.#note(token);
    if (topLogprobs === undefined) return { token, logprob: undefined, top: [] };
    const logTotal = own[likeliest]! + Math.log(sumOfExponentials(own, own[likeliest]!));
    const top = findTop(own, topLogprobs).map((one) => ({ token: one, logprob: own[one]! - logTotal }));
    return { token, logprob: own[token]! - logTotal, top };
  }

  /** The logits after bias and penalties; the same array when there are none. */
  #adjust(logits: Float32Array): Float32Array {
    if (this.#adjusted.length === 0) return logits;
    const { logitBias, presencePenalty, frequencyPenalty } = this.#params;
    this.#adjusted.set(logits);
    for (const [token, bias] of logitBias) {
      if (token < this.#vocab) this.#adjusted[token]! += bias;
    }
    for (const [token, count] of this.#generated) {
      this.#adjusted[token]! -= presencePenalty + frequencyPenalty * count;
    }
    return this.#adjusted;
  }

  #draw(logits: Float32Array, highest: number): number {
    const { temperature, topK, topP, minP } = this.#params;
    const tokens = this.#tokens;
    const weights = this.#weights;
    let count = this.#keepTopK(logits, topK);
    let total = 0;
    for (let i = 0; i < count; i++) {
      const weight = exponential((logits[tokens[i]!]! - highest) / temperature);
      weights[i] = weight;
      total += weight;
    }
    if (topP < 1) count = this.#keepTopP(count, total, topP * total);
    // The likeliest token has weight 1.
    if (minP > 0) count = this.#keepFrom(count, minP);
    if (topP < 1 || minP > 0) {
      total = 0;
      for (let i = 0; i < count; i++) total += weights[i]!;
    }
    let rest = this.#random() * total;
    let drawn = 0;
    for (let i = 0; i < count && rest >= 0; i++) {
      if (weights[i] === 0) continue;
      drawn = tokens[i]!;
      rest -= weights[i]!;
    }
    return drawn;
  }

  /** Fills the candidates with the `topK` tokens of highest logit, or with all; returns their number. */
  #keepTopK(logits: Float32Array, topK: number): number {
    const all = topK === 0 || topK >= this.#vocab;
    if (all) {
      for (let token = 0; token < this.#vocab; token++) this.#tokens[token] = token;
      return this.#vocab;
    }
    const threshold = selectLargest(logits, topK, this.#scratch);
    let equals = topK;
    for (let token = 0; token < this.#vocab; token++) if (logits[token]! > threshold) equals--;
    let count = 0;
    for (let token = 0; token < this.#vocab; token++) {
      const logit = logits[token]!;
      if (logit > threshold || (logit === threshold && equals-- > 0)) this.#tokens[count++] = token;
    }
    return count;
  }

  /** Keeps the heaviest candidates that together weigh at least `mass` of `total`. */
  #keepTopP(count: number, total: number, mass: number): number {
    const weights = this.#weights;
    // Candidates lighter than this can't be needed: all of them together weigh less than what may be left out.
    const heavy = this.#keepFrom(count, (total - mass) / count);
    this.#scratch.set(weights.subarray(0, heavy));
    const threshold = selectThreshold(this.#scratch, heavy, mass, true);
    let rest = mass;
    for (let i = 0; i < heavy; i++) if (weights[i]! > threshold) rest -= weights[i]!;
    let kept = 0;
    for (let i = 0; i < heavy; i++) {
      const weight = weights[i]!;
      // Of those at the threshold as many as the mass needs; the first of all candidates in any case.
      if (weight < threshold || (weight === threshold && rest <= 0 && kept > 0)) continue;
      if (weight === threshold) rest -= weight;
      weights[kept] = weight;
      this.#tokens[kept++] = this.#tokens[i]!;
    }
    return kept;
  }

  /** Keeps the candidates of at least this weight. */
  #keepFrom(count: number, lightest: number): number {
    const tokens = this.#tokens;
    const weights = this.#weights;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const weight = weights[i]!;
      if (weight < lightest) continue;
      weights[kept] = weight;
      tokens[kept++] = tokens[i]!;
    }
    return kept;
  }
}

/** The token of highest logit, the lowest of equals. Four at a time: a third faster, and greedy decoding is this loop. */
function findLikeliest(logits: Float32Array): number {
  let best = -1;
  let highest = -Infinity;
  for (let start = 0; start < logits.length; start += 4) {
    // Past the end `undefined` compares like NaN: the last few take the loop below.
    if (
      logits[start]! <= highest &&
      logits[start + 1]! <= highest &&
      logits[start + 2]! <= highest &&
      logits[start + 3]! <= highest
    ) {
      continue;
    }
    const end = Math.min(start + 4, logits.length);
    for (let token = start; token < end; token++) {
      const logit = logits[token]!;
      if (logit <= highest) continue;
      if (!(logit < Infinity)) throw new RadixkvError('engine_failed', `logit ${token} is ${logit}`);
      highest = logit;
      best = token;
    }
  }
  if (best < 0) throw new RadixkvError('engine_failed', 'all logits are -Infinity');
  return best;
}

function sumOfExponentials(logits: Float32Array, highest: number): number {
  let total = 0;
  for (let token = 0; token < logits.length; token++) total += exponential(logits[token]! - highest);
  return total;
}

/** The `count` tokens of highest logit, best first, equals by lower id. For small counts. */
function findTop(logits: Float32Array, count: number): number[] {
  const top: number[] = [];
  let lowest = -Infinity;
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token]!;
    if (top.length >= count && logit <= lowest) continue;
    let place = top.length;
    while (place > 0 && logits[top[place - 1]!]! < logit) place--;
    top.splice(place, 0, token);
    if (top.length > count) top.pop();
    lowest = top.length > 0 ? logits[top.at(-1)!]! : Infinity;
  }
  return top;
}
