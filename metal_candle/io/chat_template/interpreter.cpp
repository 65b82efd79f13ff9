// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Statements; expressions are in evaluate.cpp.
#include "metal_candle/io/chat_template/interpreter.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/io/chat_template/failure.h"

namespace metal_candle::jinja {
namespace {

// Sets a variable for as long as it lives.
template <typename T>
class Restored {
 public:
  Restored(T& variable, T value) : variable_(variable), old_(std::exchange(variable, value)) {}
  ~Restored() { variable_ = std::move(old_); }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  T& variable_;
  T old_;
};

}  // namespace

const Value* Scope::find(const std::string& name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent_.get()) {
    for (const auto& [known, value] : scope->variables_) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  for (auto& [known, old] : variables_) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  variables_.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const Dict& context, std::chrono::system_clock::time_point now)
    : context_(context), runtime_(now), scope_(std::make_shared<Scope>(nullptr)) {}

Interpreter::~Interpreter() {
  for (const auto& scope : captured_) scope->clear();
}

std::string Interpreter::render(const Body& body) {
  std::string text;
  out_ = &text;
  execute(body);
  return text;
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  for (const Statement& statement : body) {
    const Flow flow = execute(statement);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  runtime_.budget.step();
  try {
    return std::visit([this](const auto& node) { return run(node); }, statement.node);
  } catch (Failure& failure) {
    if (failure.line == 0) failure.line = statement.line;
    throw;
  }
}

Interpreter::Flow Interpreter::run(const TextStatement& statement) {
  runtime_.budget.spend(statement.text.size());
  *out_ += statement.text;
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run(const OutputStatement& statement) {
  *out_ += to_text(evaluate(statement.expression), runtime_.budget);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run(const IfStatement& statement) {
  for (const auto& [condition, body] : statement.branches) {
    if (is_true(evaluate(condition))) return execute(body);
  }
  return execute(statement.otherwise);
}

// The condition sees the element, and what is around the loop, but not the loop.
Loop::Condition Interpreter::condition_of(const ForStatement& statement) {
  if (!statement.condition) return nullptr;
  return [this, &statement, outer = scope_](const Value& element) {
    const Restored scope(scope_, std::make_shared<Scope>(outer));
    assign(statement.target, element);
    return is_true(evaluate(statement.condition));
  };
}

Interpreter::Flow Interpreter::run(const ForStatement& statement) {
  const auto loop =
      std::make_shared<Loop>(runtime_, evaluate(statement.iterable), condition_of(statement));
  const auto outer = scope_;
  // As in Jinja, an iteration that does not reach its end does not count as one for `else`.
  bool runs_otherwise = true;
  while (loop->advance()) {
    runtime_.budget.step();
    const Restored scope(scope_, std::make_shared<Scope>(outer));
    assign(statement.target, loop->current());
    scope_->set("loop", Value(std::shared_ptr<Object>(loop)));
    const Flow flow = execute(statement.body);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNormal) runs_otherwise = false;
  }
  if (!runs_otherwise || statement.otherwise.empty()) return Flow::kNormal;
  const Restored scope(scope_, std::make_shared<Scope>(outer));
  return execute(statement.otherwise);
}

Interpreter::Flow Interpreter::run(const SetStatement& statement) {
  assign(statement.target, evaluate(statement.value));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run(const SetBlockStatement& statement) {
  std::string text;
  Flow flow = Flow::kNormal;
  {
    const Restored out(out_, &text);
    const Restored scope(scope_, std::make_shared<Scope>(scope_));
    flow = execute(statement.body);
  }
  if (flow != Flow::kNormal) return flow;
  Value value = runtime_.text(std::move(text));
  if (statement.filter) {
    const Value input = std::move(value);
    const Restored block(block_text_, &input);
    value = evaluate(statement.filter);
  }
  assign(statement.target, value);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run(const MacroStatement& statement) {
  captured_.push_back(scope_);
  scope_->set(statement.name,
              Value(std::shared_ptr<Object>(std::make_shared<Callable>(
                  statement.name, [this, &statement, scope = scope_](CallArguments&& arguments) {
                    return call_macro(statement, scope, std::move(arguments));
                  }))));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run(const WithStatement& statement) {
  // The values are those outside: one variable does not see another.
  const auto inner = std::make_shared<Scope>(scope_);
  std::vector<Value> values;
  for (const auto& variable : statement.variables) values.push_back(evaluate(variable.second));
  const Restored scope(scope_, inner);
  for (std::size_t i = 0; i < values.size(); ++i) {
    assign(statement.variables[i].first, values[i]);
  }
  return execute(statement.body);
}

Value Interpreter::call_macro(const MacroStatement& macro, const std::shared_ptr<Scope>& scope,
                              CallArguments&& arguments) {
  const auto& names = macro.parameters;
  if (arguments.positional.size() > names.size()) {
    throw Failure(fmt::format("the macro '{}' takes no more than {} arguments, but got {}",
                              macro.name, names.size(), arguments.positional.size()));
  }
  const auto inner = std::make_shared<Scope>(scope);
  std::vector<bool> is_given(names.size(), false);
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    inner->set(names[i], std::move(arguments.positional[i]));
    is_given[i] = true;
  }
  for (auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    const auto index = static_cast<std::size_t>(found - names.begin());
    if (found == names.end() || is_given[index]) {
      throw Failure(fmt::format("the macro '{}' {} '{}'", macro.name,
                                found == names.end() ? "has no parameter" : "got twice", name));
    }
    inner->set(name, std::move(value));
    is_given[index] = true;
  }
  std::string text;
  const Restored out(out_, &text);
  const Restored current(scope_, inner);
  const std::size_t first_default = names.size() - macro.defaults.size();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (is_given[i]) continue;
    inner->set(names[i], i < first_default
                             ? Value::undefined(fmt::format("'{}' was not passed to the macro '{}'",
                                                            names[i], macro.name))
                             : evaluate(macro.defaults[i - first_default]));
  }
  execute(macro.body);
  return runtime_.text(std::move(text));
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const auto elements = elements_of(value, runtime_.budget);
    if (elements.size() != target.parts.size()) {
      throw Failure(
          fmt::format("cannot assign {} values to {} names", elements.size(), target.parts.size()));
    }
    for (std::size_t i = 0; i < elements.size(); ++i) assign(target.parts[i], elements[i]);
  } else if (target.attribute.empty()) {
    scope_->set(target.name, value);
  } else {
    const Value* object = scope_->find(target.name);
    auto* attributes = object == nullptr ? nullptr : object->if_object<Namespace>();
    if (attributes == nullptr) {
      throw Failure(
          fmt::format("cannot set '{}' of '{}': only attributes of a namespace can be set",
                      target.attribute, target.name));
    }
    runtime_.budget.step();
    attributes->set(target.attribute, value);
  }
}

}  // namespace metal_candle::jinja
