# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# MLX's side of the suite ops (after peer_loop.py): as it is, and with mx.compile. MLX is lazy: a call computes nothing
# until its result is evaluated, which happens to every one here.
try:
    import mlx
    import mlx.core as mx
except Exception as error:
    print("no MLX:", str(error).splitlines()[0])
    sys.exit(0)

if device == "cuda" and not mx.is_available(mx.gpu):
    print("MLX sees no GPU")
    sys.exit(0)
mx.set_default_device(mx.gpu if device == "cuda" else mx.cpu)
print("mlx", mx.__version__, "on", mx.default_device())

MODES = ("eager", "compile")
TYPES = {"f32": mx.float32, "bf16": mx.bfloat16, "f16": mx.float16}


def randn(*shape, dtype, scale=1.0):
    x = (mx.random.normal(shape) * scale).astype(dtype)
    mx.eval(x)
    return x


def lora(m, d, r, chain, dtype):
    x = randn(m, d, dtype=dtype)
    layers = [(randn(d, r, dtype=dtype, scale=0.1), randn(r, d, dtype=dtype, scale=0.1)) for _ in range(chain)]

    def call(x):
        for a, b in layers:
            x = (x @ a @ b) * 0.5
        return x

    return call, x


def mlp(m, d, hidden, dtype):
    up, down = randn(d, hidden, dtype=dtype, scale=0.03), randn(hidden, d, dtype=dtype, scale=0.03)

    def call(x):
        y = x @ up
        return (0.5 * y * (1 + mx.tanh(0.7978845608028654 * (y + 0.044715 * y * y * y)))) @ down

    return call, randn(m, d, dtype=dtype)


def attention(batch, heads, queries, keys, d, dtype):
    k, v = (randn(batch, heads, keys, d, dtype=dtype) for _ in range(2))
    mask = "causal" if queries > 1 else None

    def call(q):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=d**-0.5, mask=mask)

    return call, randn(batch, heads, queries, d, dtype=dtype)


def chain(x, w):
    y = x
    for _ in range(8):
        y = mx.maximum(y * w + x, 0)
    return y


def rows(op, m, n, dtype):
    x, w, b = randn(m, n, dtype=dtype), randn(n, dtype=dtype), randn(n, dtype=dtype)
    return {
        "softmax": lambda x: mx.softmax(x, -1),
        "rms_norm": lambda x: mx.fast.rms_norm(x, w, 1e-5),
        "layer_norm": lambda x: mx.fast.layer_norm(x, w, b, 1e-5),
        "elementwise": lambda x: x * mx.sigmoid(x) + w * x,
        "chain": lambda x: chain(x, w),
    }[op], x


def make(words):
    numbers = [int(word) for word in words[1:-1]]
    dtype = TYPES[words[-1]]
    build = {"lora": lora, "mlp": mlp, "attention": attention}.get(words[0])
    return build(*numbers, dtype) if build else rows(words[0], *numbers, dtype)


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


serve(make, prepare, run)
