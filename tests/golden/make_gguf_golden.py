"""Golden vectors for the GGUF reader, made with the format's own Python package.

Versions used: Python 3.11.7, gguf 0.19.0, numpy 2.4.6. Deterministic: run it again and the files do not change.

    python tests/golden/make_gguf_golden.py

Writes beside itself:
  gguf_blocks.json    per tensor type: whole blocks and the float32 values gguf.quants.dequantize gives them (base64).
                      Random bytes with finite random scales, then blocks with scales of +-0, the smallest subnormal,
                      the largest subnormal, the smallest normal and +-the largest float16.
  tiny_llama.gguf     a llama of one layer with random weights in several types, written by gguf.GGUFWriter.
  tiny_llama.json     the tensors of that file: name, shape, SHA-256 of the float32 values.
"""

import base64
import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

HERE = Path(__file__).parent
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
# Byte offsets of the float16 fields of each block type.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
EXTREMES = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF], dtype=np.uint16)


def encode(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def float_bytes(name: str, random: np.random.Generator) -> np.ndarray:
    bits = random.integers(0, 65536, size=96, dtype=np.uint16)
    if name == "F32":
        return np.concatenate([bits, EXTREMES]).view(np.uint8)
    if name == "F16":
        bits[(bits & 0x7C00) == 0x7C00] = 0xFC00  # infinities; NaN payloads are not worth comparing
    else:
        bits[(bits & 0x7F80) == 0x7F80] = 0xFF80
    return np.concatenate([bits, EXTREMES]).view(np.uint8)


def block_bytes(name: str, random: np.random.Generator) -> np.ndarray:
    qtype = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[qtype]
    extremes = len(EXTREMES) if elements == 32 else 4
    count = extremes + (8 if elements == 32 else 2)
    blocks = random.integers(0, 256, size=(count, size), dtype=np.uint8)
    for field, at in enumerate(HALVES[name]):
        scales = (random.standard_normal(count) * 0.05).astype(np.float16).view(np.uint16)
        scales[:extremes] = np.roll(EXTREMES, field * 3 + (1 if elements == 256 else 0))[:extremes]
        blocks[:, at:at + 2] = scales.reshape(-1, 1).view(np.uint8)
    return blocks.reshape(1, -1)


def write_blocks() -> None:
    random = np.random.default_rng(20)
    golden = {}
    for name in TYPES:
        data = block_bytes(name, random) if name in HALVES else float_bytes(name, random)
        values = dequantize(data, gguf.GGMLQuantizationType[name]).astype(np.float32)
        golden[name] = {"bytes": encode(data), "values": encode(values)}
    (HERE / "gguf_blocks.json").write_text(json.dumps(golden, indent=1) + "\n")


def write_model() -> None:
    random = np.random.default_rng(21)
    hidden, heads, kv_heads, ffn, vocab = 64, 4, 2, 96, 24
    writer = gguf.GGUFWriter(HERE / "tiny_llama.gguf", "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(50000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"t{i}" for i in range(vocab)])
    writer.add_token_types([3] + [1] * (vocab - 1))
    writer.add_token_merges(["t 0", "t 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages }}")
    key_width = hidden // heads * kv_heads
    tensors = [
        ("token_embd.weight", (vocab, hidden), "Q8_0"), ("output_norm.weight", (hidden,), "F32"),
        ("blk.0.attn_norm.weight", (hidden,), "F32"), ("blk.0.attn_q.weight", (hidden, hidden), "Q4_1"),
        ("blk.0.attn_k.weight", (key_width, hidden), "Q4_1"), ("blk.0.attn_v.weight", (key_width, hidden), "Q5_0"),
        ("blk.0.attn_output.weight", (hidden, hidden), "Q4_0"), ("blk.0.ffn_norm.weight", (hidden,), "F32"),
        ("blk.0.ffn_gate.weight", (ffn, hidden), "Q4_1"), ("blk.0.ffn_up.weight", (ffn, hidden), "F16"),
        ("blk.0.ffn_down.weight", (hidden, ffn), "Q5_1"),
    ]
    golden = []
    for name, shape, type_name in tensors:
        qtype = gguf.GGMLQuantizationType[type_name]
        data = quantize(random.standard_normal(shape).astype(np.float32), qtype)
        writer.add_tensor(name, data, raw_dtype=qtype)
        values = hashlib.sha256(np.ascontiguousarray(dequantize(data, qtype)).tobytes()).hexdigest()
        golden.append({"name": name, "shape": shape, "sha256": values})
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (HERE / "tiny_llama.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    write_blocks()
    write_model()
