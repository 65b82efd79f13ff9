# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# MLX's side of the suite ops (after peer_loop.py and ops_loop.py): as it is, and with mx.compile. MLX is lazy: a call
# computes nothing until its result is evaluated, which happens to every one here.
with importing("MLX"):
    import mlx.core as mx

require_gpu("MLX", lambda: mx.is_available(mx.gpu))
mx.set_default_device(mx.gpu if device == "cuda" else mx.cpu)
print("mlx", mx.__version__, "on", mx.default_device())

TYPES = {"f32": mx.float32, "bf16": mx.bfloat16, "f16": mx.float16}


def randn(*shape, dtype, scale=1.0):
    x = (mx.random.normal(shape) * scale).astype(dtype)
    mx.eval(x)
    return x


# A case is a function and its argument; what else there is, it captures.
def lora(x, layers):
    def call(x):
        for a, b in layers:
            x = (x @ a @ b) * 0.5
        return x

    return call, x


def mlp(x, up, down):
    def call(x):
        y = x @ up
        return (0.5 * y * (1 + mx.tanh(0.7978845608028654 * (y + 0.044715 * y * y * y)))) @ down

    return call, x


def attention(q, k, v):
    scale, mask = q.shape[-1] ** -0.5, "causal" if q.shape[2] > 1 else None
    return lambda q: mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask), q


def chain(x, w):
    y = x
    for _ in range(8):
        y = mx.maximum(y * w + x, 0)
    return y


CASES = {
    "lora": lora,
    "mlp": mlp,
    "attention": attention,
    "softmax": lambda x, w, b: (lambda x: mx.softmax(x, -1), x),
    "rms_norm": lambda x, w, b: (lambda x: mx.fast.rms_norm(x, w, 1e-5), x),
    "layer_norm": lambda x, w, b: (lambda x: mx.fast.layer_norm(x, w, b, 1e-5), x),
    "elementwise": lambda x, w, b: (lambda x: x * mx.sigmoid(x) + w * x, x),
    "chain": lambda x, w, b: (lambda x: chain(x, w), x),
}


def prepare(mode, made):
    call, x = made
    if mode == "compile":
        call = mx.compile(call)
    return lambda: call(x)


def run(fn, depth):
    if depth == 1:
        mx.eval(fn())
        return
    results = []
    for _ in range(depth):
        results.append(fn())
        mx.async_eval(results[-1])
    mx.eval(results)


serve(TYPES, randn, CASES, prepare, run)
