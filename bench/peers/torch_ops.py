# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the suite ops. Reads "MODE DEPTH CASE...", one a line: MODE is eager, compile or graph (a CUDA graph
# that is replayed); DEPTH calls are queued before the device is waited for. Answers each with the seconds that one call
# took, averaged over a batch of about two milliseconds.
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except Exception as error:
    print("no PyTorch:", str(error).splitlines()[0])
    sys.exit(0)

torch.set_num_threads(int(sys.argv[1]))
torch.set_grad_enabled(False)
device = sys.argv[2]
if device == "cuda" and not torch.cuda.is_available():
    print("PyTorch sees no GPU")
    sys.exit(0)
print("torch", torch.__version__, "on", device)

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def randn(*shape, dtype, scale=1.0):
    return (torch.randn(*shape, device=device) * scale).to(dtype)


def lora(m, d, r, chain, dtype):
    x = randn(m, d, dtype=dtype)
    layers = [(randn(d, r, dtype=dtype, scale=0.1), randn(r, d, dtype=dtype, scale=0.1)) for _ in range(chain)]

    def run():
        y = x
        for a, b in layers:
            y = (y @ a @ b) * 0.5
        return y

    return run


def mlp(m, d, hidden, dtype):
    x = randn(m, d, dtype=dtype)
    up, down = randn(d, hidden, dtype=dtype, scale=0.03), randn(hidden, d, dtype=dtype, scale=0.03)
    return lambda: F.gelu(x @ up, approximate="tanh") @ down


def attention(batch, heads, length, d, dtype):
    q, k, v = (randn(batch, heads, length, d, dtype=dtype) for _ in range(3))
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)


def rows(op, m, n, dtype):
    x, w, b = randn(m, n, dtype=dtype), randn(n, dtype=dtype), randn(n, dtype=dtype)
    return {
        "softmax": lambda: torch.softmax(x, -1),
        "rms_norm": lambda: F.rms_norm(x, (n,), w, 1e-5),
        "layer_norm": lambda: F.layer_norm(x, (n,), w, b, 1e-5),
        "elementwise": lambda: x * torch.sigmoid(x) + w * x,
    }[op]


def make(words):
    numbers = [int(word) for word in words[1:-1]]
    dtype = TYPES[words[-1]]
    build = {"lora": lora, "mlp": mlp, "attention": attention}.get(words[0])
    return build(*numbers, dtype) if build else rows(words[0], *numbers, dtype)


def prepared(mode, fn):
    if mode == "compile":
        fn = torch.compile(fn)
    for _ in range(3):
        fn()
    if mode != "graph":
        return fn
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fn()
    return graph.replay


def wait():
    if device == "cuda":
        torch.cuda.synchronize()


def run(fn, depth):
    for _ in range(depth):
        fn()
    wait()


cases = {}
for line in sys.stdin:
    key = line.strip()
    try:
        if key not in cases:
            mode, depth, *words = key.split()
            fn, depth = prepared(mode, make(words)), int(depth)
            run(fn, depth)
            start = time.perf_counter()
            run(fn, depth)
            cases[key] = (fn, depth, max(1, int(2e-3 / max(time.perf_counter() - start, 1e-9))))
        fn, depth, calls = cases[key]
        run(fn, depth)
        start = time.perf_counter()
        for _ in range(calls):
            run(fn, depth)
        print((time.perf_counter() - start) / calls / depth)
    except Exception as error:
        print("error:", str(error).splitlines()[0])
