"""Tiny random-weight models of every supported architecture, and their logits.

Writes tests/golden/tiny/<name>/: a model file in Hugging Face layout or GGUF, `logits.bin` (float32, little endian,
`[positions, vocab]` at every second position, by `transformers` in float32 with eager attention) and `golden.json` (what it is, the prompt's
tokens, versions). The weights are what the file holds: rounded to the file's type first, then run in float32, so an
importer owes the logits nothing but float32 rounding. Norm weights are not 1 and biases not 0, so that a forgotten
one shows. Deterministic: the seed is the model's place in the list.

Run: python3 tests/golden/make_tiny_models.py   (torch, transformers, tokenizers, safetensors, gguf, numpy)
"""

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

ROOT = Path(__file__).parent / "tiny"
VERSIONS = {
    "python": platform.python_version(),
    "torch": torch.__version__.split("+")[0],
    "transformers": transformers.__version__,
    "tokenizers": tokenizers.__version__,
    "gguf": version("gguf"),
    "numpy": np.__version__,
}
PROMPT_TOKENS = 40
POSITIONS = list(range(1, PROMPT_TOKENS, 2))
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

SMALL = dict(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=1,
)
LLAMA3_ROPE = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=256,
    rope_theta=10000.0,
)


def rope(theta=10000.0, **scaling):
    return {"rope_type": "default", "rope_theta": theta, **scaling}


def make_model(config, seed):
    """A model with every parameter drawn anew: matrices N(0, 0.15), norms 1 + N(0, 0.2), biases N(0, 0.2)."""
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_((0.2 if name.endswith("bias") else 0.15) * noise)
    return model


def round_weights(model, rounded):
    """Replaces every parameter by `rounded(name, parameter)`."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(rounded(name, parameter))


def prompt_tokens(vocab, seed):
    return np.random.default_rng(seed).integers(0, vocab, PROMPT_TOKENS).tolist()


def write_golden(folder, model, tokens, **facts):
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].float().numpy()
    assert logits.std() > 0.5, "degenerate logits"
    (folder / "logits.bin").write_bytes(logits[POSITIONS].astype("<f4").tobytes())
    golden = {
        **facts,
        "architecture": model.config.model_type,
        "vocab": model.config.vocab_size,
        "tokens": tokens,
        "positions": POSITIONS,
        "versions": VERSIONS,
    }
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    return logits


def fresh_folder(name):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def older_config(config):
    """config.json as transformers 4 wrote it, which is what most published models have."""
    rope_parameters = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope_parameters.pop("rope_theta")
    kind = rope_parameters.get("rope_type")
    config["rope_scaling"] = None if kind == "default" else rope_parameters
    if kind == "linear":
        rope_parameters["type"] = rope_parameters.pop("rope_type")
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.46.0"
    return config


def write_safetensors(folder, model, dtype, shards):
    state = {name: value.detach().to(DTYPES[dtype]).contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(state)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: state[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    total = sum(value.numel() * value.element_size() for value in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def hugging_face(name, seed, config, dtype="F32", shards=1, config_style="older", prepare=None):
    folder = fresh_folder(name)
    model = make_model(config, seed)
    if prepare:
        prepare(model)
    round_weights(model, lambda _, value: value.to(DTYPES[dtype]).float())
    written = json.loads(config.to_json_string(use_diff=False))
    keep = [*SMALL, "model_type", "attention_bias", "mlp_bias", "hidden_act", "sliding_window", "use_sliding_window",
            "rope_parameters", "architectures"]
    written = {key: written[key] for key in keep if key in written}
    written["architectures"] = [type(model).__name__]
    written["dtype"] = str(DTYPES[dtype]).removeprefix("torch.")
    if config_style == "older":
        written = older_config(written)
    (folder / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    write_safetensors(folder, model, dtype, shards)
    # The files themselves must give the logits, not only the model in memory.
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = prompt_tokens(config.vocab_size, seed)
    logits = write_golden(folder, loaded, tokens, format="hf", weights=dtype)
    with torch.no_grad():
        direct = model(torch.tensor([tokens])).logits[0].numpy()
    assert np.abs(direct - logits).max() < 1e-5, name
    return model


# --- GGUF -------------------------------------------------------------------------------------------------------


def gguf_name(name):
    """The GGUF name of a Hugging Face parameter."""
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    part = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    stem, kind = name.rsplit(".", 1)
    if stem in whole:
        return f"{whole[stem]}.{kind}"
    layer, rest = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{part[rest]}.{kind}"


def interleave(matrix, heads):
    """Rows of a query or key projection in GGUF's llama order: pair (i, i + d/2) of a head becomes (2i, 2i + 1)."""
    rows = matrix.shape[0]
    return matrix.reshape(heads, 2, rows // heads // 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)


def llama3_factors(config):
    """Divisors of the rotary frequencies, as GGUF keeps them in `rope_freqs.weight`."""
    p, half = config.rope_parameters, config.head_dim // 2
    frequencies = 1.0 / (p["rope_theta"] ** (np.arange(half) / half))
    wavelengths = 2 * np.pi / frequencies
    original = p["original_max_position_embeddings"]
    smooth = (original / wavelengths - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"])
    return (1 / (np.clip(smooth, 0, 1) * (1 - 1 / p["factor"]) + 1 / p["factor"])).astype(np.float32)


def gguf_model(name, seed, config, types):
    """`types(gguf tensor name)` picks the type of each matrix; vectors stay F32."""
    folder = fresh_folder(name)
    model = make_model(config, seed)
    interleaved = config.model_type in ("llama", "mistral")
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama" if interleaved else config.model_type)
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    letters = byte_letters()
    merged = letters[ord("a")] + letters[ord("b")]
    letters[255] = merged  # one merge, because an empty array has no type in GGUF
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(letters)
    writer.add_token_types([gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(letters) - 2))
    writer.add_token_merges([f"{merged[0]} {merged[1]}"])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)

    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    used = set()

    def add(parameter, value):
        tensor = gguf_name(parameter)
        array = value.detach().numpy()
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(tensor.split(".")[-2])
        permuted = interleaved and heads is not None
        stored = np.ascontiguousarray(interleave(array, heads) if permuted else array)
        kind = types(tensor) if stored.ndim == 2 else gguf.GGMLQuantizationType.F32
        used.add(kind.name)
        data = gguf.quants.quantize(stored, kind)
        writer.add_tensor(tensor, data, raw_dtype=kind)
        exact = gguf.quants.dequantize(data, kind).reshape(stored.shape)
        if permuted:  # back to Hugging Face order, for the reference
            exact = exact.reshape(heads, -1, 2, *exact.shape[1:]).swapaxes(1, 2).reshape(exact.shape)
        return torch.from_numpy(np.ascontiguousarray(exact, dtype=np.float32))

    round_weights(model, add)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_golden(folder, model, prompt_tokens(config.vocab_size, seed), format="gguf", weights=", ".join(sorted(used)))


def byte_letters():
    """The printable letter that byte-level BPE uses for each byte, in byte order."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


# --- The chat model ---------------------------------------------------------------------------------------------

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
    "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHAT_MESSAGES = [
    {"role": "system", "content": "You answer in one line."},
    {"role": "user", "content": "Où est la gare? 🚉\nMerci!"},
]


def chat_model(seed):
    """A model one can hold a (meaningless) conversation with: token n is byte n, then three specials."""
    config = LlamaConfig(**{**SMALL, "vocab_size": 259, "max_position_embeddings": 2048, "tie_word_embeddings": False,
                            "bos_token_id": 256, "eos_token_id": 258}, rope_parameters=rope())  # fmt: skip

    def never_special(model):
        # Greedy text must not end by itself, so that tests decide its length.
        with torch.no_grad():
            model.lm_head.weight[256:] *= 0.01

    hugging_face("chat", seed, config, "BF16", prepare=never_special)
    folder = ROOT / "chat"
    letters = byte_letters()
    tokenizer = Tokenizer(models.BPE({letter: byte for byte, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[0],
        "eos_token": SPECIALS[2],
        "pad_token": SPECIALS[0],
        "add_bos_token": False,
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=1) + "\n")
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    text = reference.apply_chat_template(CHAT_MESSAGES, tokenize=False, add_generation_prompt=True)
    golden = json.loads((folder / "golden.json").read_text())
    golden["chat"] = {"messages": CHAT_MESSAGES, "text": text, "tokens": reference(text)["input_ids"]}
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


def main():
    torch.set_num_threads(1)
    wide_heads = {**SMALL, "head_dim": 32, "tie_word_embeddings": False}
    longer = {**SMALL, "max_position_embeddings": 512}
    hugging_face("llama", 1, LlamaConfig(**SMALL, rope_parameters=rope()))
    hugging_face("llama-rope-llama3", 2, LlamaConfig(**longer, rope_parameters=LLAMA3_ROPE), "F16", config_style="newer")
    hugging_face("llama-rope-linear", 3, LlamaConfig(**SMALL, rope_parameters=rope(rope_type="linear", factor=4.0)), "BF16")
    hugging_face("llama-untied-wide-heads", 4, LlamaConfig(**wide_heads, rope_parameters=rope(500000.0)), "F16", shards=2)
    mistral = {**SMALL, "num_hidden_layers": 3, "tie_word_embeddings": False}
    hugging_face("mistral", 5, MistralConfig(**mistral, sliding_window=None, rope_parameters=rope(1e6)), "BF16")
    hugging_face("mistral-window", 6, MistralConfig(**SMALL, sliding_window=48, rope_parameters=rope()), "BF16")
    hugging_face("qwen2", 7, Qwen2Config(**SMALL, use_sliding_window=False, rope_parameters=rope(1e6)), "F16")
    qwen3 = {**SMALL, "head_dim": 32}
    hugging_face("qwen3", 8, Qwen3Config(**qwen3, use_sliding_window=False, rope_parameters=rope(1e6)), "BF16", config_style="newer")
    chat_model(9)

    Q = gguf.GGMLQuantizationType
    gguf_model("gguf-llama-f16", 10, LlamaConfig(**SMALL, rope_parameters=rope()), lambda _: Q.F16)
    gguf_model("gguf-llama-q8_0", 11, LlamaConfig(**SMALL, rope_parameters=rope()), lambda _: Q.Q8_0)
    # As published Q4_1 files are: the embedding in eight bits, the rest in four.
    q4_1 = lambda name: Q.Q8_0 if name == "token_embd.weight" else Q.Q4_1
    gguf_model("gguf-llama-q4_1", 12, LlamaConfig(**longer, rope_parameters=LLAMA3_ROPE), q4_1)
    gguf_model("gguf-qwen3-bf16", 13, Qwen3Config(**qwen3, rope_parameters=rope(1e6)), lambda _: Q.BF16)
    others = {"attn_q": Q.Q4_0, "attn_k": Q.Q5_0, "attn_v": Q.Q5_1, "attn_output": Q.Q4_1}
    mixed = lambda name: others.get(name.split(".")[-2], Q.Q8_0)
    gguf_model("gguf-qwen2-mixed", 14, Qwen2Config(**SMALL, rope_parameters=rope(1e6)), mixed)


if __name__ == "__main__":
    main()
