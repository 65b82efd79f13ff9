#!/usr/bin/env python3
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/*.safetensors: what NumPy and PyTorch say every operation gives.

Needs NumPy and PyTorch, safetensors for the family from_python and transformers for sampling and
training. The output depends on nothing but these scripts: run it again after a change and commit what
it wrote.

    python3 scripts/make_fixtures.py [FAMILY...]
"""

import pathlib
import sys

from fixtures import elementwise, gradients, index, layout, linalg, nn, random_numbers, reduce, \
    safetensors_file, sampling, training

FAMILIES = {
    "elementwise": elementwise.write,
    "from_python": safetensors_file.write,
    "gradients": gradients.write,
    "index": index.write,
    "layout": layout.write,
    "linalg": linalg.write,
    "nn": nn.write,
    "random": random_numbers.write,
    "reduce": reduce.write,
    "sampling": sampling.write,
    "training": training.write,
}


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    folder.mkdir(exist_ok=True)
    total = 0
    for name in sys.argv[1:] or FAMILIES:
        path = folder / f"{name}.safetensors"
        cases = FAMILIES[name](path)
        total += path.stat().st_size
        print(f"{name}: {cases} cases, {path.stat().st_size} bytes")
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
