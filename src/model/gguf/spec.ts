/**
 * `ModelSpec` from a GGUF header. An architecture or detail whose graph we do not build is refused by name, so that
 * no model runs with a part of it left out.
 */
import type { RopeScaling } from '#blend';
import { RadixkvError } from '../../errors.js';
import { checkedSpec } from '../check.js';
import type { Architecture, ModelSpec } from '../spec.js';
import type { GgufHeader } from './header.js';
import type { Metadata } from './metadata.js';

/** `general.architecture` → ours; Mistral files say `llama`. Only llama's converter interleaves the RoPE pairs. */
const ARCHITECTURES: ReadonlyMap<
  string,
  { readonly architecture: Architecture; readonly interleaved: boolean }
> = new Map([
  ['llama', { architecture: 'llama', interleaved: true }],
  ['qwen2', { architecture: 'qwen2', interleaved: false }],
  ['qwen3', { architecture: 'qwen3', interleaved: false }],
]);

/** Keys (after the architecture's prefix) that change the computation unless they have this value. */
const NEUTRAL: Readonly<Record<string, number | undefined>> = {
  expert_count: 0,
  attn_logit_softcapping: 0,
  final_logit_softcapping: 0,
  'attention.scale': 0,
  'attention.clamp_kqv': 0,
  'attention.max_alibi_bias': 0,
  'attention.temperature_scale': 0,
  logit_scale: 0,
  residual_scale: 0,
  embedding_scale: 0,
  'rope.scaling.attn_factor': 1,
};

/**
 * @param ropeFactors values of `rope_freqs.weight`, when the file has it
 * @throws RadixkvError `unsupported_model`, or `corrupt_model` for missing or contradictory metadata
 */
export function ggufSpec(header: GgufHeader, ropeFactors: Float32Array | undefined, path: string): ModelSpec {
  const { metadata, tensors } = header;
  const fileArchitecture = metadata.string('general.architecture');
  const known = ARCHITECTURES.get(fileArchitecture);
  if (!known) throw unsupported(path, `architecture ${fileArchitecture}`);
  const key = (name: string) => `${fileArchitecture}.${name}`;
  refuseUnbuilt(metadata, key, path);

  const hidden = metadata.number(key('embedding_length'));
  const heads = metadata.number(key('attention.head_count'));
  const kvHeads = metadata.optionalNumber(key('attention.head_count_kv')) ?? heads;
  const headDim = metadata.optionalNumber(key('attention.key_length')) ?? hidden / heads;
  if ((metadata.optionalNumber(key('attention.value_length')) ?? headDim) !== headDim) {
    throw unsupported(path, 'values and keys of different head width');
  }
  if ((metadata.optionalNumber(key('rope.dimension_count')) ?? headDim) !== headDim) {
    throw unsupported(path, 'rotary embedding over a part of each head');
  }
  const context = metadata.number(key('context_length'));
  const scaling = ropeScaling(metadata, key, ropeFactors, path);
  return checkedSpec(
    {
      architecture: known.architecture,
      layers: metadata.number(key('block_count')),
      hidden,
      heads,
      kvHeads,
      headDim,
      intermediate: metadata.number(key('feed_forward_length')),
      vocab: tensors.get('token_embd.weight')?.rows ?? 0,
      contextTokens: Math.min(context, metadata.optionalNumber(key('attention.sliding_window')) || context),
      normEpsilon: metadata.number(key('attention.layer_norm_rms_epsilon')),
      rope: {
        theta: metadata.optionalNumber(key('rope.freq_base')) ?? 10_000,
        interleaved: known.interleaved,
        ...(scaling && { scaling }),
      },
      qkvBias: tensors.has('blk.0.attn_q.bias'),
      qkNorm: known.architecture === 'qwen3',
      tiedEmbeddings: !tensors.has('output.weight'),
    },
    path,
  );
}

function refuseUnbuilt(metadata: Metadata, key: (name: string) => string, path: string): void {
  for (const [name, neutral] of Object.entries(NEUTRAL)) {
    const value = metadata.optionalNumber(key(name));
    if (value !== undefined && value !== neutral) throw unsupported(path, `${key(name)} = ${value}`);
  }
  if (metadata.optionalBoolean(key('attention.causal')) === false)
    throw unsupported(path, 'attention that is not causal');
}

function ropeScaling(
  metadata: Metadata,
  key: (name: string) => string,
  ropeFactors: Float32Array | undefined,
  path: string,
): RopeScaling | undefined {
  const linear = metadata.optionalNumber(key('rope.scale_linear'));
  const type =
    metadata.optionalString(key('rope.scaling.type')) ?? (linear === undefined ? 'none' : 'linear');
  if (type !== 'none' && type !== 'linear') throw unsupported(path, `rope scaling of type ${type}`);
  const factor = type === 'linear' ? (metadata.optionalNumber(key('rope.scaling.factor')) ?? linear ?? 1) : 1;
  if (ropeFactors && factor !== 1)
    throw unsupported(path, 'rope_freqs.weight together with linear rope scaling');
  if (ropeFactors) return { type: 'factors', factors: [...ropeFactors] };
  return factor === 1 ? undefined : { type: 'linear', factor };
}

function unsupported(path: string, what: string): RadixkvError {
  return new RadixkvError('unsupported_model', `${path}: ${what} is not supported`);
}
