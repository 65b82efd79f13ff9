# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the suite ops (after peer_loop.py): eager, torch.compile, and on a GPU a CUDA graph that is replayed.
try:
    import torch
    import torch.nn.functional as F
except Exception as error:
    print("no PyTorch:", str(error).splitlines()[0])
    sys.exit(0)

torch.set_num_threads(threads)
torch.set_grad_enabled(False)
if device == "cuda" and not torch.cuda.is_available():
    print("PyTorch sees no GPU")
    sys.exit(0)
# Each case is compiled for its own shapes. Otherwise the second case makes them dynamic, and the ninth is not compiled.
torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10000
print("torch", torch.__version__, "on", device)

MODES = ("eager", "compile") + (("graph",) if device == "cuda" else ())
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


def attention(batch, heads, queries, keys, d, dtype):
    q = randn(batch, heads, queries, d, dtype=dtype)
    k, v = (randn(batch, heads, keys, d, dtype=dtype) for _ in range(2))
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=queries > 1)


def chain(x, w):
    y = x
    for _ in range(8):
        y = torch.relu(y * w + x)
    return y


def rows(op, m, n, dtype):
    x, w, b = randn(m, n, dtype=dtype), randn(n, dtype=dtype), randn(n, dtype=dtype)
    return {
        "softmax": lambda: torch.softmax(x, -1),
        "rms_norm": lambda: F.rms_norm(x, (n,), w, 1e-5),
        "layer_norm": lambda: F.layer_norm(x, (n,), w, b, 1e-5),
        "elementwise": lambda: x * torch.sigmoid(x) + w * x,
        "chain": lambda: chain(x, w),
    }[op]


def make(words):
    numbers = [int(word) for word in words[1:-1]]
    dtype = TYPES[words[-1]]
    build = {"lora": lora, "mlp": mlp, "attention": attention}.get(words[0])
    return build(*numbers, dtype) if build else rows(words[0], *numbers, dtype)


class Graph:
    """Captured when first called."""

    def __init__(self, fn):
        self.fn, self.graph = fn, None

    def __call__(self):
        if self.graph is None:
            for _ in range(3):
                self.fn()
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.fn()
        self.graph.replay()


def prepare(mode, fn):
    if mode == "graph":
        return Graph(fn)
    return torch.compile(fn, dynamic=False) if mode == "compile" else fn


def run(fn, depth):
    for _ in range(depth):
        fn()
    if device == "cuda":
        torch.cuda.synchronize()


serve(make, prepare, run)
