// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Chat templates: how a model's tokenizer wants a conversation written as one text.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", or what else the template knows.
  std::string content;
};

struct ChatTemplateOptions {
  /// Whether to end with what begins the assistant's answer.
  bool add_generation_prompt = false;
  /// The tokenizer's special tokens, as far as it has them: undefined in the template otherwise.
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  /// Descriptions of functions that the model may call: a JSON array. None when empty.
  std::string tools;
  /// More variables, such as {"enable_thinking": false}: a JSON object. They replace those above of
  /// the same name. None when empty.
  std::string variables;
  /// What `strftime_now` shows, in local time; the time of the call by default.
  std::optional<std::chrono::system_clock::time_point> now;
};

/// A chat template in the subset of Jinja that the templates of Llama 2 and 3, Mistral, Qwen2,
/// Qwen3 and their like need: statements if, for (with break and continue), set, macro, with,
/// generation and raw; expressions with all operators, slices, inline if, methods of strings, lists
/// and dicts that change nothing, the filters and tests about text, lists, dicts and numbers,
/// tojson, range, dict, namespace, raise_exception and strftime_now. It renders as Hugging Face
/// transformers does: Jinja's immutable sandbox with trim_blocks and lstrip_blocks.
///
/// Differences: integers have 64 bits, and what is outside the subset is an error that names it and
/// its line. Templates are not trusted: nesting, steps and the size of the text are bounded.
///
/// Copies share the parsed template. Rendering is thread safe.
class ChatTemplate {
 public:
  /// `name`, such as "tokenizer_config.json: chat_template", begins the messages of errors. Throws
  /// FormatError for bad syntax and for what is outside the subset.
  [[nodiscard]] static ChatTemplate parse(std::string_view source, std::string name);

  /// Throws FormatError when the template refuses the conversation (`raise_exception`), fails, or
  /// uses what is outside the subset, and for options that are not JSON.
  [[nodiscard]] std::string render(const std::vector<ChatMessage>& messages,
                                   const ChatTemplateOptions& options = {}) const;

  /// The same for messages with more than a role and a content, such as tool calls: a JSON array of
  /// objects. As in transformers, keys whose value is null are taken for missing, and of the names
  /// `reasoning_content`, `thinking` and `reasoning` the first present gives the others' content.
  [[nodiscard]] std::string render_json(std::string_view messages,
                                        const ChatTemplateOptions& options = {}) const;

  /// Renders with exactly the variables of a JSON object.
  [[nodiscard]] std::string render_context(
      std::string_view context,
      std::optional<std::chrono::system_clock::time_point> now = std::nullopt) const;

  [[nodiscard]] const std::string& name() const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}

  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace metal_candle
