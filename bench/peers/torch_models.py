# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the suites generate and train: Hugging Face's transformers, greedy, every token read; and LoRA of
# rank 8 on the query and value projections, with AdamW. Reads commands, one a line, and answers each with a number:
#   load PATH       the model in that folder: seconds to load it
#   first N         seconds from a prompt of N tokens to the first one after it
#   step N M        seconds a token for M - 1 tokens after that
#   stepcompiled N M
#                   the same with a static cache and torch.compile
#   peak N M        bytes of memory, at the peak of generating M tokens after N: on the CPU those that this process has
#                   resident, on a GPU those that PyTorch has allocated
#   tune B N        the loss of the first training step, on B sequences of N tokens
#   train B N S     seconds a training step, of as many as take S seconds
#   traincompiled B N S
#                   the same with a model that torch.compile has compiled
#   encode TOKENIZER TEXT
#                   seconds in which Hugging Face's tokenizers encodes the text of a file
#   trainpeak B N   bytes of memory, as above, at the peak of three such steps
import math
import sys
import time
import warnings

try:
    import tokenizers
    import torch
    import transformers
except Exception as error:
    print("no PyTorch with transformers:", str(error).splitlines()[0])
    sys.exit(0)

torch.set_num_threads(int(sys.argv[1]))
device = sys.argv[2]
if device == "cuda" and not torch.cuda.is_available():
    print("PyTorch sees no GPU")
    sys.exit(0)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")
print("torch", torch.__version__, "with transformers", transformers.__version__, "on", device)


def some_tokens(count, batch=1):
    return (torch.arange(count, device=device)[None] * 7 % model.config.vocab_size).repeat(batch, 1)


def wait():
    if device == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def generate(prompt_length, count, compiled=False):
    """The times at which the first and the last token were read, from the start."""
    tokens = some_tokens(prompt_length)
    past = None
    step = model
    positions = {}
    if compiled:
        past = transformers.StaticCache(config=model.config, max_cache_len=prompt_length + count)
        step = compiled_step()
        positions = {"cache_position": torch.arange(prompt_length, device=device)}
    wait()
    start = time.perf_counter()
    first = None
    for i in range(count):
        call = model if i == 0 else step
        output = call(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1, **positions)
        past = output.past_key_values
        tokens = output.logits[:, -1].argmax(-1, keepdim=True)
        tokens.item()
        if compiled:
            positions = {"cache_position": torch.tensor([prompt_length + i], device=device)}
        first = first or time.perf_counter()
    return first - start, time.perf_counter() - start


def compiled_step():
    global step_function
    if step_function is None:
        step_function = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    return step_function


class LoraLinear(torch.nn.Module):
    def __init__(self, base, rank=8, scale=2.0):
        super().__init__()
        bound = 1 / math.sqrt(base.in_features)
        self.base, self.scale = base, scale
        kind = dict(dtype=torch.float32, device=device)
        self.a = torch.nn.Parameter(torch.empty(rank, base.in_features, **kind).uniform_(-bound, bound))
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, rank, **kind))

    def forward(self, x):
        return self.base(x) + (x @ self.a.to(x.dtype).T @ self.b.to(x.dtype).T) * self.scale


class Tuner:
    def __init__(self):
        model.requires_grad_(False)
        for layer in model.model.layers:
            layer.self_attn.q_proj = LoraLinear(layer.self_attn.q_proj)
            layer.self_attn.v_proj = LoraLinear(layer.self_attn.v_proj)
        self.compiled = None
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.01)

    def loss(self, batch, length, forward):
        tokens = some_tokens(length + 1, batch)
        logits = forward(input_ids=tokens[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    def step(self, batch, length, forward=None):
        loss = self.loss(batch, length, model if forward is None else forward)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def seconds_a_step(self, batch, length, at_least, compiled=False):
        forward = None
        if compiled:
            if self.compiled is None:
                self.compiled = torch.compile(model)
            forward = self.compiled
        self.step(batch, length, forward)
        wait()
        start = time.perf_counter()
        steps = 0
        while steps == 0 or time.perf_counter() - start < at_least:
            self.step(batch, length, forward)
            steps += 1
        return (time.perf_counter() - start) / steps


def peak_bytes(fn):
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        fn()
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    fn()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024


def answer(line):
    global model, tuner, step_function
    command, rest = line.split(" ", 1)
    if command == "load":
        model = tuner = step_function = None
        start = time.perf_counter()
        model = transformers.AutoModelForCausalLM.from_pretrained(rest, dtype="auto").to(device).eval()
        return time.perf_counter() - start
    if command == "encode":
        tokenizer_file, text_file = rest.split(" ", 1)
        tokenizer = tokenizers.Tokenizer.from_file(tokenizer_file)
        with open(text_file, encoding="utf-8", errors="replace", newline="") as file:
            text = file.read()
        start = time.perf_counter()
        tokenizer.encode(text)
        return time.perf_counter() - start
    numbers = [float(word) for word in rest.split()]
    sizes = [int(number) for number in numbers[:2]]
    if command == "first":
        return generate(sizes[0], 1)[0]
    if command in ("step", "stepcompiled"):
        first, last = generate(*sizes, compiled=command == "stepcompiled")
        return (last - first) / (sizes[1] - 1)
    if command == "peak":
        return peak_bytes(lambda: generate(*sizes))
    tuner = tuner or Tuner()
    if command == "tune":
        return tuner.step(*sizes)
    if command in ("train", "traincompiled"):
        return tuner.seconds_a_step(*sizes, numbers[2], compiled=command == "traincompiled")
    return peak_bytes(lambda: [tuner.step(*sizes) for _ in range(3)])


model = None
tuner = None
step_function = None
for line in sys.stdin:
    try:
        print(answer(line.strip()))
    except Exception as error:
        print("error:", str(error).splitlines()[0])
