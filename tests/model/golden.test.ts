/**
 * Imported models against Python `transformers`, on tiny models with random weights of every architecture.
 *
 * With float32 weights and KV the logits must equal the reference's to 1e-4, whether the prompt is one tile, odd
 * tiles, or decoded token by token. Block weights are multiplied with int8 activations, so their bound is on the root
 * mean square error in standard deviations of the reference. Codes of 8 bits over a block of 32 normal values are off
 * by 0.5 % of the spread, weights and activations alike; products in a row add up to 2–5 % at the logits. Codes of 4
 * bits are off by 8 %: 27–40 %. The limits leave half as much again; a wrong scale, offset or order of codes gives
 * errors around 100 %.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { WeightsOption } from '../../src/config/options.js';
import { loadTinyModels, type TinyModel } from '../support/golden.js';
import {
  importForTest,
  type ModelSession,
  openSession,
  prefillTiles,
  tileEnds,
} from '../support/model-session.js';
import { largestDifference } from '../support/scores.js';

/** Logits of every golden position, made one way. */
type Logits = (session: ModelSession, model: TinyModel) => Promise<Float32Array[]>;

const byTiles =
  (tile: number): Logits =>
  async (session, { tokens, positions }) => {
    const rows: Float32Array[] = [];
    for (const position of positions) {
      const run = session.createRun(tokens.length);
      const ends = tileEnds(position + 1, tile);
      rows.push(await prefillTiles(session, run, Int32Array.from(tokens), { ends }));
    }
    return rows;
  };

const byDecoding: Logits = async (session, { tokens, positions }) => {
  const run = session.createRun(tokens.length);
  const rows = [await session.runner.prefill(run, 0, Int32Array.from(tokens.slice(0, 1)))];
  for (let position = 1; position < tokens.length; position++) {
    rows.push(await session.runner.decode(run, position, tokens[position]!));
  }
  return positions.map((position) => rows[position]!);
};

const WAYS: Record<string, Logits> = {
  'one tile': byTiles(64),
  'tiles of 7': byTiles(7),
  'tiles of 1': byTiles(1),
  decoding: byDecoding,
};

function expectedRow({ logits, vocab }: TinyModel, index: number): Float32Array {
  return logits.subarray(index * vocab, (index + 1) * vocab);
}

async function openTiny(
  context: TestContext,
  { path }: TinyModel,
  weights: WeightsOption,
  kvType: 'float16' | 'float32' = 'float32',
): Promise<ModelSession> {
  return openSession(await importForTest(context, { path, weights, kvType }), { threads: 1 });
}

for (const model of loadTinyModels()) {
  test(`${model.name}: float32 logits equal those of transformers to 1e-4`, async (context) => {
    const session = await openTiny(context, model, 'float32');
    for (const [way, logits] of Object.entries(WAYS)) {
      for (const [index, row] of (await logits(session, model)).entries()) {
        const difference = largestDifference(row, expectedRow(model, index));
        assert.ok(difference <= 1e-4, `${way}, position ${model.positions[index]}: off by ${difference}`);
      }
    }
  });
}

/** Root mean square error in standard deviations of the reference, over all positions. */
function relativeError(model: TinyModel, rows: readonly Float32Array[]): number {
  let squares = 0;
  for (const [index, row] of rows.entries()) {
    const expected = expectedRow(model, index);
    for (let i = 0; i < row.length; i++) squares += (row[i]! - expected[i]!) ** 2;
  }
  const mean = model.logits.reduce((sum, logit) => sum + logit, 0) / model.logits.length;
  const variance = model.logits.reduce((sum, logit) => sum + (logit - mean) ** 2, 0);
  return Math.sqrt(squares / variance);
}

const FORMATS: readonly { readonly weights: WeightsOption; readonly limit: number }[] = [
  { weights: 'auto', limit: 0.07 },
  { weights: 'int8', limit: 0.07 },
  { weights: 'int4', limit: 0.6 },
];
for (const { weights, limit } of FORMATS) {
  test(`every tiny model with weights ${weights} is within ${limit} of the reference`, async (context) => {
    for (const model of loadTinyModels()) {
      const session = await openTiny(context, model, weights, 'float16');
      for (const way of ['one tile', 'tiles of 7', 'decoding']) {
        const error = relativeError(model, await WAYS[way]!(session, model));
        context.diagnostic(`${model.name}, ${way}: ${error.toPrecision(3)}`);
        assert.ok(error <= limit, `${model.name}, ${way}: ${error}`);
      }
    }
  });
}
