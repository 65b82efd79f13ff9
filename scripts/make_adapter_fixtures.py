#!/usr/bin/env python3
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
"""Adapters of PEFT and mlx-lm on a tiny model, and the logits that those libraries compute with them.

Writes below tests/fixtures/adapters: model/ (a Hugging Face folder), one folder for each adapter, and
logits.safetensors. Run it again after a change and commit what it wrote:

    python3 scripts/make_adapter_fixtures.py

The folders saved_* are read instead: tests/lora/adapter_file_test.cpp writes them
(METAL_CANDLE_WRITE_FIXTURES=1 build/tests/lora_tests --gtest_filter='*PeftReads*'), and what PEFT makes
of them is the evidence that it loads what metal-candle saves.

Needs transformers and peft; and mlx-lm in the Python that MLX_PYTHON names, if the mlx_* adapters are
to be written anew.
"""

import json
import os
import pathlib
import subprocess
import sys

import torch

TOKENS = [[3, 1, 4, 1, 5, 9, 2, 6], [27, 18, 28, 18, 0, 31, 7, 7]]

# Each as the keyword arguments of peft.LoraConfig.
_PEFT = {
    "peft_plain": dict(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj"]),
    "peft_patterns": dict(
        r=4, lora_alpha=6, use_rslora=True, lora_dropout=0.25, target_modules="all-linear",
        rank_pattern={"down_proj": 2, r"layers\.[12]\.self_attn\.o_proj": 6},
        alpha_pattern={"mlp.up_proj": 16}),
    "peft_some_blocks": dict(
        r=2, lora_alpha=2.5, target_modules=["k_proj", "gate_proj"], layers_to_transform=[0, 2]),
    "peft_pattern": dict(
        r=2, lora_alpha=8, target_modules=r".*\.[01]\.(mlp\.up|self_attn\.q)_proj"),
}
# Each as a training configuration of mlx-lm.
_MLX = {
    "mlx_plain": dict(
        fine_tune_type="lora", num_layers=2,
        lora_parameters={"rank": 4, "dropout": 0.0, "scale": 2.5}),
    "mlx_keys": dict(
        fine_tune_type="lora", num_layers=-1, learning_rate=1e-5, model="somewhere",
        lora_parameters={"rank": 2, "dropout": 0.125, "scale": 20.0,
                         "keys": ["self_attn.v_proj", "mlp.down_proj"]}),
}


def _values(shape, seed):
    """Numbers around 0, that nobody needs a random generator for."""
    count = torch.Size(shape).numel()
    x = (torch.arange(count, dtype=torch.float64) * 2654435761 + seed * 40503) % 65536
    return ((x / 65536 - 0.5) * 0.8).to(torch.float32).reshape(shape)


def _make_model(folder):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    model = Qwen2ForCausalLM(config).eval()
    for seed, (name, parameter) in enumerate(sorted(model.named_parameters())):
        offset = 1 if "norm" in name else 0
        parameter.data = _values(parameter.shape, seed) + offset
    model.save_pretrained(folder)
    return model


def _load_model(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _logits(model):
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.float().contiguous()


def _peft_logits(base, folder):
    from peft import PeftModel

    return _logits(PeftModel.from_pretrained(_load_model(base), folder).eval())


def _write_peft(base, folder, arguments):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(_load_model(base), LoraConfig(task_type="CAUSAL_LM", **arguments))
    for seed, (name, parameter) in enumerate(sorted(model.named_parameters())):
        if "lora_" in name:
            parameter.data = _values(parameter.shape, seed)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"  # Where the model lay is nobody's business.
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "tiny"
    if isinstance(config["target_modules"], list):  # A set, in an order of its own each time.
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2) + "\n")


# Run by the Python that has mlx-lm: with_mlx.py BASE FOLDER, prints the logits as JSON.
_WITH_MLX = """
import json, pathlib, sys
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model
base, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
mx.set_default_device(mx.cpu)
config = json.loads((folder / "adapter_config.json").read_text())
# It does not know the newer spelling, rope_parameters.
rope = {"rope_theta": json.loads((base / "config.json").read_text())["rope_parameters"]["rope_theta"]}
model, _ = load_model(base, model_config=rope)
model.freeze()
linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"])
weights = {}
for seed, (name, w) in enumerate(sorted(tree_flatten(model.trainable_parameters()))):
    x = (mx.arange(w.size).astype(mx.float32) * 7919 + seed * 613) % 4096
    weights[name] = ((x / 4096 - 0.5) * 0.8).reshape(w.shape)
mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
model, _ = load_model(base, model_config=rope)
model = load_adapters(model, str(folder))
model.eval()
print(json.dumps(model(mx.array(json.loads(sys.argv[3]))).astype(mx.float32).tolist()))
"""


def _write_mlx(base, folder, config):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    result = subprocess.run(
        [os.environ["MLX_PYTHON"], "-c", _WITH_MLX, str(base), str(folder), json.dumps(TOKENS)],
        check=True, stdout=subprocess.PIPE, text=True)
    return torch.tensor(json.loads(result.stdout))


def main():
    from safetensors.torch import load_file, save_file

    root = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "adapters"
    root.mkdir(exist_ok=True)
    base = root / "model"
    _make_model(base)
    logits_path = root / "logits.safetensors"
    before = load_file(logits_path) if logits_path.exists() else {}
    logits = {"base": _logits(_load_model(base))}
    for name, arguments in _PEFT.items():
        _write_peft(base, root / name, arguments)
        logits[name] = _peft_logits(base, root / name)
    for name, config in _MLX.items():
        if "MLX_PYTHON" in os.environ:
            logits[name] = _write_mlx(base, root / name, config)
        else:
            print(f"{name}: kept, for MLX_PYTHON is not set", file=sys.stderr)
            logits[name] = before[name]
    for folder in sorted(pathlib.Path(root).glob("saved_*")):
        logits[folder.name] = _peft_logits(base, folder)
    save_file(logits, logits_path)
    print(f"logits of {', '.join(logits)}")


if __name__ == "__main__":
    main()
