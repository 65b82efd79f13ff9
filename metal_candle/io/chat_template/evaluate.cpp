// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The values of expressions.
#include <fmt/format.h>

#include <utility>

#include "metal_candle/io/chat_template/access.h"
#include "metal_candle/io/chat_template/arithmetic.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/filters.h"
#include "metal_candle/io/chat_template/globals.h"
#include "metal_candle/io/chat_template/interpreter.h"
#include "metal_candle/io/chat_template/tests.h"

namespace metal_candle::jinja {
namespace {

// Macros that call themselves end here, well before the stack does.
constexpr int kMaxDepth = 400;

}  // namespace

Value Interpreter::evaluate(const Expression& expression) {
  runtime_.budget.step();
  if (++depth_ > kMaxDepth) {
    depth_ = 0;
    throw Failure(fmt::format("expressions and macros nest deeper than {}", kMaxDepth),
                  expression.line);
  }
  try {
    Value value = std::visit([this](const auto& node) { return value_of(node); }, expression.node);
    --depth_;
    return value;
  } catch (Failure& failure) {
    if (failure.line == 0) failure.line = expression.line;
    throw;
  }
}

CallArguments Interpreter::evaluate(const Arguments& arguments) {
  CallArguments values;
  for (const auto& argument : arguments.positional) values.positional.push_back(evaluate(argument));
  for (const auto& [name, argument] : arguments.named) {
    values.named.emplace_back(name, evaluate(argument));
  }
  return values;
}

Value Interpreter::value_of(const Variable& node) {
  if (const Value* value = scope_->find(node.name)) return *value;
  if (const Value* value = context_.find(node.name)) return *value;
  if (auto global = find_global(runtime_, node.name)) return *std::move(global);
  return Value::undefined(fmt::format("'{}' is undefined", node.name));
}

Value Interpreter::value_of(const SequenceLiteral& node) {
  std::vector<Value> elements;
  elements.reserve(node.elements.size());
  for (const auto& element : node.elements) elements.push_back(evaluate(element));
  return Value::sequence(node.kind, std::move(elements));
}

Value Interpreter::value_of(const DictLiteral& node) {
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [key, value] : node.items) {
    Value name = evaluate(key);
    items.emplace_back(std::move(name), evaluate(value));
  }
  return Value(std::make_shared<const Dict>(std::move(items)));
}

Value Interpreter::value_of(const Attribute& node) {
  return get_attribute(runtime_, evaluate(node.object), node.name);
}

Value Interpreter::value_of(const Subscript& node) {
  const Value object = evaluate(node.object);
  return get_item(runtime_, object, evaluate(node.index));
}

Value Interpreter::value_of(const Slice& node) {
  const Value object = evaluate(node.object);
  const auto bound = [this](const ExpressionPtr& expression) {
    return expression ? evaluate(expression) : Value();
  };
  const Value start = bound(node.start);
  const Value stop = bound(node.stop);
  return get_slice(runtime_, object, start, stop, bound(node.step));
}

Value Interpreter::value_of(const Call& node) {
  const Value function = evaluate(node.function);
  CallArguments arguments = evaluate(node.arguments);
  if (const auto* callable = function.if_object<Callable>()) {
    return callable->call(std::move(arguments));
  }
  if (function.is_undefined()) throw Failure(function.reason());
  throw Failure(fmt::format("{} cannot be called", function.described()));
}

Value Interpreter::value_of(const Filter& node) {
  const Value input = node.input ? evaluate(node.input) : *block_text_;
  return apply_filter(runtime_, node.name, input, evaluate(node.arguments));
}

Value Interpreter::value_of(const Test& node) {
  const Value input = evaluate(node.input);
  return Value(apply_test(runtime_, node.name, input, evaluate(node.arguments)));
}

Value Interpreter::value_of(const Unary& node) {
  const Value operand = evaluate(node.operand);
  return node.operation == '!' ? Value(!is_true(operand)) : apply_sign(node.operation, operand);
}

Value Interpreter::value_of(const Binary& node) {
  const Value left = evaluate(node.left);
  return apply_binary(runtime_, node.operation, left, evaluate(node.right));
}

Value Interpreter::value_of(const Logical& node) {
  Value left = evaluate(node.left);
  return is_true(left) == node.is_and ? evaluate(node.right) : left;
}

Value Interpreter::value_of(const Comparison& node) {
  Value left = evaluate(node.first);
  for (const auto& [operation, operand] : node.rest) {
    Value right = evaluate(operand);
    const bool holds = operation == "in"       ? contains(runtime_, right, left)
                       : operation == "not in" ? !contains(runtime_, right, left)
                                               : apply_comparison(runtime_, operation, left, right);
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::value_of(const Concatenation& node) {
  std::string text;
  for (const auto& part : node.parts) text += to_text(evaluate(part), runtime_.budget);
  return runtime_.text(std::move(text));
}

Value Interpreter::value_of(const Conditional& node) {
  if (is_true(evaluate(node.condition))) return evaluate(node.if_true);
  if (node.if_false) return evaluate(node.if_false);
  return Value::undefined("the inline 'if' has no 'else', and its condition is false");
}

}  // namespace metal_candle::jinja
