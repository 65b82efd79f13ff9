// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/ast.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/io/chat_template/failure.h"

namespace metal_candle::jinja {
namespace {

// The depth of the deepest of what a node holds.
struct Deepest {
  int operator()(const ExpressionPtr& child) const { return child ? child->depth : 0; }
  template <typename T>
  int operator()(const std::vector<T>& children) const {
    int depth = 0;
    for (const T& child : children) depth = std::max(depth, (*this)(child));
    return depth;
  }
  template <typename T>
  int operator()(const std::pair<T, ExpressionPtr>& pair) const {
    return std::max((*this)(pair.first), (*this)(pair.second));
  }
  int operator()(const std::string& /*name*/) const { return 0; }
  template <typename A, typename B, typename... Rest>
  int operator()(const A& a, const B& b, const Rest&... rest) const {
    return std::max({(*this)(a), (*this)(b), (*this)(rest)...});
  }

  int operator()(const Arguments& a) const { return (*this)(a.positional, a.named); }
  int operator()(const Literal& /*node*/) const { return 0; }
  int operator()(const Variable& /*node*/) const { return 0; }
  int operator()(const SequenceLiteral& node) const { return (*this)(node.elements); }
  int operator()(const DictLiteral& node) const { return (*this)(node.items); }
  int operator()(const Attribute& node) const { return (*this)(node.object); }
  int operator()(const Subscript& node) const { return (*this)(node.object, node.index); }
  int operator()(const Slice& node) const {
    return (*this)(node.object, node.start, node.stop, node.step);
  }
  int operator()(const Call& node) const { return (*this)(node.function, node.arguments); }
  int operator()(const Filter& node) const { return (*this)(node.input, node.arguments); }
  int operator()(const Test& node) const { return (*this)(node.input, node.arguments); }
  int operator()(const Unary& node) const { return (*this)(node.operand); }
  int operator()(const Binary& node) const { return (*this)(node.left, node.right); }
  int operator()(const Logical& node) const { return (*this)(node.left, node.right); }
  int operator()(const Comparison& node) const { return (*this)(node.first, node.rest); }
  int operator()(const Concatenation& node) const { return (*this)(node.parts); }
  int operator()(const Conditional& node) const {
    return (*this)(node.condition, node.if_true, node.if_false);
  }
};

}  // namespace

ExpressionPtr make_expression(int line, decltype(Expression::node) node) {
  const int depth = std::visit(Deepest(), node) + 1;
  if (depth > kMaxSyntaxDepth) {
    throw Failure(fmt::format("an expression nests deeper than {}", kMaxSyntaxDepth), line);
  }
  return std::make_unique<const Expression>(Expression{line, depth, std::move(node)});
}

}  // namespace metal_candle::jinja
