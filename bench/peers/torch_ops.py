# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the suite ops (after peer_loop.py and ops_loop.py): eager, torch.compile, and on a GPU a CUDA graph
# that is replayed.
with importing("PyTorch"):
    import torch
    import torch.nn.functional as F

torch.set_num_threads(threads)
torch.set_grad_enabled(False)
require_gpu("PyTorch", torch.cuda.is_available)
print("torch", torch.__version__, "on", device)

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def randn(*shape, dtype, scale=1.0):
    x = (torch.randn(*shape, device=device) * scale).to(dtype)
    if device == "cuda":
        torch.cuda.synchronize()
    return x


def lora(x, layers):
    def run():
        y = x
        for a, b in layers:
            y = (y @ a @ b) * 0.5
        return y

    return run


def attention(q, k, v):
    is_causal = q.shape[2] > 1
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


def chain(x, w):
    y = x
    for _ in range(8):
        y = torch.relu(y * w + x)
    return y


CASES = {
    "lora": lora,
    "mlp": lambda x, up, down: lambda: F.gelu(x @ up, approximate="tanh") @ down,
    "attention": attention,
    "softmax": lambda x, w, b: lambda: torch.softmax(x, -1),
    "rms_norm": lambda x, w, b: lambda shape=w.shape: F.rms_norm(x, shape, w, 1e-5),
    "layer_norm": lambda x, w, b: lambda shape=w.shape: F.layer_norm(x, shape, w, b, 1e-5),
    "elementwise": lambda x, w, b: lambda: x * torch.sigmoid(x) + w * x,
    "chain": lambda x, w, b: lambda: chain(x, w),
}


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
    if mode == "eager":
        return fn
    # For each case's own shapes. Otherwise the second case makes them dynamic, and the ninth is not compiled.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10000
    return torch.compile(fn, dynamic=False)


def run(fn, depth):
    for _ in range(depth):
        fn()
    if device == "cuda":
        torch.cuda.synchronize()


serve(TYPES, randn, CASES, prepare, run)
