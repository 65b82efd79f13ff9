// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the files of a model folder besides tokenizer.json tell a program that chats: which tokens
// begin and end a text, and the templates of conversations.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace metal_candle {

/// Missing files and keys leave a member empty.
struct TokenizerConfig {
  /// From tokenizer_config.json, or else special_tokens_map.json: the text of the token.
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  std::optional<std::string> pad_token;
  std::optional<std::string> unk_token;

  /// From tokenizer_config.json.
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;

  /// Jinja templates by name; the usual one is "default". From tokenizer_config.json; the files
  /// chat_template.jinja, for "default", and additional_chat_templates/<name>.jinja come before it.
  std::map<std::string, std::string> chat_templates;

  /// The ids that end a generated text: eos_token_id of generation_config.json, or else of
  /// config.json.
  std::vector<std::int32_t> eos_token_ids;

  /// Null if there is none of that name.
  [[nodiscard]] const std::string* chat_template(const std::string& name = "default") const;

  /// Reads a model folder. Throws IoError if a file that is there cannot be read, FormatError
  /// naming file and key if one is malformed.
  static TokenizerConfig load(const std::string& folder);
};

}  // namespace metal_candle
