/**
 * The import: a model file in, a directory with ONNX graphs, their weights, the tokenizer and a manifest out.
 */
import { createHash } from 'node:crypto';
import { copyFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { WeightsOption } from '../config/options.js';
import { errnoOf } from '../errno.js';
import { tokenizerFromGguf } from '../text/gguf-tokenizer.js';
import { fingerprintSource } from './fingerprint.js';
import { readGgufMetadata } from './gguf/tokenizer_metadata.js';
import { arenaProbeGraph } from './graphs/arena/probe.js';
import { arenaScoreGraph } from './graphs/arena/score.js';
import { stepGraph } from './graphs/arena/step.js';
import { decodeGraph } from './graphs/decode.js';
import { decodeBatchGraph } from './graphs/decode-batch.js';
import { prefillGraph } from './graphs/prefill.js';
import { probeGraph } from './graphs/probe.js';
import { rotateGraph } from './graphs/rotate.js';
import { scoreGraph } from './graphs/score.js';
import { type TrunkOptions, WEIGHTS_FILE } from './graphs/trunk.js';
import { storeWeights } from './graphs/weights.js';
import { gpuFile, MANIFEST_VERSION, type Manifest, MODEL_FILES } from './manifest.js';
import { WeightFile } from './onnx/weight-file.js';
import { openWeights } from './open.js';
import type { OnProgress } from './progress.js';

/** What a directory in Hugging Face layout may hold of a tokenizer. */
const TOKENIZER_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
];

export interface ImportOptions {
  /** A GGUF file, or a directory in Hugging Face layout. */
  readonly path: string;
  /** An existing empty directory. */
  readonly directory: string;
  readonly weights: WeightsOption;
  /** What K and V are rounded to; float16 unless results must equal a float32 reference. */
  readonly kvType?: 'float16' | 'float32';
  readonly onProgress?: OnProgress;
}

/**
 * Imports a model.
 *
 * @throws RadixkvError `unsupported_model` naming what is unsupported, `corrupt_model` for damaged files. The
 * directory is then worthless.
 */
export async function importModel(options: ImportOptions): Promise<void> {
  const { path, directory, weights, kvType = 'float16' } = options;
  const source = await openWeights(path);
  try {
    const sourceFingerprint = await fingerprintSource(path, ({ doneBytes, totalBytes }) =>
      options.onProgress?.({ phase: 'reading', done: doneBytes, total: totalBytes, unit: 'bytes' }),
    );
    const file = await WeightFile.create(join(directory, WEIGHTS_FILE));
    const stored = await storeWeights(source, file, weights, (done, total) =>
      options.onProgress?.({ phase: 'importing', done, total }),
    );
    await file.close();
    const graphs = await writeGraphs(directory, { spec: source.spec, weights: stored, kvType });
    await writeTokenizer(path, directory);
    const manifest: Manifest = {
      version: MANIFEST_VERSION,
      description: `${source.description}, weights ${weights}, KV ${kvType}`,
      fingerprint: fingerprint(sourceFingerprint, weights, kvType, graphs),
      kvType,
      spec: source.spec,
    };
    await writeFile(join(directory, MODEL_FILES.manifest), `${JSON.stringify(manifest, null, 2)}\n`);
  } finally {
    await source.close();
  }
}

/** @returns The bytes of the graphs that shared K and V depend on; what the others make or move is never shared. */
async function writeGraphs(directory: string, options: TrunkOptions): Promise<Uint8Array[]> {
  const graphs = { [MODEL_FILES.prefill]: prefillGraph(options), [MODEL_FILES.decode]: decodeGraph(options) };
  const others = {
    [MODEL_FILES.decodeBatch]: decodeBatchGraph(options),
    [MODEL_FILES.score]: scoreGraph(options),
    [MODEL_FILES.probe]: probeGraph(options),
    [MODEL_FILES.rotate]: rotateGraph(options),
  };
  const files = Object.entries({ ...graphs, ...others });
  for (const kvType of ['float16', 'float32'] as const) {
    const onGpu = { ...options, kvType, isForGpu: true };
    files.push(
      [gpuFile('step', kvType), stepGraph(onGpu)],
      [gpuFile('score', kvType), arenaScoreGraph(onGpu)],
      [gpuFile('probe', kvType), arenaProbeGraph(onGpu)],
    );
  }
  for (const [name, bytes] of files) await writeFile(join(directory, name), bytes);
  return Object.values(graphs);
}

function fingerprint(source: string, weights: string, kvType: string, graphs: readonly Uint8Array[]): string {
  const hash = createHash('sha256').update(`radixkv ${MANIFEST_VERSION}\0${source}\0${weights}\0${kvType}\0`);
  for (const graph of graphs) hash.update(createHash('sha256').update(graph).digest());
  return hash.digest('hex');
}

async function writeTokenizer(path: string, directory: string): Promise<void> {
  if ((await stat(path)).isDirectory()) {
    for (const name of TOKENIZER_FILES) {
      await copyFile(join(path, name), join(directory, name)).catch((error: unknown) => {
        if (errnoOf(error) !== 'ENOENT') throw error;
      });
    }
    return;
  }
  const { tokenizerJson, tokenizerConfig } = tokenizerFromGguf(await readGgufMetadata(path));
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(tokenizerJson));
  await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig));
}
