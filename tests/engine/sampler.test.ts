import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { exponential } from '../../src/engine/exponential.js';
import { seededRandom, xoshiro128 } from '../../src/engine/random.js';
import { createSampler, type Sampler } from '../../src/engine/sampler.js';
import { selectLargest, selectThreshold } from '../../src/engine/selection.js';
import { RadixkvError } from '../../src/errors.js';
import { GREEDY, type SamplingParams } from '../../src/serving/completion.js';

const unused = (): number => assert.fail('no randomness is needed');
const sampler = (params: Partial<SamplingParams>, vocab: number, random = unused): Sampler =>
  createSampler({ ...GREEDY, ...params }, vocab, random);
const logs = (...probabilities: number[]): Float32Array => Float32Array.from(probabilities, Math.log);

/** Tokens that can be drawn: those that any of 1,000 evenly spread random numbers draws. */
function support(params: Partial<SamplingParams>, logits: Float32Array): number[] {
  const seen = new Set<number>();
  for (let i = 0; i < 1000; i++) {
    seen.add(sampler({ temperature: 1, ...params }, logits.length, () => i / 1000).sample(logits).token);
  }
  return [...seen].sort((a, b) => a - b);
}

function countDraws(drawing: Sampler, logits: Float32Array, draws: number): number[] {
  const counts = Array.from(logits, () => 0);
  for (let i = 0; i < draws; i++) counts[drawing.sample(logits).token]! += 1;
  return counts;
}

function chiSquare(counts: readonly number[], probabilities: readonly number[]): number {
  const draws = counts.reduce((sum, count) => sum + count, 0);
  return counts.reduce(
    (sum, count, i) => sum + (count - draws * probabilities[i]!) ** 2 / (draws * probabilities[i]!),
    0,
  );
}

test('temperature 0 takes the highest logit, the lowest token of equals', () => {
  assert.equal(sampler({}, 4).sample(Float32Array.of(1, 3, 3, 2)).token, 1);
  assert.equal(sampler({}, 3).sample(Float32Array.of(-Infinity, -5, -Infinity)).token, 1);
  assert.equal(sampler({}, 2).sample(Float32Array.of(1, 2, 9)).token, 1, 'padding is never drawn');
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 13 }), (logits) => {
      const likeliest = logits.indexOf(Math.max(...logits));
      assert.equal(sampler({}, logits.length).sample(Float32Array.from(logits)).token, likeliest);
    }),
  );
});

test('draws follow the distribution at their temperature', () => {
  // 99.9 % quantile of chi-square with 4 degrees of freedom: 18.47.
  const probabilities = [0.4, 0.3, 0.15, 0.1, 0.05];
  const cold = probabilities.map((p) => p ** 2).map((p, _, all) => p / all.reduce((a, b) => a + b));
  for (const [temperature, expected] of [
    [1, probabilities],
    [0.5, cold],
  ] as const) {
    const counts = countDraws(sampler({ temperature, seed: 42 }, 5), logs(...probabilities), 20_000);
    assert.ok(chiSquare(counts, expected) < 18.47, `temperature ${temperature}: ${counts.join(' ')}`);
    assert.ok(
      chiSquare(counts, [0.36, 0.34, 0.15, 0.1, 0.05]) > 18.47,
      'another distribution would be noticed',
    );
  }
});

test('the same seed draws the same tokens, another seed others', () => {
  const logits = Float32Array.from({ length: 100 }, (_, i) => Math.sin(i));
  const draw = (seed: number): number[] => {
    const drawing = sampler({ temperature: 1, seed }, 100);
    return Array.from({ length: 50 }, () => drawing.sample(logits).token);
  };
  assert.deepEqual(draw(7), draw(7));
  const seeds = [0, 1, 7, -1, 2 ** 32, 2 ** 32 + 7, Number.MAX_SAFE_INTEGER];
  assert.equal(new Set(seeds.map((seed) => draw(seed).join())).size, seeds.length);
});

test('top-k keeps the k likeliest, the lower token of equals', () => {
  const logits = logs(0.1, 0.4, 0.2, 0.2, 0.1);
  assert.deepEqual(support({ topK: 1 }, logits), [1]);
  assert.deepEqual(support({ topK: 2 }, logits), [1, 2]);
  assert.deepEqual(support({ topK: 3 }, logits), [1, 2, 3]);
  assert.deepEqual(support({ topK: 4 }, logits), [0, 1, 2, 3]);
  assert.deepEqual(support({ topK: 99 }, logits), [0, 1, 2, 3, 4]);
});

test('top-p keeps the smallest set that reaches the share, and always one token', () => {
  const logits = logs(0.125, 0.5, 0.25, 0.125);
  assert.deepEqual(support({ topP: 0 }, logits), [1]);
  assert.deepEqual(support({ topP: 0.01 }, logits), [1]);
  assert.deepEqual(support({ topP: 0.49 }, logits), [1]);
  assert.deepEqual(support({ topP: 0.51 }, logits), [1, 2]);
  assert.deepEqual(support({ topP: 0.8 }, logits), [0, 1, 2]);
  assert.deepEqual(support({ topP: 0.99 }, logits), [0, 1, 2, 3]);
  assert.deepEqual(support({ topP: 0.1 }, new Float32Array(8)), [0], 'of equals the lowest');
  assert.deepEqual(
    support({ topP: 0.6, topK: 2 }, logits),
    [1],
    'the share is of what top-k left: 0.5 of 0.75',
  );
});

test('top-p agrees with sorting', () => {
  const weight = fc.constantFrom<number[]>(1, 1, 2, 3, 5, 8, 64, 1024);
  fc.assert(
    fc.property(
      fc.array(weight, { minLength: 1, maxLength: 30 }),
      fc.constantFrom(0.1, 0.3, 0.5, 0.9, 0.97),
      (weights, topP) => {
        const order = weights.map((_, i) => i).sort((a, b) => weights[b]! - weights[a]! || a - b);
        const mass = topP * weights.reduce((a, b) => a + b);
        // A sum within rounding of the mass may fall on either side.
        let sum = 0;
        const sums = order.map((i) => {
          sum += weights[i]!;
          return sum;
        });
        fc.pre(sums.every((one) => Math.abs(one - mass) > 1e-4 * mass));
        const expected = order.slice(0, 1 + sums.findIndex((one) => one >= mass)).sort((a, b) => a - b);
        const logits = logs(...weights);
        const kept = new Set<number>();
        // A random number in the middle of each kept token's share draws it.
        const total = expected.reduce((all, i) => all + weights[i]!, 0);
        let before = 0;
        for (const i of expected) {
          const at = (before + weights[i]! / 2) / total;
          kept.add(sampler({ temperature: 1, topP }, weights.length, () => at).sample(logits).token);
          before += weights[i]!;
        }
        assert.deepEqual([...kept], expected);
      },
    ),
    { numRuns: 500 },
  );
});

test('min-p keeps tokens of at least that share of the likeliest', () => {
  const logits = logs(0.5, 0.3, 0.15, 0.05);
  assert.deepEqual(support({ minP: 0.2 }, logits), [0, 1, 2]);
  assert.deepEqual(support({ minP: 0.5 }, logits), [0, 1]);
  assert.deepEqual(support({ minP: 1 }, logits), [0]);
});

test('logit bias moves a token, and tokens outside the vocabulary are ignored', () => {
  const logits = Float32Array.of(2, 1, 0);
  assert.equal(
    sampler(
      {
        logitBias: new Map([
          [2, 100],
          [9, 100],
        ]),
      },
      3,
    ).sample(logits).token,
    2,
  );
  assert.equal(sampler({ logitBias: new Map([[0, -100]]) }, 3).sample(logits).token, 1);
  assert.deepEqual([...logits], [2, 1, 0], "the caller's logits are not modified");
});

test('penalties count generated tokens: once for presence, each time for frequency', () => {
  // Presence 0.6: token 0 falls from 1 to 0.4 and stays there, below 0.5.
  const presence = sampler({ presencePenalty: 0.6 }, 2);
  const logits = Float32Array.of(1, 0.5);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => presence.sample(logits).token),
    [0, 1, 0, 0],
  );
  // Frequency 0.3: 1, 0.7, 0.4 | 0.5, 0.2 | 0.4: 0, 0, 1, 0 and then 0.1 against 0.2.
  const frequency = sampler({ frequencyPenalty: 0.3 }, 2);
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => frequency.sample(logits).token),
    [0, 0, 1, 0, 1],
  );
});

test("log probabilities are those of the model's own distribution", () => {
  const logits = Float32Array.of(...logs(0.5, 0.25, 0.125, 0.125), 50);
  const params = { temperature: 2, topK: 1, logitBias: new Map([[2, 100]]), topLogprobs: 3 };
  const { token, logprob, top } = sampler(params, 4, () => 0).sample(logits);
  assert.equal(token, 2);
  assert.ok(Math.abs(logprob! - Math.log(0.125)) < 1e-6);
  assert.deepEqual(
    top.map((one) => one.token),
    [0, 1, 2],
  );
  const expected = [0.5, 0.25, 0.125].map(Math.log);
  assert.ok(top.every((one, i) => Math.abs(one.logprob - expected[i]!) < 1e-6));
  assert.deepEqual(sampler({ topLogprobs: 0 }, 4).sample(logits).top, []);
  assert.equal(sampler({}, 4).sample(logits).logprob, undefined);
});

test('logits that are no numbers fail the engine, and are never drawn from', () => {
  for (const bad of [
    [1, NaN],
    [NaN, 1],
    [1, Infinity],
    [-Infinity, -Infinity],
    [9, 1, 1, 1, 1, Number.NaN],
  ]) {
    assert.throws(
      () => sampler({}, bad.length).sample(Float32Array.from(bad)),
      (error: unknown) => error instanceof RadixkvError && error.code === 'engine_failed',
    );
  }
});

test('the generator is xoshiro128**, and its numbers are uniform', () => {
  const next = xoshiro128([1, 2, 3, 4]);
  assert.deepEqual([next(), next(), next(), next()], [11520, 0, 5927040, 70819200]);
  const random = seededRandom(1);
  const counts = Array.from({ length: 16 }, () => 0);
  for (let i = 0; i < 16_000; i++) counts[Math.floor(random() * 16)]! += 1;
  // 99.9 % quantile with 15 degrees of freedom: 37.7.
  assert.ok(
    chiSquare(
      counts,
      counts.map(() => 1 / 16),
    ) < 37.7,
  );
});

test('the k-th largest value agrees with sorting', () => {
  const value = fc.oneof(fc.integer({ min: -9, max: 9 }), fc.constant(-Infinity));
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 60 }), fc.nat(59), (values, place) => {
      const index = place % values.length;
      const largest = selectLargest(Float32Array.from(values), index + 1, new Float64Array(values.length));
      assert.equal(largest, values.toSorted((a, b) => b - a)[index]);
    }),
    { numRuns: 2000 },
  );
});

test('a threshold agrees with sorting', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(9), { minLength: 1, maxLength: 40 }),
      fc.nat(400),
      fc.boolean(),
      (values, target, weighted) => {
        const sorted = values.toSorted((a, b) => b - a);
        let sum = 0;
        const expected = sorted.find((value) => {
          sum += weighted ? value : 1;
          return sum >= target;
        });
        assert.equal(
          selectThreshold(Float64Array.from(values), values.length, target, weighted),
          expected ?? sorted.at(-1),
        );
      },
    ),
    { numRuns: 2000 },
  );
});

test('the fast exponential is exact to 1e-12', () => {
  for (let x = 0; x > -699; x -= 0.0137) {
    assert.ok(Math.abs(exponential(x) / Math.exp(x) - 1) < 1e-12, String(x));
  }
  assert.equal(exponential(0), 1);
  assert.equal(exponential(-701), 0);
  assert.equal(exponential(-Infinity), 0);
});
