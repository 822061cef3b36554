/** Hugging Face's tensor names, for llama and its kin, as canonical names (see `weights.ts`). */

const TOP: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};

const LAYER: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
};

const LAYER_NAME = /^model\.layers\.(?<layer>\d+)\.(?<module>.+)\.(?<kind>weight|bias)$/;

/** The canonical name; a name that has none stays as it is, for the tensor check to refuse. */
export function canonicalName(name: string): string {
  const { layer, module, kind } = LAYER_NAME.exec(name)?.groups ?? {};
  const canonical = module === undefined ? undefined : LAYER[module];
  return canonical === undefined ? (TOP[name] ?? name) : `blk.${layer}.${canonical}.${kind}`;
}

/** Buffers that old exporters wrote; they follow from the config. */
export const isDerivedBuffer = (name: string): boolean => name.endsWith('.rotary_emb.inv_freq');
