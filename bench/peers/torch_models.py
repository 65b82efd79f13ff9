# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# PyTorch's side of the suites generate and train (after peer_loop.py and model_loop.py): Hugging Face's transformers.
# A further command:
#   encode TOKENIZER TEXT
#                   seconds in which Hugging Face's tokenizers encodes the text of a file
import warnings

with importing("PyTorch with transformers"):
    import tokenizers
    import torch
    import transformers

torch.set_num_threads(threads)
require_gpu("PyTorch", torch.cuda.is_available)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")
print("torch", torch.__version__, "with transformers", transformers.__version__, "on", device)


class Model:
    def __init__(self, folder):
        self.network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to(device).eval()
        self.vocab_size = self.network.config.vocab_size
        self.compiled_step = None

    @torch.no_grad()
    def generate(self, prompt, count, compiled):
        tokens = torch.tensor([prompt], device=device)
        past = None
        step = self.network
        positions = {}
        if compiled:
            past = transformers.StaticCache(config=self.network.config, max_cache_len=len(prompt) + count)
            if self.compiled_step is None:
                self.compiled_step = torch.compile(self.network, mode="reduce-overhead", fullgraph=True)
            step = self.compiled_step
            positions = {"cache_position": torch.arange(len(prompt), device=device)}
        wait()
        return self.tokens(tokens, count, past, step, positions)

    @torch.no_grad()
    def tokens(self, tokens, count, past, step, positions):
        length = tokens.shape[1]
        for i in range(count):
            call = self.network if i == 0 else step
            output = call(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1, **positions)
            past = output.past_key_values
            tokens = output.logits[:, -1].argmax(-1, keepdim=True)
            yield tokens.item()
            if positions:
                positions = {"cache_position": torch.tensor([length + i], device=device)}


def wait():
    if device == "cuda":
        torch.cuda.synchronize()


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
    def __init__(self, model):
        network = self.network = model.network
        self.compiled = None
        network.requires_grad_(False)
        for layer in network.model.layers:
            layer.self_attn.q_proj = LoraLinear(layer.self_attn.q_proj)
            layer.self_attn.v_proj = LoraLinear(layer.self_attn.v_proj)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.01)

    def step(self, tokens, batch, compiled):
        if compiled and self.compiled is None:
            # For each size by itself, as if it were the only one. Otherwise the second makes sizes dynamic.
            self.compiled = torch.compile(self.network, dynamic=False)
        forward = self.compiled if compiled else self.network
        tokens = torch.tensor([tokens] * batch, device=device)
        logits = forward(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def device_peak(fn):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    fn()
    return torch.cuda.max_memory_allocated()


def encode(files):
    tokenizer_file, text_file = files.split(" ", 1)
    tokenizer = tokenizers.Tokenizer.from_file(tokenizer_file)
    with open(text_file, encoding="utf-8", errors="replace", newline="") as file:
        text = file.read()
    return seconds_of(lambda: tokenizer.encode(text))


serve_models(Model, Tuner, device_peak, {"encode": encode}, free=torch.cuda.empty_cache)
