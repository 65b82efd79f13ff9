// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Parses expressions, with the precedences and the oddities of Jinja's own parser.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/chat_template/ast.h"
#include "metal_candle/io/chat_template/token_stream.h"

namespace metal_candle::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExpressionPtr parse_expression();
  /// One expression, or several separated by commas, which make a tuple.
  ExpressionPtr parse_tuple(bool allow_conditional);
  /// `| name(arguments) | ...` applied to `input`, which may be null.
  ExpressionPtr parse_filters(ExpressionPtr input);
  Target parse_target(bool allow_attribute);

  /// Filters and tests that do not exist are errors of the template, unless it asks for them in a
  /// branch that may never run: then it is an error to get there. A mark is how many of them there
  /// have been so far.
  [[nodiscard]] std::size_t mark() const { return unknown_.size(); }
  void forgive_since(std::size_t mark) {
    unknown_.erase(unknown_.begin() + static_cast<std::ptrdiff_t>(mark), unknown_.end());
  }
  void check_names() const;

 private:
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_parentheses();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr operand);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr operand);
  ExpressionPtr parse_attribute(ExpressionPtr object);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  ExpressionPtr parse_slice(int line, ExpressionPtr object, ExpressionPtr start);
  ExpressionPtr parse_call(ExpressionPtr function);
  ExpressionPtr parse_test(ExpressionPtr input);
  Arguments parse_arguments();
  [[nodiscard]] bool at_tuple_end() const;

  TokenStream& tokens_;
  int depth_ = 0;
  std::vector<Failure> unknown_;
};

}  // namespace metal_candle::jinja
