"""Curvature of a GPT-2 with 10 million parameters, from 8 sequences of 64 tokens.

Needs transformers (``pip install ".[models]"``); weights are random, nothing is downloaded.
"""

import resource
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import vivit

torch.manual_seed(0)
config = GPT2Config(
    vocab_size=8192,
    n_positions=64,
    n_embd=256,
    n_layer=10,
    n_head=8,
    bos_token_id=0,
    eos_token_id=0,
)
model = GPT2LMHeadModel(config).eval()
batch = {"input_ids": torch.randint(1, config.vocab_size, (8, 64))}
loss_func = torch.nn.CrossEntropyLoss()  # over tokens; labels of -100 do not count

# Four random columns per sequence. Their expected curvature is exact, and so is the trace; but so
# few columns put all of it into 32 directions, and their leading eigenvalues are too large.
approximation = vivit.MonteCarlo(samples=4, seed=0)
started = time.perf_counter()
ggn = vivit.GGN(model, loss_func, batch, approximation=approximation, **vivit.causal_lm)
pairs = ggn.eigh(k=3)
seconds = time.perf_counter() - started
print(f"{ggn.shape[0]} parameters, {ggn.num_columns} columns: {seconds:.1f} s; {ggn.plan().done}")
print(
    f"trace {float(ggn.trace()):.4g}; leading eigenvalues of the estimate", pairs.values.tolist()
)

# The exact GGN has 8 x 63 x 8191 columns: products with it, and Lanczos iteration, need none.
started = time.perf_counter()
exact = vivit.GGN(model, loss_func, batch, **vivit.causal_lm)
vector = {name: x[-1] for name, x in pairs.vectors.items()}
curvature = exact.flatten(vector) @ exact.flatten(exact @ vector)
seconds = time.perf_counter() - started
print(f"exact curvature along the last of them {float(curvature):.4g}: {seconds:.1f} s")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"peak memory of the process: {peak:.1f} GiB")
