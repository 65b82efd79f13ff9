// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A cursor over tokens, for the parser.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/lexer.h"

namespace metal_candle::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  [[nodiscard]] const Token& current() const { return tokens_[position_]; }
  [[nodiscard]] const Token& look() const {
    return tokens_[position_ + 1 < tokens_.size() ? position_ + 1 : position_];
  }
  [[nodiscard]] int line() const { return current().line; }

  /// The current token, which is then passed. The last one is never passed.
  const Token& next() {
    const Token& token = current();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  bool skip_name(std::string_view name) { return skip_if(current().is_name(name)); }
  bool skip_operator(std::string_view name) { return skip_if(current().is_operator(name)); }

  const Token& expect(Token::Kind kind, std::string_view what) {
    if (current().kind != kind) fail_expected(what);
    return next();
  }
  void expect_operator(std::string_view name) {
    if (!skip_operator(name)) fail_expected("'" + std::string(name) + "'");
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) fail_expected("'" + std::string(name) + "'");
  }
  [[noreturn]] void fail_expected(std::string_view what) const {
    fail("expected " + std::string(what) + ", found " + describe(current()));
  }
  [[noreturn]] void fail(const std::string& message) const { throw Failure(message, line()); }

 private:
  bool skip_if(bool matches) {
    if (matches) next();
    return matches;
  }

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
};

}  // namespace metal_candle::jinja
