/**
 * `ModelSpec` from a Hugging Face `config.json`. A detail whose graph we do not build is refused by name.
 *
 * Absent keys take the defaults of the model's configuration class. Hugging Face rotates split halves.
 */

import { z } from 'zod';
import type { RopeScaling, RopeSpec } from '#blend';
import { RadixkvError } from '../../errors.js';
import { checkedSpec } from '../check.js';
import type { Architecture, ModelSpec } from '../spec.js';

const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map([
  ['LlamaForCausalLM', 'llama'],
  ['MistralForCausalLM', 'mistral'],
  ['Qwen2ForCausalLM', 'qwen2'],
  ['Qwen3ForCausalLM', 'qwen3'],
]);

/** Both spellings: `type` of older files, `rope_type` since; `rope_parameters` also holds theta. */
const ropeSchema = z.object({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().optional(),
  factor: z.number().optional(),
  low_freq_factor: z.number().optional(),
  high_freq_factor: z.number().optional(),
  original_max_position_embeddings: z.number().optional(),
  partial_rotary_factor: z.number().optional(),
});

const configSchema = z.object({
  architectures: z.array(z.string()).min(1),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number().nullish(),
  head_dim: z.number().nullish(),
  vocab_size: z.number(),
  max_position_embeddings: z.number(),
  rms_norm_eps: z.number().default(1e-6),
  hidden_act: z.string().default('silu'),
  rope_theta: z.number().nullish(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  partial_rotary_factor: z.number().nullish(),
  sliding_window: z.number().nullish(),
  use_sliding_window: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().default(false),
  quantization_config: z.record(z.string(), z.unknown()).nullish(),
});
type Config = z.infer<typeof configSchema>;

/**
 * @param json the parsed `config.json`
 * @throws RadixkvError `unsupported_model`, or `corrupt_model` naming the key at fault
 */
export function configSpec(json: unknown, path: string): ModelSpec {
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) {
    throw new RadixkvError('corrupt_model', `${path}: ${z.prettifyError(parsed.error)}`, {
      cause: parsed.error,
    });
  }
  const config = parsed.data;
  const architecture = ARCHITECTURES.get(config.architectures[0]!);
  if (!architecture) throw unsupported(path, `architecture ${config.architectures[0]}`);
  refuseUnbuilt(config, path);
  return checkedSpec(
    {
      architecture,
      layers: config.num_hidden_layers,
      hidden: config.hidden_size,
      heads: config.num_attention_heads,
      kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDim: config.head_dim ?? config.hidden_size / config.num_attention_heads,
      intermediate: config.intermediate_size,
      vocab: config.vocab_size,
      contextTokens: Math.min(config.max_position_embeddings, slidingWindow(config, architecture)),
      normEpsilon: config.rms_norm_eps,
      rope: ropeSpec(config, path),
      qkvBias: architecture === 'qwen2' || config.attention_bias === true,
      qkNorm: architecture === 'qwen3',
      tiedEmbeddings: config.tie_word_embeddings,
    },
    path,
  );
}

function refuseUnbuilt(config: Config, path: string): void {
  const { quantization_config: quantisation } = config;
  if (quantisation) throw unsupported(path, `quantization_config (${String(quantisation.quant_method)})`);
  if (config.hidden_act !== 'silu') throw unsupported(path, `hidden_act ${config.hidden_act}`);
  if (config.mlp_bias) throw unsupported(path, 'mlp_bias');
}

/** The window that any layer uses; llama has none, and the qwens only when they say so. */
function slidingWindow(config: Config, architecture: Architecture): number {
  const used = architecture === 'mistral' || (architecture !== 'llama' && config.use_sliding_window === true);
  return used ? (config.sliding_window ?? Infinity) : Infinity;
}

function ropeSpec(config: Config, path: string): RopeSpec {
  const parameters = ropeSchema.safeParse(config.rope_parameters ?? config.rope_scaling ?? {});
  if (!parameters.success)
    throw new RadixkvError('corrupt_model', `${path}: ${z.prettifyError(parameters.error)}`);
  const nested = Object.values(config.rope_parameters ?? {}).some((value) => typeof value === 'object');
  if (nested) throw unsupported(path, 'rope_parameters that differ between layers');
  const rope = parameters.data;
  if ((rope.partial_rotary_factor ?? config.partial_rotary_factor ?? 1) !== 1) {
    throw unsupported(path, 'partial_rotary_factor');
  }
  const scaling = ropeScaling(rope, path);
  const theta = rope.rope_theta ?? config.rope_theta ?? 10_000;
  return { theta, interleaved: false, ...(scaling && { scaling }) };
}

function ropeScaling(rope: z.infer<typeof ropeSchema>, path: string): RopeScaling | undefined {
  const required = (key: keyof typeof rope): number => {
    const value = rope[key];
    if (typeof value === 'number') return value;
    throw new RadixkvError('corrupt_model', `${path}: rope scaling without ${key}`);
  };
  const type = rope.rope_type ?? rope.type ?? 'default';
  switch (type) {
    case 'default':
      return undefined;
    case 'linear':
      return { type, factor: required('factor') };
    case 'llama3':
      return {
        type,
        factor: required('factor'),
        lowFreqFactor: required('low_freq_factor'),
        highFreqFactor: required('high_freq_factor'),
        originalContextTokens: required('original_max_position_embeddings'),
      };
    default:
      throw unsupported(path, `rope scaling of type ${type}`);
  }
}

function unsupported(path: string, what: string): RadixkvError {
  return new RadixkvError('unsupported_model', `${path}: ${what} is not supported`);
}
