// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Splits a template into text and the tokens inside its tags, with the white space control of an
// environment that has trim_blocks and lstrip_blocks on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle::jinja {

struct Token {
  enum class Kind {
    kText,  // Between tags.
    kBlockBegin,
    kBlockEnd,
    kOutputBegin,
    kOutputEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };

  Kind kind = Kind::kEnd;
  std::string text;  // Of strings, what the literal stands for.
  int line = 0;      // Counted from 1.
  std::int64_t integer = 0;
  double number = 0;

  [[nodiscard]] bool is_name(std::string_view name) const {
    return kind == Kind::kName && text == name;
  }
  [[nodiscard]] bool is_operator(std::string_view name) const {
    return kind == Kind::kOperator && text == name;
  }
};

/// Ends with a token kEnd. Throws Failure for what is no token, or does not end.
[[nodiscard]] std::vector<Token> tokenize(std::string_view source);

/// What a message calls the token.
[[nodiscard]] std::string describe(const Token& token);

}  // namespace metal_candle::jinja
