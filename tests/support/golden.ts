/** Paths and decoding of the committed golden files; the scripts that made them are beside them. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Path of a file in `tests/golden`, from the built test. */
export const goldenPath = (name: string): string =>
  fileURLToPath(new URL(`../../../tests/golden/${name}`, import.meta.url));

export const goldenJson = (name: string): unknown => JSON.parse(readFileSync(goldenPath(name), 'utf8'));

/** Bytes of a base64 string in memory of their own. */
export const base64Bytes = (encoded: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(Buffer.from(encoded, 'base64'));

/** A tiny random-weight model and its logits by Python `transformers` in float32. */
export interface TinyModel {
  readonly name: string;
  readonly format: 'hf' | 'gguf';
  /** The directory in Hugging Face layout, or the `.gguf` file. */
  readonly path: string;
  readonly architecture: 'llama' | 'mistral' | 'qwen2' | 'qwen3';
  /** Types of the stored matrices, e.g. `BF16`; the logits are of the weights as stored. */
  readonly weights: string;
  readonly vocab: number;
  readonly tokens: readonly number[];
  /** Positions of `tokens` that have a row in `logits`, ascending. */
  readonly positions: readonly number[];
  /** `[positions.length, vocab]`, row-major: the scores of the token after each position. */
  readonly logits: Float32Array;
  /** Only `chat`: what its template and tokenizer make of a conversation, generation prompt included. */
  readonly chat?: {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly text: string;
    readonly tokens: readonly number[];
  };
}

/** One run over a text of n tokens. Log-probabilities are natural, rounded to 1e-5. */
export interface LlamaCppScores {
  /** Log-probability of `tokens[i + 1]` after position i; n − 1 of them. */
  readonly nextLogprobs: readonly number[];
  /** Per position the five most likely next tokens, best first. */
  readonly topTokens: readonly (readonly number[])[];
  readonly topLogprobs: readonly (readonly number[])[];
}

export interface LlamaCppGolden {
  /** File name and SHA-256 of the GGUF. */
  readonly model: string;
  readonly sha256: string;
  readonly texts: readonly {
    readonly title: string;
    readonly text: string;
    readonly tokens: readonly number[];
    /** As llama.cpp runs the file: 8-bit activations, float16 K and V. */
    readonly q4_1: LlamaCppScores;
    /** The same weights dequantised, everything in float32: what exact arithmetic gives. */
    readonly float32: LlamaCppScores;
  }[];
  /** Greedy answers, for information. */
  readonly chats: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly prompt: string;
    readonly promptTokens: readonly number[];
    readonly answerTokens: readonly number[];
    readonly answer: string;
  }[];
}

function readFloats(path: string): Float32Array {
  const bytes = readFileSync(path);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/** One tiny model by name, e.g. `chat`. */
export function loadTinyModel(name: string): TinyModel {
  const folder = goldenPath(`tiny/${name}`);
  const golden: Omit<TinyModel, 'name' | 'path' | 'logits'> = JSON.parse(
    readFileSync(`${folder}/golden.json`, 'utf8'),
  );
  const path = golden.format === 'gguf' ? `${folder}/model.gguf` : folder;
  return { ...golden, name, path, logits: readFloats(`${folder}/logits.bin`) };
}

/** All tiny models, by name. */
export function loadTinyModels(): TinyModel[] {
  return readdirSync(goldenPath('tiny')).sort().map(loadTinyModel);
}

/** What llama.cpp says about the default model on real text. */
export function loadLlamaCppGolden(): LlamaCppGolden {
  const golden: LlamaCppGolden = JSON.parse(readFileSync(goldenPath('llama_cpp.json'), 'utf8'));
  return golden;
}
