# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# MLX's side of the suites generate and train (after peer_loop.py and model_loop.py): its own fast functions, and one
# evaluation for each token and each training step. Everything has the dtype of the weights on the CPU, too: products of
# MLX's wheel for Linux run on one thread, at a few GFLOP/s in bf16 and at half of that in f32 (the reference BLAS).
with importing("MLX"):
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optimizers

require_gpu("MLX", lambda: mx.is_available(mx.gpu))
mx.set_default_device(mx.gpu if device == "cuda" else mx.cpu)
print("mlx", mx.__version__, "on", mx.default_device())


class Model(Decoder):
    read = staticmethod(mx.load)
    zeros = staticmethod(mx.zeros)
    evaluate = staticmethod(mx.eval)
    silu = staticmethod(nn.silu)

    def rms_norm(self, x, weight):
        return mx.fast.rms_norm(x, weight, self.config.rms_norm_eps)

    def uniform(self, shape, bound):
        return mx.random.uniform(-bound, bound, shape)

    def attention(self, q, k, v, offset=0, cache=None):
        batch, length, _ = q.shape
        split = lambda x: x.reshape(batch, length, -1, self.head_dim).transpose(0, 2, 1, 3)
        rope = lambda x: mx.fast.rope(
            split(x), self.head_dim, traditional=False, base=self.rope_base, scale=1.0, offset=offset
        )
        q, k, v = rope(q), rope(k), split(v)
        if cache:
            for all, new in zip(cache, (k, v)):
                all[..., offset : offset + length, :] = new
            k, v = (all[..., : offset + length, :] for all in cache)
        mask = "causal" if length > 1 else None
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.head_dim**-0.5, mask=mask)
        return y.transpose(0, 2, 1, 3).reshape(batch, length, -1)

    def stepper(self, prompt_length, count):
        caches = self.new_cache(1, self.kv_heads, prompt_length + count, self.head_dim)
        offset = 0

        def step(tokens):
            nonlocal offset
            tokens = mx.array(tokens)
            attend = lambda layer, q, k, v: self.attention(q, k, v, offset, caches[layer])
            x = self.hidden(self.weights, {}, tokens, attend)
            offset += tokens.shape[1]
            token = mx.argmax(self.logits(self.weights, x[:, -1:]), -1)
            mx.async_eval(token)
            return token

        return step


class Tuner:
    def __init__(self, model):
        self.adapter = model.new_adapter()
        self.optimizer = optimizers.AdamW(learning_rate=1e-5, weight_decay=0.01, bias_correction=True)
        self.optimizer.init(self.adapter)
        mx.eval(self.adapter, self.optimizer.state)

        def loss(adapter, tokens):
            attend = lambda layer, q, k, v: model.attention(q, k, v)
            logits = model.logits(model.weights, model.hidden(model.weights, adapter, tokens[:, :-1], attend))
            return nn.losses.cross_entropy(logits.astype(mx.float32), tokens[:, 1:], reduction="mean")

        def update(tokens):
            value, gradients = mx.value_and_grad(loss)(self.adapter, tokens)
            gradients, _ = optimizers.clip_grad_norm(gradients, 1.0)
            self.adapter.update(self.optimizer.apply_gradients(gradients, self.adapter))
            return value

        state = [self.adapter, self.optimizer.state]
        self.update = mx.compile(update, inputs=state, outputs=state)

    def step(self, tokens, batch, compiled):
        loss = self.update(mx.array([tokens] * batch))
        mx.eval(loss, self.adapter, self.optimizer.state)
        return loss.item()


def device_peak(fn):
    mx.clear_cache()
    mx.reset_peak_memory()
    fn()
    return mx.get_peak_memory()


serve_models(Model, Tuner, device_peak, patience=20 if device == "cpu" else math.inf, free=mx.clear_cache)
