/**
 * The real default model against llama.cpp's scores of real text, position by position.
 *
 * With float32 weights and KV we compute what llama.cpp's exact arithmetic (`float32`) computes: the best token is
 * the same everywhere. In the default format (the file's weights, int8 activations, float16 KV) both engines round,
 * each in its own way, and near-ties fall either way: llama.cpp's own rounded run (`q4_1`) names the best token of its
 * exact run at 96.2 % of these positions, so no engine can be expected to agree with it much more often. One position
 * in nine has its two best tokens within 0.1 in log-probability; on the others, the decided ones, agreement must be
 * 97 %. On all positions it is 94–96 %, which is below the 97 % we would like; the limit of 93 % only stops a decline.
 * The mean |Δ log p| of two independent roundings is √2 times that of one, 0.055: 0.077, and the limit 0.09.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { logSoftmax } from '../../src/calibration/scores.js';
import { defaultModel, defaultModelFile } from '../support/default-model.js';
import { type LlamaCppScores, loadLlamaCppGolden } from '../support/golden.js';
import { importForTest, type ModelSession, openSession } from '../support/model-session.js';
import { argmax } from '../support/scores.js';

/** A model's scores of one text: log-probabilities `[vocab]` and the best token after each position. */
interface Scored {
  readonly logprobs: readonly Float64Array[];
  readonly best: readonly number[];
}

/** Log-probability that the best token of a decided position has over the second. */
const DECIDED = 0.1;

const texts = loadLlamaCppGolden().texts;

/** `prefill`: every row a tile of its own, which is bit for bit what any other cut gives. */
async function score(
  session: ModelSession,
  tokens: readonly number[],
  graph: 'prefill' | 'decode',
): Promise<Scored> {
  const { runner } = session;
  const run = session.createRun(tokens.length);
  const logprobs: Float64Array[] = [];
  const best: number[] = [];
  for (const [position, token] of tokens.entries()) {
    const logits =
      graph === 'prefill' || position === 0
        ? await runner.prefill(run, position, Int32Array.of(token))
        : await runner.decode(run, position, token);
    logprobs.push(logSoftmax(logits));
    best.push(argmax(logits));
  }
  return { logprobs, best };
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** KL over the reference's five best tokens and, as one event, all others: at most the whole divergence. */
function coarseKl(reference: LlamaCppScores, position: number, logprobs: Float64Array): number {
  let [kl, referenceRest, rest] = [0, 1, 1];
  for (const [rank, token] of reference.topTokens[position]!.entries()) {
    const logprob = reference.topLogprobs[position]![rank]!;
    kl += Math.exp(logprob) * (logprob - logprobs[token]!);
    referenceRest -= Math.exp(logprob);
    rest -= Math.exp(logprobs[token]!);
  }
  return referenceRest > 0 && rest > 0 ? kl + referenceRest * Math.log(referenceRest / rest) : kl;
}

interface Comparison {
  readonly positions: number;
  /** Share of positions with the same best token, and of decided ones. */
  readonly agreement: number;
  readonly decided: number;
  /** Mean |Δ log p| of the actual next token. */
  readonly difference: number;
  readonly kl: number;
}

function compare(scored: readonly Scored[], reference: 'q4_1' | 'float32'): Comparison {
  const agreements: number[] = [];
  const decided: number[] = [];
  const differences: number[] = [];
  const divergences: number[] = [];
  for (const [index, text] of texts.entries()) {
    const golden = text[reference];
    for (const [position, logprob] of golden.nextLogprobs.entries()) {
      const { logprobs, best } = scored[index]!;
      const agrees = Number(best[position] === golden.topTokens[position]![0]);
      const [first, second] = golden.topLogprobs[position]!;
      agreements.push(agrees);
      if (first! - second! > DECIDED) decided.push(agrees);
      differences.push(Math.abs(logprobs[position]![text.tokens[position + 1]!]! - logprob));
      divergences.push(coarseKl(golden, position, logprobs[position]!));
    }
  }
  return {
    positions: agreements.length,
    agreement: mean(agreements),
    decided: mean(decided),
    difference: mean(differences),
    kl: mean(divergences),
  };
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** Scores the golden texts, prints how far they are from the reference, and returns it. */
async function measure(
  context: TestContext,
  session: ModelSession,
  graph: 'prefill' | 'decode',
  references: readonly ('q4_1' | 'float32')[],
): Promise<Comparison[]> {
  const scored: Scored[] = [];
  for (const { tokens } of texts) scored.push(await score(session, tokens, graph));
  return references.map((reference) => {
    const result = compare(scored, reference);
    context.diagnostic(
      `${graph} to llama.cpp ${reference}: ${result.positions} positions, best token the same at ` +
        `${percent(result.agreement)} (${percent(result.decided)} of the decided), ` +
        `mean |Δ log p| ${result.difference.toFixed(4)}, KL over five tokens ${result.kl.toExponential(2)}`,
    );
    return result;
  });
}

test("float32 weights predict what llama.cpp's exact arithmetic predicts", async (context) => {
  const path = await defaultModelFile();
  const session = await openSession(
    await importForTest(context, { path, weights: 'float32', kvType: 'float32' }),
  );
  const [exact] = await measure(context, session, 'decode', ['float32']);
  assert.ok(exact!.positions >= 200);
  assert.ok(exact!.agreement >= 0.99, `agreement ${exact!.agreement}`);
  assert.ok(exact!.difference <= 1e-3, `mean |Δ log p| ${exact!.difference}`);
});

for (const graph of ['prefill', 'decode'] as const) {
  test(`${graph} in the default format predicts what llama.cpp predicts`, async (context) => {
    const session = await openSession(await defaultModel());
    const [peer, exact] = await measure(context, session, graph, ['q4_1', 'float32']);
    assert.ok(peer!.positions >= 200);
    assert.ok(peer!.decided >= 0.97, `agreement at decided positions ${peer!.decided}`);
    assert.ok(peer!.agreement >= 0.93, `agreement ${peer!.agreement}`);
    assert.ok(peer!.difference <= 0.09, `mean |Δ log p| ${peer!.difference}`);
    assert.ok(exact!.kl <= 5e-3, `KL ${exact!.kl}`);
  });
}
