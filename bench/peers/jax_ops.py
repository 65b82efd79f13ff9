# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# JAX's side of the suite ops (after peer_loop.py): jax.jit. A call returns before its result is there; every one is
# waited for here.
try:
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Others need the device's memory, too.
    import jax
    import jax.numpy as jnp
except Exception as error:
    print("no JAX:", str(error).splitlines()[0])
    sys.exit(0)

if device == "cuda" and jax.default_backend() != "gpu":
    print("JAX sees no GPU")
    sys.exit(0)
print("jax", jax.__version__, "on", jax.default_backend())

MODES = ("jit",)
TYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
key = jax.random.key(0)


def randn(*shape, dtype, scale=1.0):
    global key
    key, now = jax.random.split(key)
    return (jax.random.normal(now, shape) * scale).astype(dtype).block_until_ready()


def lora(m, d, r, chain, dtype):
    x = randn(m, d, dtype=dtype)
    layers = [(randn(d, r, dtype=dtype, scale=0.1), randn(r, d, dtype=dtype, scale=0.1)) for _ in range(chain)]

    def call(x, layers):
        for a, b in layers:
            x = (x @ a @ b) * 0.5
        return x

    return call, (x, layers)


def mlp(m, d, hidden, dtype):
    x = randn(m, d, dtype=dtype)
    up, down = randn(d, hidden, dtype=dtype, scale=0.03), randn(hidden, d, dtype=dtype, scale=0.03)
    return lambda x, up, down: jax.nn.gelu(x @ up, approximate=True) @ down, (x, up, down)


def attention(batch, heads, queries, keys, d, dtype):
    # JAX has the heads after the positions.
    q = randn(batch, queries, heads, d, dtype=dtype)
    k, v = (randn(batch, keys, heads, d, dtype=dtype) for _ in range(2))
    return lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=queries > 1), (q, k, v)


def rms_norm(x, w, b):
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-5)).astype(x.dtype) * w


def layer_norm(x, w, b):
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, -1, keepdims=True)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-5)).astype(x.dtype) * w + b


def chain(x, w, b):
    y = x
    for _ in range(8):
        y = jnp.maximum(y * w + x, 0)
    return y


def rows(op, m, n, dtype):
    operands = randn(m, n, dtype=dtype), randn(n, dtype=dtype), randn(n, dtype=dtype)
    return {
        "softmax": lambda x, w, b: jax.nn.softmax(x, -1),
        "rms_norm": rms_norm,
        "layer_norm": layer_norm,
        "elementwise": lambda x, w, b: x * jax.nn.sigmoid(x) + w * x,
        "chain": chain,
    }[op], operands


def make(words):
    numbers = [int(word) for word in words[1:-1]]
    dtype = TYPES[words[-1]]
    build = {"lora": lora, "mlp": mlp, "attention": attention}.get(words[0])
    return build(*numbers, dtype) if build else rows(words[0], *numbers, dtype)


def prepare(mode, made):
    call, operands = made
    compiled = jax.jit(call)
    return lambda: compiled(*operands)


def run(fn, depth):
    jax.block_until_ready([fn() for _ in range(depth)])


serve(make, prepare, run)
