/**
 * What a weight format and a KV type cost in quality: perplexity, and the KL divergence from the same model in float32.
 *
 * Texts are scored position by position with the model's own tokens as input. `prefill` makes every row a tile of its
 * own, which gives the same bits as any other cut. Perplexity moves by chance where a format rounds; KL is the
 * measure that tells formats apart.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kvLayout } from '#storage';
import { divergence, logSoftmax } from '../src/calibration/scores.js';
import type { WeightsOption } from '../src/config/options.js';
import { DeviceRun } from '../src/engine/device-run.js';
import { GraphRunner } from '../src/engine/graph-runner.js';
import { WEIGHTS_FILE } from '../src/model/graphs/trunk.js';
import { importModel } from '../src/model/importer.js';
import { readManifest } from '../src/model/manifest.js';
import { createTokenizer } from '../src/text/tokenizer.js';

type Graph = 'prefill' | 'decode';

interface Format {
  readonly weights: WeightsOption;
  readonly kvType: 'float16' | 'float32';
}

export interface QualityRow extends Format {
  readonly graph: Graph;
  readonly positions: number;
  readonly perplexity: number;
  /** Mean over positions, nats; 0 for the reference itself. */
  readonly kl: number;
  /** Share of positions whose best token is the reference's. */
  readonly sameBest: number;
}

export interface QualityOptions {
  /** A GGUF file, or a directory in Hugging Face layout. */
  readonly path: string;
  readonly threads: number;
  /** Scored beside the golden texts, as far as `TEXT_TOKENS`. */
  readonly textFile: string | undefined;
  readonly graphs: readonly Graph[];
  readonly onNotice: (message: string) => void;
}

const REFERENCE: Format = { weights: 'float32', kvType: 'float32' };
const FORMATS: readonly Format[] = [
  { weights: 'float32', kvType: 'float16' },
  { weights: 'auto', kvType: 'float32' },
  ...(['auto', 'int8', 'int4'] as const).map((weights) => ({ weights, kvType: 'float16' }) as const),
];

const TEXT_TOKENS = 500;
const GOLDEN = fileURLToPath(new URL('../../tests/golden/llama_cpp.json', import.meta.url));

/** Scores all formats; the first row is the reference. A format whose weights equal an earlier one's is left out. */
export async function measureQuality(options: QualityOptions): Promise<QualityRow[]> {
  const { onNotice } = options;
  const exact = await scoreFormat(options, REFERENCE, ['decode']);
  const reference = exact.logits[0]!;
  const result = exact.rows(reference);
  const seen = new Map<string, string>();
  for (const format of FORMATS) {
    const scored = await scoreFormat(options, format, options.graphs, (weightsHash) => {
      const key = `${weightsHash} ${format.kvType}`;
      const same = seen.get(key);
      if (same !== undefined) onNotice(`${format.weights}: this model's weights are then those of ${same}`);
      else seen.set(key, format.weights);
      return same === undefined;
    });
    result.push(...scored.rows(reference));
    if (scored.logits.length > 0) onNotice(`${format.weights}, KV ${format.kvType} done`);
  }
  return result;
}

/** One text's tokens and the logits after each but the last. */
interface ScoredText {
  readonly tokens: readonly number[];
  readonly logits: readonly Float32Array[];
}

interface ScoredFormat {
  /** Per graph, the texts. */
  readonly logits: readonly (readonly ScoredText[])[];
  rows(reference: readonly ScoredText[]): QualityRow[];
}

/** @param wanted Whether to score a format, given the SHA-256 of its weights file. */
async function scoreFormat(
  options: QualityOptions,
  format: Format,
  graphs: readonly Graph[],
  wanted: (weightsHash: string) => boolean = () => true,
): Promise<ScoredFormat> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-quality-'));
  try {
    await importModel({ path: options.path, directory, ...format });
    const hash = createHash('sha256').update(await readFile(join(directory, WEIGHTS_FILE)));
    if (!wanted(hash.digest('hex'))) return { logits: [], rows: () => [] };
    const manifest = await readManifest(directory);
    const { layers, kvHeads, headDim } = manifest.spec;
    const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens: 64, dtype: manifest.kvType });
    const runner = await GraphRunner.create({ directory, manifest, layout, threads: options.threads });
    const createRun = (tokens: number) =>
      new DeviceRun(layout, tokens, new ArrayBuffer(tokens * layout.tokenBytes));
    const texts = await textTokens(directory, options.textFile);
    const logits: ScoredText[][] = [];
    for (const graph of graphs) {
      const scored: ScoredText[] = [];
      for (const tokens of texts) {
        scored.push({ tokens, logits: await scoreTokens(runner, createRun(tokens.length), tokens, graph) });
      }
      logits.push(scored);
    }
    return {
      logits,
      rows: (reference) =>
        logits.map((scored, i) => ({ ...format, graph: graphs[i]!, ...summary(scored, reference) })),
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function textTokens(directory: string, file: string | undefined): Promise<number[][]> {
  const tokenizer = await createTokenizer(directory);
  const golden: { readonly texts: readonly { readonly text: string }[] } = JSON.parse(
    await readFile(GOLDEN, 'utf8'),
  );
  const texts = golden.texts.map(({ text }) => text);
  if (file !== undefined) texts.push(await readFile(file, 'utf8'));
  return texts.map((text) => [...tokenizer.encodeText(text).subarray(0, TEXT_TOKENS)]);
}

async function scoreTokens(
  runner: GraphRunner,
  run: DeviceRun,
  tokens: readonly number[],
  graph: Graph,
): Promise<Float32Array[]> {
  const logits: Float32Array[] = [];
  for (const [position, token] of tokens.slice(0, -1).entries()) {
    logits.push(
      graph === 'prefill' || position === 0
        ? await runner.prefill(run, position, Int32Array.of(token))
        : await runner.decode(run, position, token),
    );
  }
  return logits;
}

function summary(
  scored: readonly ScoredText[],
  reference: readonly ScoredText[],
): Pick<QualityRow, 'positions' | 'perplexity' | 'kl' | 'sameBest'> {
  let [positions, loss, kl, same] = [0, 0, 0, 0];
  for (const [index, { tokens, logits }] of scored.entries()) {
    for (const [position, row] of logits.entries()) {
      const logprobs = logSoftmax(row);
      const expected = logSoftmax(reference[index]!.logits[position]!);
      positions++;
      loss -= logprobs[tokens[position + 1]!]!;
      kl += divergence(expected, logprobs);
      if (indexOfMax(logprobs) === indexOfMax(expected)) same++;
    }
  }
  return {
    positions,
    perplexity: Math.exp(loss / positions),
    kl: kl / positions,
    sameBest: same / positions,
  };
}

function indexOfMax(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** The rows as Markdown. */
export function qualityTable(rows: readonly QualityRow[]): string {
  const lines = [
    ['weights', 'KV', 'graph', 'positions', 'perplexity', 'KL from float32', 'same best token'],
    ['---', '---', '---', '---', '---', '---', '---'],
    ...rows.map(({ weights, kvType, graph, positions, perplexity, kl, sameBest }) => [
      weights,
      kvType,
      graph,
      String(positions),
      perplexity.toFixed(3),
      kl.toExponential(1),
      `${(100 * sameBest).toFixed(1)} %`,
    ]),
  ];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
