# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the generate suite: Hugging Face's transformers, greedy, every token read. Reads commands, one a
# line, and answers each with a number:
#   model {...}  a Qwen2 decoder of that configuration with random weights in bfloat16: seconds to make it
#   load PATH N  the model in that folder: seconds to load it and to the first token after a prompt of N tokens
#   first N      seconds from a prompt of N tokens to the first one after it
#   step N M     seconds a token for M - 1 tokens after that
#   peak N M     bytes of memory, at the peak of generating M tokens after N, that this process has resident
import json
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
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")
print("torch", torch.__version__, "with transformers", transformers.__version__)


def make_model(config):
    torch.set_default_dtype(torch.bfloat16)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**json.loads(config))).eval()
    torch.set_default_dtype(torch.float32)
    return model


def generate(model, prompt_length, count):
    """The times at which the first and the last token were read, from the start."""
    tokens = torch.arange(prompt_length)[None] * 7 % model.config.vocab_size
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


def peak_bytes(fn):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    fn()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024


def answer(line):
    global model
    command, rest = line.split(" ", 1)
    if command == "model":
        start = time.perf_counter()
        model = make_model(rest)
        return time.perf_counter() - start
    if command == "load":
        path, length = rest.rsplit(" ", 1)
        start = time.perf_counter()
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
        generate(model, int(length), 1)
        return time.perf_counter() - start
    numbers = [int(word) for word in rest.split()]
    if command == "first":
        return generate(model, numbers[0], 1)[0]
    if command == "step":
        first, last = generate(model, *numbers)
        return (last - first) / (numbers[1] - 1)
    return peak_bytes(lambda: generate(model, *numbers))


model = None
for line in sys.stdin:
    try:
        print(answer(line.strip()))
    except Exception as error:
        print("error:", str(error).splitlines()[0])
