/** Writes safetensors files and Hugging Face directories for tests. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ModelSpec } from '../../src/model/spec.js';
import { tinyTensors } from './tiny_model.js';

export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export interface SafetensorsHeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}
export type SafetensorsHeader = Record<string, SafetensorsHeaderEntry>;

/** The file's bytes; `change` may damage the header before it is written. */
export function safetensorsBytes(
  entries: readonly SafetensorsEntry[],
  change: (header: SafetensorsHeader) => void = () => {},
): Buffer {
  const header: SafetensorsHeader = {};
  let offset = 0;
  for (const { name, dtype, shape, data } of entries) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
  }
  change(header);
  const json = Buffer.from(JSON.stringify({ __metadata__: { format: 'pt' }, ...header }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...entries.map(({ data }) => data)]);
}

const HF_MODULES: readonly (readonly [string, string])[] = [
  ['attn_norm', 'input_layernorm'],
  ['attn_q_norm', 'self_attn.q_norm'],
  ['attn_k_norm', 'self_attn.k_norm'],
  ['attn_q', 'self_attn.q_proj'],
  ['attn_k', 'self_attn.k_proj'],
  ['attn_v', 'self_attn.v_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_norm', 'post_attention_layernorm'],
  ['ffn_gate', 'mlp.gate_proj'],
  ['ffn_up', 'mlp.up_proj'],
  ['ffn_down', 'mlp.down_proj'],
];

function huggingFaceName(canonical: string): string {
  if (canonical === 'token_embd.weight') return 'model.embed_tokens.weight';
  if (canonical === 'output_norm.weight') return 'model.norm.weight';
  if (canonical === 'output.weight') return 'lm_head.weight';
  const [, layer, module, kind] = canonical.split('.');
  const [, name] = HF_MODULES.find(([own]) => own === module)!;
  return `model.layers.${layer}.${name}.${kind}`;
}

/** A spec's tensors in float32 under Hugging Face's names. */
export const tinyEntries = (spec: ModelSpec): SafetensorsEntry[] =>
  tinyTensors(spec).map(({ name, shape, values }) => ({
    name: huggingFaceName(name),
    dtype: 'F32',
    shape,
    data: new Uint8Array(values.buffer),
  }));

/** A config.json of the spec's sizes. */
export const tinyConfig = (spec: ModelSpec, architecture: string): Record<string, unknown> => ({
  architectures: [architecture],
  hidden_size: spec.hidden,
  intermediate_size: spec.intermediate,
  num_hidden_layers: spec.layers,
  num_attention_heads: spec.heads,
  num_key_value_heads: spec.kvHeads,
  head_dim: spec.headDim,
  vocab_size: spec.vocab,
  max_position_embeddings: spec.contextTokens,
  rms_norm_eps: spec.normEpsilon,
  rope_theta: spec.rope.theta,
  tie_word_embeddings: spec.tiedEmbeddings,
});

/** Writes each named file: bytes as they are, anything else as JSON. */
export function writeDirectory(path: string, files: Readonly<Record<string, unknown>>): void {
  mkdirSync(path, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(path, name), content instanceof Uint8Array ? content : JSON.stringify(content));
  }
}
