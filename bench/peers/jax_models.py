# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# JAX's side of the suites generate and train (after peer_loop.py and model_loop.py): jax.jit, of a step with a cache
# that is there from the start and donated, and of a whole training step with adapter and moments donated.
with importing("JAX with safetensors"):
    import jax
    import jax.numpy as jnp
    from safetensors.flax import load_file

require_gpu("JAX", lambda: jax.default_backend() == "gpu")
print("jax", jax.__version__, "on", jax.default_backend())


class Model(Decoder):
    def __init__(self, folder):
        super().__init__(folder)
        self.key = jax.random.key(0)
        self.jitted_step = jax.jit(self.step, donate_argnums=1)

    read = staticmethod(load_file)
    zeros = staticmethod(jnp.zeros)
    evaluate = staticmethod(jax.block_until_ready)
    silu = staticmethod(jax.nn.silu)

    def rms_norm(self, x, weight):
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.config.rms_norm_eps)
        return y.astype(x.dtype) * weight

    def uniform(self, shape, bound):
        self.key, key = jax.random.split(self.key)
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    def split(self, x):
        return x.reshape(*x.shape[:2], -1, self.head_dim)

    def rope(self, x, positions):
        frequencies = self.rope_base ** (-jnp.arange(0, self.head_dim, 2) / self.head_dim)
        angles = (positions[:, None] * frequencies)[:, None]
        sin, cos = jnp.sin(angles), jnp.cos(angles)
        low, high = jnp.split(self.split(x).astype(jnp.float32), 2, -1)
        return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], -1).astype(x.dtype)

    def step(self, weights, cache, tokens, offset):
        """The token after `tokens`, and the cache with them."""
        positions = offset + jnp.arange(tokens.shape[1])

        def attend(layer, q, k, v):
            new = self.rope(k, positions), self.split(v)
            k, v = cache[layer] = [
                jax.lax.dynamic_update_slice(all, part, (0, offset, 0, 0)) for all, part in zip(cache[layer], new)
            ]
            mask = jnp.arange(k.shape[1]) <= positions[:, None]
            y = jax.nn.dot_product_attention(self.rope(q, positions), k, v, mask=mask[None, None])
            return y.reshape(*q.shape)

        cache = list(cache)
        x = self.hidden(weights, {}, tokens, attend)
        return jnp.argmax(self.logits(weights, x[:, -1:]), -1), cache

    def stepper(self, prompt_length, count):
        # In steps of 64, as each size is compiled anew.
        cache = self.new_cache(1, -(-(prompt_length + count) // 64) * 64, self.kv_heads, self.head_dim)
        offset = 0

        def step(tokens):
            nonlocal cache, offset
            tokens = jnp.asarray(tokens)
            token, cache = self.jitted_step(self.weights, cache, tokens, offset)
            offset += tokens.shape[1]
            return token

        return step

    def loss(self, adapter, weights, tokens):
        positions = jnp.arange(tokens.shape[1] - 1)

        def attend(layer, q, k, v):
            q, k = (self.rope(x, positions) for x in (q, k))
            y = jax.nn.dot_product_attention(q, k, self.split(v), is_causal=True)
            return y.reshape(*y.shape[:2], -1)

        logits = self.logits(weights, self.hidden(weights, adapter, tokens[:, :-1], attend)).astype(jnp.float32)
        chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(logits, -1) - chosen)


class Tuner:
    def __init__(self, model):
        self.model = model
        adapter = model.new_adapter()
        zeros = lambda: jax.tree.map(jnp.zeros_like, adapter)
        self.state = adapter, zeros(), zeros(), jnp.zeros(())
        self.jitted = jax.jit(self.update, donate_argnums=0)

    def update(self, state, weights, tokens):
        """AdamW, as PyTorch has it."""
        adapter, means, squares, count = state
        loss, gradients = jax.value_and_grad(self.model.loss)(adapter, weights, tokens)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradients)))
        gradients = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (norm + 1e-6)), gradients)
        rate, count = 1e-5, count + 1
        means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradients)
        squares = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, squares, gradients)

        def moved(p, m, s):
            direction = m / (1 - 0.9**count) / (jnp.sqrt(s / (1 - 0.999**count)) + 1e-8)
            return p - rate * (direction + 0.01 * p)

        return loss, (jax.tree.map(moved, adapter, means, squares), means, squares, count)

    def step(self, tokens, batch, compiled):
        loss, self.state = self.jitted(self.state, self.model.weights, jnp.asarray([tokens] * batch))
        jax.block_until_ready(self.state)
        return loss.item()


def device_peak(fn):
    # Of the whole process: JAX cannot begin anew.
    fn()
    return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]


serve_models(Model, Tuner, device_peak)
