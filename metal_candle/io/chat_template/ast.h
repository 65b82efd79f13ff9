// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The syntax tree of a template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "metal_candle/io/chat_template/value.h"

namespace metal_candle::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<const Expression>;
using Body = std::vector<Statement>;

struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
};

struct Literal {
  Value value;
};
struct Variable {
  std::string name;
};
struct SequenceLiteral {
  Sequence::Kind kind = Sequence::Kind::kList;
  std::vector<ExpressionPtr> elements;
};
struct DictLiteral {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
struct Attribute {
  ExpressionPtr object;
  std::string name;
};
struct Subscript {
  ExpressionPtr object;
  ExpressionPtr index;
};
struct Slice {
  ExpressionPtr object;
  ExpressionPtr start, stop, step;  // Each may be null.
};
struct Call {
  ExpressionPtr function;
  Arguments arguments;
};
struct Filter {
  ExpressionPtr input;  // Null in `{% set x | filter %}`, for the block's text.
  std::string name;
  Arguments arguments;
};
struct Test {
  ExpressionPtr input;
  std::string name;
  Arguments arguments;
};
struct Unary {
  char operation;  // '+', '-', or '!' for `not`.
  ExpressionPtr operand;
};
struct Binary {
  std::string operation;  // "+", "-", "*", "/", "//", "%", "**".
  ExpressionPtr left, right;
};
/// `and`, `or`: the operand that decides.
struct Logical {
  bool is_and;
  ExpressionPtr left, right;
};
/// `a < b <= c`, each operand evaluated once.
struct Comparison {
  ExpressionPtr first;
  std::vector<std::pair<std::string, ExpressionPtr>> rest;  // "<", ..., "in", "not in".
};
/// `a ~ b ~ c`.
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
struct Conditional {
  ExpressionPtr condition;
  ExpressionPtr if_true;
  ExpressionPtr if_false;  // May be null: undefined.
};

struct Expression {
  int line = 0;
  int depth = 1;  // Of the tree below.
  std::variant<Literal, Variable, SequenceLiteral, DictLiteral, Attribute, Subscript, Slice, Call,
               Filter, Test, Unary, Binary, Logical, Comparison, Concatenation, Conditional>
      node;
};

/// The most that expressions, and statements, nest.
inline constexpr int kMaxSyntaxDepth = 150;

/// Throws Failure when the tree becomes deeper than kMaxSyntaxDepth.
[[nodiscard]] ExpressionPtr make_expression(int line, decltype(Expression::node) node);

/// What can be assigned to: a name, an attribute of a namespace, or several of them.
struct Target {
  std::string name;
  std::string attribute;  // Empty without.
  std::vector<Target> parts;
  bool is_tuple = false;
};

struct TextStatement {
  std::string text;
};
struct OutputStatement {
  ExpressionPtr expression;
};
struct IfStatement {
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};
struct ForStatement {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  // May be null.
  Body body;
  Body otherwise;
};
struct SetStatement {
  Target target;
  ExpressionPtr value;
};
/// `{% set x %}...{% endset %}`, whose filters are those of `filter`, null without.
struct SetBlockStatement {
  Target target;
  ExpressionPtr filter;
  Body body;
};
struct MacroStatement {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // Of the last parameters.
  Body body;
};
struct WithStatement {
  std::vector<std::pair<Target, ExpressionPtr>> variables;
  Body body;
};
struct BreakStatement {};
struct ContinueStatement {};

struct Statement {
  int line = 0;
  std::variant<TextStatement, OutputStatement, IfStatement, ForStatement, SetStatement,
               SetBlockStatement, MacroStatement, WithStatement, BreakStatement, ContinueStatement>
      node;
};

}  // namespace metal_candle::jinja
