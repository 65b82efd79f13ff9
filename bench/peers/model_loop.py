# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# What the peers of the suites generate and train share; goes between peer_loop.py and their scripts. Commands:
#   load FOLDER     the model in that folder: seconds to load it
#   first N         seconds from a prompt of N tokens to the first one after it, greedy
#   step N M        seconds a token for M - 1 tokens after that, each read
#   token N M       the last of M tokens after a prompt of N
#   peak N M        bytes of memory, at the peak of generating M tokens after N: on the CPU those that this process has
#                   resident, on a GPU those that the framework has allocated
#   tune B N        the loss of the first training step, on B sequences of N tokens: LoRA of rank 8 on the query and
#                   value projections, gradients clipped, AdamW
#   train B N S     seconds a training step, of as many as take S seconds, each one's loss read
#   trainpeak B N   bytes of memory, as above, at the peak of three such steps
# stepcompiled and traincompiled are step and train in a compiled form, where there is another.
import glob
import json
import math
import types


def some_tokens(count):
    return [i * 7 % model.vocab_size for i in range(count)]


def generate(prompt_length, count, compiled):
    """The times at which the first and the last token were read, from the start; and the last token."""
    tokens = model.generate(some_tokens(prompt_length), count, compiled)
    start, first = time.perf_counter(), None
    for token in tokens:
        first = first or time.perf_counter()
    return first - start, time.perf_counter() - start, token


def seconds_of(fn):
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def peak_bytes(fn, device_peak):
    if device != "cpu":
        return device_peak(fn)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    fn()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024


def serve_models(load, tune, device_peak, commands={}, patience=math.inf, free=lambda: None):
    """load(folder): a model with vocab_size, and generate(tokens, count, compiled), which gets ready and returns an
    iterator over tokens. tune(model): a tuner, whose step(tokens, batch, compiled) returns the loss.
    device_peak(fn): what a GPU's memory was at its peak. commands: further ones, with what answers them.
    free(): gives a GPU's memory that is not in use to others, who take turns.
    patience: a peer that took longer than so many seconds is not asked again."""
    global model
    tuner, remembered = None, {}

    def train_until(step, steps, at_least):
        """Seconds a step: of the first if that was beyond patience."""
        elapsed = seconds_of(step)
        if elapsed > patience:
            return elapsed
        elapsed, count = 0.0, 0
        while count < steps or elapsed < at_least:
            elapsed += seconds_of(step)
            count += 1
        return elapsed / count

    def answer(line):
        global model
        nonlocal tuner
        command, rest = line.split(" ", 1)
        if command == "load":
            model = tuner = None
            remembered.clear()
            start = time.perf_counter()
            model = load(rest)
            return time.perf_counter() - start
        if command in commands:
            return commands[command](rest)
        numbers = [float(word) for word in rest.split()]
        sizes = [int(number) for number in numbers[:2]]
        compiled = command.endswith("compiled")
        command = command.removesuffix("compiled")
        if command == "first":
            return generate(sizes[0], 1, compiled)[0]
        if command == "step":
            first, last, _ = generate(*sizes, compiled)
            return (last - first) / (sizes[1] - 1)
        if command == "token":
            return generate(*sizes, compiled)[2]
        if command == "peak":
            return peak_bytes(lambda: generate(*sizes, compiled), device_peak)
        tuner = tuner or tune(model)
        step = lambda: tuner.step(some_tokens(sizes[1] + 1), sizes[0], compiled)
        if command == "tune":
            return step()
        if command == "train":
            return train_until(step, 1, numbers[2])
        if command == "trainpeak":
            return peak_bytes(lambda: train_until(step, 2, 0), device_peak)
        raise ValueError("no such command")

    def remembering(line):
        if line in remembered:
            return remembered[line]
        start = time.perf_counter()
        result = answer(line)
        if time.perf_counter() - start > patience:
            remembered[line] = result
        free()
        return result

    release_cores()
    answer_lines(remembering)


class Decoder:
    """A decoder as Qwen2 and Llama have it, in what the arrays of MLX and JAX have in common. Subclasses have
    read(file), zeros(shape, dtype), evaluate(arrays), silu(x), rms_norm(x, weight), uniform(shape, bound) and
    stepper(prompt, count)."""

    def __init__(self, folder):
        with open(folder + "/config.json") as file:
            config = types.SimpleNamespace(**json.load(file))
        if config.model_type not in ("qwen2", "llama") or getattr(config, "rope_scaling", None):
            raise ValueError(f"this script knows no {config.model_type} with such positions")
        self.config, self.vocab_size = config, config.vocab_size
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.rope_base = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
        self.weights = {}
        for file in sorted(glob.glob(glob.escape(folder) + "/*.safetensors")):
            self.weights.update(self.read(file))
        self.evaluate(self.weights)

    def linear(self, weights, adapter, name, x):
        y = x @ weights[name + ".weight"].T
        if name + ".bias" in weights:
            y = y + weights[name + ".bias"]
        if name in adapter:
            a, b = (factor.astype(x.dtype) for factor in adapter[name])
            y = y + (x @ a.T @ b.T) * 2.0
        return y

    def hidden(self, weights, adapter, tokens, attend):
        """attend(layer, q, k, v), of projections that are not split into heads."""
        x = weights["model.embed_tokens.weight"][tokens]
        for layer in range(self.config.num_hidden_layers):
            name = f"model.layers.{layer}."
            linear = lambda part, y: self.linear(weights, adapter, name + part, y)
            y = self.rms_norm(x, weights[name + "input_layernorm.weight"])
            y = attend(layer, *(linear(f"self_attn.{part}_proj", y) for part in "qkv"))
            x = x + linear("self_attn.o_proj", y)
            y = self.rms_norm(x, weights[name + "post_attention_layernorm.weight"])
            y = self.silu(linear("mlp.gate_proj", y)) * linear("mlp.up_proj", y)
            x = x + linear("mlp.down_proj", y)
        return self.rms_norm(x, weights["model.norm.weight"])

    def logits(self, weights, x):
        return x @ weights.get("lm_head.weight", weights["model.embed_tokens.weight"]).T

    def new_cache(self, *shape):
        """Zeros for the keys and values of each layer."""
        dtype = self.weights["model.norm.weight"].dtype
        cache = [[self.zeros(shape, dtype) for _ in "kv"] for _ in range(self.config.num_hidden_layers)]
        self.evaluate(cache)
        return cache

    def new_adapter(self):
        adapter = {}
        for layer in range(self.config.num_hidden_layers):
            for part in "qv":
                name = f"model.layers.{layer}.self_attn.{part}_proj"
                rows, columns = self.weights[name + ".weight"].shape
                adapter[name] = [self.uniform((8, columns), columns**-0.5), self.uniform((rows, 8), 0.0)]
        return adapter

    def generate(self, prompt, count, compiled):
        """The next token is on its way when one is read, as these frameworks' own generators have it."""
        step = self.stepper(len(prompt), count)

        def tokens():
            token = step([prompt])
            for i in range(1, count + 1):
                following = step(token) if i < count else None
                yield token.item()
                token = following

        return tokens()
