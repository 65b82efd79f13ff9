# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the engine suite (after peer_loop.py). Reads case names, one a line; answers each with the seconds
# that one call took, averaged over a batch of about two milliseconds.
with importing("PyTorch"):
    import torch
    import torch.nn.functional as F

torch.set_num_threads(threads)
torch.set_grad_enabled(False)
print("torch", torch.__version__)


def lora(m, d, r):
    x, a, b = torch.randn(m, d), torch.randn(d, r), torch.randn(r, d)
    return lambda: (x @ a @ b) * 0.5


def lora_chain(m, d, r):
    x = torch.randn(m, d)
    a, b, c, e = torch.randn(d, r), torch.randn(r, d), torch.randn(d, r), torch.randn(r, d)
    return lambda: ((((x @ a @ b) * 0.5) @ c @ e) * 0.5)


def rows(op, m, n):
    x, w, b = torch.randn(m, n), torch.randn(n), torch.randn(n)
    return {
        "softmax": lambda: torch.softmax(x, -1),
        "rms_norm": lambda: F.rms_norm(x, (n,), w, 1e-5),
        "layer_norm": lambda: F.layer_norm(x, (n,), w, b, 1e-5),
        "gelu": lambda: F.gelu(x),
    }[op]


def matmul(dtype, m, k, n):
    x = torch.randn(m, k).to(getattr(torch, dtype))
    w = torch.randn(k, n).to(getattr(torch, dtype))
    return lambda: x @ w


def make(words):
    numbers = [int(word) for word in words if word.isdigit()]
    name = words[0]
    if name == "lora":
        return lora(*numbers)
    if name == "lora_chain":
        return lora_chain(*numbers)
    if name == "matmul":
        return matmul(words[1], *numbers)
    return rows(name, *numbers)


cases = {}


def answer(key):
    if key not in cases:
        fn = make(key.split())
        fn()
        start = time.perf_counter()
        fn()
        cases[key] = (fn, max(1, int(2e-3 / max(time.perf_counter() - start, 1e-9))))
    fn, calls = cases[key]
    for _ in range(calls):
        fn()
    start = time.perf_counter()
    for _ in range(calls):
        fn()
    return (time.perf_counter() - start) / calls


answer_lines(answer)
