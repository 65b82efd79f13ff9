#!/usr/bin/env python3
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/models/: tiny models, what Hugging Face transformers computes with them, and
how PyTorch trains them.

Needs PyTorch, transformers 5 and safetensors. The output depends on nothing but these scripts: run
it again after a change and commit what it wrote.

    python3 scripts/make_model_fixtures.py
"""

import pathlib

from fixtures import model_training, models


def main():
    root = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "models"
    count = models.write(root)
    model_training.write(root)
    total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    print(f"{count} models, {total} bytes")


if __name__ == "__main__":
    main()
