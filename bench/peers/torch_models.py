# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the suites generate and train: Hugging Face's transformers, greedy, every token read; and LoRA of
# rank 8 on the query and value projections, with AdamW. Reads commands, one a line, and answers each with a number:
#   load PATH   the model in that folder: seconds to load it
#   first N     seconds from a prompt of N tokens to the first one after it
#   step N M    seconds a token for M - 1 tokens after that
#   peak N M    bytes of memory, at the peak of generating M tokens after N, that this process has resident
#   tune N      the loss of the first training step, on one sequence of N tokens
#   train N S   seconds a training step, of as many as take S seconds
#   trainpeak N bytes of memory, at the peak of three such steps, that this process has resident
import math
import sys
import time
import warnings

try:
    import torch
    import transformers
except Exception as error:
    print("no PyTorch with transformers:", str(error).splitlines()[0])
    sys.exit(0)

torch.set_num_threads(int(sys.argv[1]))
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")
print("torch", torch.__version__, "with transformers", transformers.__version__)


def some_tokens(count):
    return torch.arange(count)[None] * 7 % model.config.vocab_size


@torch.no_grad()
def generate(prompt_length, count):
    """The times at which the first and the last token were read, from the start."""
    tokens = some_tokens(prompt_length)
    start = time.perf_counter()
    past = None
    first = None
    for _ in range(count):
        output = model(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = output.past_key_values
        tokens = output.logits[:, -1].argmax(-1, keepdim=True)
        tokens.item()
        first = first or time.perf_counter()
    return first - start, time.perf_counter() - start


class LoraLinear(torch.nn.Module):
    def __init__(self, base, rank=8, scale=2.0):
        super().__init__()
        bound = 1 / math.sqrt(base.in_features)
        self.base, self.scale = base, scale
        self.a = torch.nn.Parameter(torch.empty(rank, base.in_features, dtype=torch.float32).uniform_(-bound, bound))
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, rank, dtype=torch.float32))

    def forward(self, x):
        return self.base(x) + (x @ self.a.to(x.dtype).T @ self.b.to(x.dtype).T) * self.scale


class Tuner:
    def __init__(self):
        model.requires_grad_(False)
        for layer in model.model.layers:
            layer.self_attn.q_proj = LoraLinear(layer.self_attn.q_proj)
            layer.self_attn.v_proj = LoraLinear(layer.self_attn.v_proj)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.01)

    def loss(self, length):
        tokens = some_tokens(length + 1)
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    def step(self, length):
        loss = self.loss(length)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def seconds_a_step(self, length, at_least):
        self.step(length)
        start = time.perf_counter()
        steps = 0
        while steps == 0 or time.perf_counter() - start < at_least:
            self.step(length)
            steps += 1
        return (time.perf_counter() - start) / steps


def peak_bytes(fn):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    fn()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024


def answer(line):
    global model, tuner
    command, rest = line.split(" ", 1)
    if command == "load":
        model = tuner = None
        start = time.perf_counter()
        model = transformers.AutoModelForCausalLM.from_pretrained(rest, dtype="auto").eval()
        return time.perf_counter() - start
    numbers = [float(word) for word in rest.split()]
    length = numbers[0] = int(numbers[0])
    if command == "first":
        return generate(length, 1)[0]
    if command == "step":
        first, last = generate(length, int(numbers[1]))
        return (last - first) / (numbers[1] - 1)
    if command == "peak":
        return peak_bytes(lambda: generate(length, int(numbers[1])))
    tuner = tuner or Tuner()
    if command == "tune":
        return tuner.step(length)
    if command == "train":
        return tuner.seconds_a_step(*numbers)
    return peak_bytes(lambda: [tuner.step(length) for _ in range(3)])


model = None
tuner = None
for line in sys.stdin:
    try:
        print(answer(line.strip()))
    except Exception as error:
        print("error:", str(error).splitlines()[0])
