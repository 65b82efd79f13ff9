// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Training data in .jsonl files: one JSON object a line, in the three forms that mlx-lm knows.
//
//   {"text": "..."}                                    a text to continue
//   {"prompt": "...", "completion": "..."}             a request and its answer
//   {"messages": [{"role": ..., "content": ...}, ...]} a conversation, perhaps with "tools"
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace metal_candle {

enum class ExampleForm : std::uint8_t { kText, kCompletion, kChat };
/// "text", "prompt and completion", "messages".
[[nodiscard]] const char* name(ExampleForm form);

/// One line. Only the members of its form are set.
struct Example {
  ExampleForm form = ExampleForm::kText;
  std::size_t line = 0;  // From 1.
  std::string text;
  std::string prompt, completion;
  // JSON arrays, as ChatTemplate::render_json() takes them. `request` is the conversation without
  // its last message.
  std::string messages, request;
  bool ends_with_assistant = false;  // Whether the last message is the assistant's.
  std::string tools;                 // A JSON array; empty if none.
};

/// Reads a file. Empty lines are passed over; other keys are ignored. All lines are of one form:
/// the first one's. Throws IoError if it cannot be read; FormatError naming file and line, and what
/// was expected, for a line that is not a JSON object in UTF-8, lacks the keys of its form or has
/// values of other types, and for a file without examples.
[[nodiscard]] std::vector<Example> read_examples(const std::string& path);

}  // namespace metal_candle
