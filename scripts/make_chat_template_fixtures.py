#!/usr/bin/env python3
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/chat_templates/*.json: what Hugging Face transformers renders.

Needs transformers and jinja2. The output depends on nothing but these scripts and the templates
beside it: run it again after a change and commit what it wrote.

    python3 scripts/make_chat_template_fixtures.py
"""

import datetime
import json
import pathlib

import jinja2
import tokenizers
import transformers
from transformers.utils import chat_template_utils

from fixtures import template_constructs, template_conversations

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "chat_templates"


class FixedTime(datetime.datetime):
    """Templates ask for the date."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 15, 4, 5)


def outcome(render):
    """The text, or the error: with its message where the template itself refuses."""
    try:
        return {"text": render()}
    except jinja2.exceptions.TemplateError as error:
        refused = type(error) is jinja2.exceptions.TemplateError
        return {"error": str(error) if refused else ""}
    except Exception:  # Whatever Python says of bad operands.
        return {"error": ""}


def write(name, contents):
    path = FOLDER / name
    path.write_text(json.dumps(contents, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{name}: {len(contents['cases'])} cases, {path.stat().st_size} bytes")


def write_constructs():
    cases = []
    for template in template_constructs.templates():
        render = lambda: chat_template_utils._compile_jinja_template(template).render(  # noqa: E731
            **template_constructs.CONTEXT)
        cases.append({"template": template, **outcome(render)})
    write("constructs.json", {"context": template_constructs.CONTEXT, "cases": cases})


def write_conversations():
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0}, "x")),
        bos_token="<s>", eos_token="</s>")
    cases = []
    for path in sorted(FOLDER.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for name, tools, prompt, variables in template_conversations.renderings(path.name):
            render = lambda: tokenizer.apply_chat_template(  # noqa: E731
                template_conversations.CONVERSATIONS[name], chat_template=source, tokenize=False,
                tools=template_conversations.TOOLS[tools], add_generation_prompt=prompt,
                **variables)
            cases.append({"template": path.name, "messages": name, "tools": tools,
                          "add_generation_prompt": prompt, "variables": variables,
                          **outcome(render)})
    write("conversations.json", {"messages": template_conversations.CONVERSATIONS,
                                 "tools": template_conversations.TOOLS, "cases": cases})


def main():
    chat_template_utils.datetime = FixedTime
    write_constructs()
    write_conversations()


if __name__ == "__main__":
    main()
