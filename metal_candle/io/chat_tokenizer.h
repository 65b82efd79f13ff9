// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A model folder's tokenizer together with what its other files say about conversations: the chat
// template, and the tokens that begin and end a text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/chat_template.h"
#include "metal_candle/io/tokenizer.h"

namespace metal_candle {

/// A conversation to be rendered.
struct ChatRequest {
  std::vector<ChatMessage> messages;
  std::string messages_json;  // Instead of messages, unless empty: see ChatTemplate::render_json().
  std::string tools;          // A JSON array; empty for none.
  std::string variables;      // More variables of the template: a JSON object; empty for none.
  bool add_generation_prompt = false;
};

/// Immutable; copies share everything; thread safe.
class ChatTokenizer {
 public:
  /// Reads tokenizer.json, and tokenizer_config.json, chat_template.jinja, generation_config.json
  /// and config.json where there are. Throws IoError, FormatError naming file and key.
  static ChatTokenizer load(const std::string& folder);

  [[nodiscard]] const Tokenizer& tokenizer() const { return tokenizer_; }
  /// A text with the special tokens that the tokenizer puts around one.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const;
  [[nodiscard]] bool has_chat_template() const { return chat_template_.has_value(); }
  /// The conversation as text. Throws FormatError where there is no template, or it refuses.
  [[nodiscard]] std::string render_chat(const ChatRequest& request) const;
  /// render_chat(), encoded without further special tokens.
  [[nodiscard]] std::vector<std::int32_t> encode_chat(const ChatRequest& request) const;

  /// What ends a text in training: eos_token, if there is one.
  [[nodiscard]] std::optional<std::int32_t> eos_id() const { return eos_id_; }
  /// Whatever ends generation: eos_token, and the eos_token_id of generation_config.json and
  /// config.json.
  [[nodiscard]] const std::vector<std::int32_t>& stop_ids() const { return stop_ids_; }

 private:
  explicit ChatTokenizer(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  Tokenizer tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::optional<std::string> bos_token_, eos_token_;
  std::optional<std::int32_t> eos_id_;
  std::vector<std::int32_t> stop_ids_;
};

}  // namespace metal_candle
