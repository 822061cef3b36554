/**
 * `manifest.json` of an imported model: what the engine must know to run its graphs, and the identity of its KV.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { ARCHITECTURES } from './spec.js';

/** Raised whenever files, graphs or the meaning of KV rows change; older imports are made anew. */
export const MANIFEST_VERSION = 5;

const COUNT = z.int().positive();
const SCALING = z.discriminatedUnion('type', [
  z.object({ type: z.literal('linear'), factor: z.number() }),
  z.object({
    type: z.literal('llama3'),
    factor: z.number(),
    lowFreqFactor: z.number(),
    highFreqFactor: z.number(),
    originalContextTokens: z.number(),
  }),
  z.object({ type: z.literal('factors'), factors: z.array(z.number()).readonly() }),
]);

const MANIFEST = z.object({
  version: z.literal(MANIFEST_VERSION),
  /** In words: the source's format and the weights as stored here. */
  description: z.string(),
  /**
   * SHA-256 in hex over everything that KV depends on: the source's bytes, the weight format, the KV type and the
   * graphs. Part of every chunk's key.
   */
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
  kvType: z.enum(['float16', 'float32']),
  spec: z.object({
    architecture: z.enum(ARCHITECTURES),
    layers: COUNT,
    hidden: COUNT,
    heads: COUNT,
    kvHeads: COUNT,
    headDim: COUNT,
    intermediate: COUNT,
    vocab: COUNT,
    contextTokens: COUNT,
    normEpsilon: z.number(),
    rope: z.object({ theta: z.number(), interleaved: z.boolean(), scaling: SCALING.exactOptional() }),
    qkvBias: z.boolean(),
    qkNorm: z.boolean(),
    tiedEmbeddings: z.boolean(),
  }),
});
export type Manifest = z.infer<typeof MANIFEST>;

/** Files of an imported model, beside the tokenizer's. */
export const MODEL_FILES = {
  manifest: 'manifest.json',
  prefill: 'prefill.onnx',
  decode: 'decode.onnx',
  decodeBatch: 'decode-batch.onnx',
  score: 'score.onnx',
  probe: 'probe.onnx',
  rotate: 'rotate.onnx',
} as const;

/** A graph that runs on a GPU, for KV of a type: of the model's own, or float32 where the GPU has no float16. */
export function gpuFile(name: 'step' | 'score' | 'probe', kvType: 'float16' | 'float32'): string {
  return `gpu-${name}-${kvType}.onnx`;
}

/**
 * Why an import is of no use to this version of the program, `undefined` if it is; a manifest that can't be read is
 * left to who reads it.
 */
export async function outdated(directory: string): Promise<string | undefined> {
  const text = await readFile(join(directory, MODEL_FILES.manifest), 'utf8').catch(() => '');
  const version = /"version":\s*(\d+)/.exec(text)?.[1];
  if (version === undefined || Number(version) === MANIFEST_VERSION) return undefined;
  return `its format is version ${version}, and now it is ${MANIFEST_VERSION}`;
}

/** @throws RadixkvError `corrupt_model` for a missing, malformed or outdated manifest; importing again helps. */
export async function readManifest(directory: string): Promise<Manifest> {
  const path = join(directory, MODEL_FILES.manifest);
  try {
    return MANIFEST.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : messageOf(cause);
    throw new RadixkvError('corrupt_model', `${path}: ${reason}; import the model again`, { cause });
  }
}
