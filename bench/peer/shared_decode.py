"""llama.cpp decoding sequences with a common prefix: `python3 shared_decode.py <gguf> <threads>`.

Needs llama-cpp-python 0.3.36. A line of JSON in, {"sequences", "shared", "own", "steps"}: that many sequences are
made, their common tokens computed once and shared by llama_memory_seq_cp in a unified KV cache, and decoded greedily
in one batch a step. A line of JSON out, {"ms": [...]}, a number a step, sampling included. As its authors advise:
flash attention, its own thread pool.
"""

import ctypes
import json
import sys
import time

import llama_cpp as llama
import numpy as np

gguf, threads = sys.argv[1], int(sys.argv[2])
quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
llama.llama_backend_init()
model = llama.llama_model_load_from_file(gguf.encode(), llama.llama_model_default_params())
vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))


def compute(context, batch, rows):
    """Decodes (token, position, sequence, wants logits) rows."""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, is_wanted) in enumerate(rows):
        batch.token[i], batch.pos[i] = token, position
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, is_wanted
    if llama.llama_decode(context, batch) != 0:
        raise RuntimeError("llama_decode failed")


def run(sequences, shared, own, steps):
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = shared + sequences * (own + steps) + 512
    parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_seq_max = sequences
    parameters.kv_unified = True
    parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
    parameters.n_threads = parameters.n_threads_batch = threads
    context = llama.llama_init_from_model(model, parameters)
    batch = llama.llama_batch_init(512, 0, 1)
    token = lambda i: 100 + i * 7919 % 20000
    for start in range(0, shared, 512):
        ends = min(shared, start + 512)
        compute(context, batch, [(token(i), i, 0, False) for i in range(start, ends)])
    for sequence in range(1, sequences):
        llama.llama_memory_seq_cp(llama.llama_get_memory(context), 0, sequence, 0, shared)
    for sequence in range(sequences):
        rows = [(token(i + 31 * sequence), shared + i, sequence, False) for i in range(own)]
        compute(context, batch, rows)
    tokens, ms = [1000 + sequence for sequence in range(sequences)], []
    for step in range(steps):
        begun = time.perf_counter()
        compute(context, batch, [(t, shared + own + step, s, True) for s, t in enumerate(tokens)])
        for sequence in range(sequences):
            logits = llama.llama_get_logits_ith(context, sequence)
            tokens[sequence] = int(np.argmax(np.ctypeslib.as_array(logits, shape=(vocab,))))
        ms.append(1000 * (time.perf_counter() - begun))
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    return ms


for line in sys.stdin:
    print(json.dumps({"ms": run(**json.loads(line))}), flush=True)
