// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Renders a parsed template.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "metal_candle/io/chat_template/ast.h"
#include "metal_candle/io/chat_template/loop.h"
#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

/// The variables of a block; those of the blocks around it are seen through it.
class Scope {
 public:
  explicit Scope(std::shared_ptr<Scope> parent) : parent_(std::move(parent)) {}

  [[nodiscard]] const Value* find(const std::string& name) const;
  void set(const std::string& name, Value value);
  void clear() { variables_.clear(); }

 private:
  std::shared_ptr<Scope> parent_;
  std::vector<std::pair<std::string, Value>> variables_;
};

/// One rendering.
class Interpreter {
 public:
  /// The context outlives the interpreter.
  Interpreter(const Dict& context, std::chrono::system_clock::time_point now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// Throws Failure with a line. Called once.
  [[nodiscard]] std::string render(const Body& body);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow run(const TextStatement& statement);
  Flow run(const OutputStatement& statement);
  Flow run(const IfStatement& statement);
  Flow run(const ForStatement& statement);
  Flow run(const SetStatement& statement);
  Flow run(const SetBlockStatement& statement);
  Flow run(const MacroStatement& statement);
  Flow run(const WithStatement& statement);
  Flow run(const BreakStatement& /*statement*/) { return Flow::kBreak; }
  Flow run(const ContinueStatement& /*statement*/) { return Flow::kContinue; }

  Loop::Condition condition_of(const ForStatement& statement);
  Value call_macro(const MacroStatement& macro, const std::shared_ptr<Scope>& scope,
                   CallArguments&& arguments);
  void assign(const Target& target, const Value& value);

  [[nodiscard]] Value evaluate(const Expression& expression);
  [[nodiscard]] Value evaluate(const ExpressionPtr& expression) { return evaluate(*expression); }
  Value value_of(const Literal& node) { return node.value; }
  Value value_of(const Variable& node);
  Value value_of(const SequenceLiteral& node);
  Value value_of(const DictLiteral& node);
  Value value_of(const Attribute& node);
  Value value_of(const Subscript& node);
  Value value_of(const Slice& node);
  Value value_of(const Call& node);
  Value value_of(const Filter& node);
  Value value_of(const Test& node);
  Value value_of(const Unary& node);
  Value value_of(const Binary& node);
  Value value_of(const Logical& node);
  Value value_of(const Comparison& node);
  Value value_of(const Concatenation& node);
  Value value_of(const Conditional& node);
  CallArguments evaluate(const Arguments& arguments);

  const Dict& context_;
  Runtime runtime_;
  std::shared_ptr<Scope> scope_;
  std::vector<std::shared_ptr<Scope>> captured_;  // By macros, which their scopes may hold.
  std::string* out_ = nullptr;
  const Value* block_text_ = nullptr;  // What a filter without an input takes.
  int depth_ = 0;
};

}  // namespace metal_candle::jinja
