# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# JAX's side of the suite ops (after peer_loop.py and ops_loop.py): jax.jit. A call returns before its result is there;
# every one is waited for here.
with importing("JAX"):
    import jax
    import jax.numpy as jnp

require_gpu("JAX", lambda: jax.default_backend() == "gpu")
print("jax", jax.__version__, "on", jax.default_backend())

TYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
key = jax.random.key(0)


def randn(*shape, dtype, scale=1.0):
    global key
    key, now = jax.random.split(key)
    return (jax.random.normal(now, shape) * scale).astype(dtype).block_until_ready()


def lora(x, layers):
    for a, b in layers:
        x = (x @ a @ b) * 0.5
    return x


def attention(*operands):
    # JAX has the heads after the positions.
    operands = jax.block_until_ready([jnp.swapaxes(x, 1, 2) for x in operands])
    is_causal = operands[0].shape[1] > 1
    return lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=is_causal), operands


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


def with_operands(call):
    return lambda *operands: (call, operands)


# A case is a function and its arguments.
CASES = {
    "attention": attention,
    "lora": with_operands(lora),
    "mlp": with_operands(lambda x, up, down: jax.nn.gelu(x @ up, approximate=True) @ down),
    "softmax": with_operands(lambda x, w, b: jax.nn.softmax(x, -1)),
    "rms_norm": with_operands(rms_norm),
    "layer_norm": with_operands(layer_norm),
    "elementwise": with_operands(lambda x, w, b: x * jax.nn.sigmoid(x) + w * x),
    "chain": with_operands(chain),
}


def prepare(mode, made):
    call, operands = made
    compiled = jax.jit(call)
    return lambda: compiled(*operands)


def run(fn, depth):
    jax.block_until_ready([fn() for _ in range(depth)])


serve(TYPES, randn, CASES, prepare, run)
