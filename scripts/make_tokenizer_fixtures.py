#!/usr/bin/env python3
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/tokenizers/: small tokenizers, and what Hugging Face's library says they do.

Needs the tokenizers package. The output depends on nothing but these scripts and its version: run it
again after a change and commit what it wrote.

    python3 scripts/make_tokenizer_fixtures.py
"""

import copy
import json
import pathlib
import random

from tokenizers import Tokenizer

from fixtures import tokenizer_texts as texts
from fixtures import tokenizer_variants as variants
from fixtures.tokenizer_families import FAMILIES

# What tells the components of the variants apart, with all else being equal.
SHORT = [t for t in texts.HARD if 0 < len(t.encode()) <= 90]


def case(tokenizer, text):
    """Ids with and without the special tokens around the text, and what decoding gives. Leaves out
    what is as one expects: the same ids, the same text."""
    ids = tokenizer.encode(text).ids
    result = {"text": text, "ids": ids}
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    if plain != ids:
        result["plain"] = plain
    tokenizer.encode_special_tokens = True
    as_text = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    if as_text != plain:
        result["as_text"] = as_text
    add_decoded(tokenizer, result, text)
    return result


def add_decoded(tokenizer, result, text):
    skipped = tokenizer.decode(result["ids"])
    kept = tokenizer.decode(result["ids"], skip_special_tokens=False)
    if skipped != text:
        result["decoded"] = skipped
    if kept != skipped:
        result["decoded_with_special"] = kept


def random_ids_case(tokenizer, rng):
    """What no text encodes to, half characters among it."""
    size = tokenizer.get_vocab_size()
    result = {"ids": [rng.randrange(size) for _ in range(rng.randrange(1, 12))]}
    add_decoded(tokenizer, result, None)
    return result


def family_cases(tokenizer, seed):
    rng = random.Random(seed)
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return {
        "encode": [case(tokenizer, text)
                   for text in texts.HARD + texts.random_texts(seed, 40)],
        "malformed": [{"bytes": data.hex(),
                       "ids": tokenizer.encode(data.decode(errors="replace")).ids}
                      for data in texts.MALFORMED],
        "decode": [random_ids_case(tokenizer, rng) for _ in range(40)],
        "tokens": dict(rng.sample(vocab, 20)),
    }


def patched(base, patch):
    result = copy.deepcopy(base)
    for key, value in patch.items():
        if key == "model":
            result["model"].update(value)
        else:
            result[key] = value
    return result


def variant_cases(base, patches):
    """A seventh of the texts each, so that all are seen by several of a kind."""
    cases = []
    for i, (name, patch) in enumerate(patches.items()):
        tokenizer = Tokenizer.from_str(json.dumps(patched(base, patch)))
        chosen = SHORT[i % 7::7] + texts.random_texts(i, 1)
        if "added_tokens" in patch:
            chosen = SHORT[-8:] + ["a <mask> b<mask> c", "<both>  <both> <right>  x <mask>",
                                   "  <mask>  <mask>  ", "<mask><mask><mask> Added ADDED ａdded",
                                   "o\u030b Ő ő", "mask-mask- mask- MASK-", " <both> mask <both>"]
        cases.append({"name": name, "patch": patch,
                      "encode": [case(tokenizer, text) for text in chosen]})
    return cases


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def lines(value, depth):
    """JSON with one line for each value at the depth, for the sake of diffs."""
    if depth == 0 or not value or not isinstance(value, (dict, list)):
        return compact(value)
    if isinstance(value, dict):
        body = ",\n".join(f"{compact(k)}:{lines(v, depth - 1)}" for k, v in value.items())
        return "{\n" + body + "\n}"
    return "[\n" + ",\n".join(lines(v, depth - 1) for v in value) + "\n]"


def write(path, value, depth):
    text = lines(value, depth) + "\n"
    path.write_text(text, encoding="utf-8", newline="")
    print(f"{path.name}: {len(text.encode())} bytes")
    return len(text.encode())


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tokenizers"
    total = 0
    files = {name: make() for name, make in FAMILIES.items()}
    for seed, (name, file) in enumerate(files.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        tokenizer = Tokenizer.from_str(json.dumps(file))
        total += write(folder / name / "tokenizer.json", file, 1)
        total += write(folder / name / "cases.json", family_cases(tokenizer, seed), 2)
    base = {**files["llama2"], "normalizer": None, "post_processor": None}
    total += write(folder / "variants.json", {
        "metaspace": variant_cases(base, variants.METASPACE),
        "byte_level": variant_cases(files["gpt2"], variants.BYTE_LEVEL),
        "word_piece": variant_cases(files["bert"], variants.WORD_PIECE)}, 5)
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
