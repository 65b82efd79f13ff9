// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Values that have an identity: functions, namespaces, loops and generators. They live no longer
// than one rendering.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metal_candle/io/chat_template/value.h"

namespace metal_candle::jinja {

/// What a call passes.
struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Object {
 public:
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;

  [[nodiscard]] virtual std::string type_name() const = 0;
  [[nodiscard]] unsigned depth() const { return depth_; }

 protected:
  /// For an object that owns values which nest so deep. Throws Failure beyond kMaxValueDepth.
  explicit Object(unsigned depth_of_owned = 0);

 private:
  unsigned depth_;
};

/// A global function, a macro, or a method bound to its value.
class Callable : public Object {
 public:
  using Function = std::function<Value(CallArguments&&)>;
  /// `depth_of_owned` is that of the values which the function holds on to.
  Callable(std::string name, Function function, unsigned depth_of_owned = 0)
      : Object(depth_of_owned), name_(std::move(name)), function_(std::move(function)) {}

  [[nodiscard]] std::string type_name() const override { return "function " + name_; }
  [[nodiscard]] Value call(CallArguments&& arguments) const {
    return function_(std::move(arguments));
  }

 private:
  std::string name_;
  Function function_;
};

/// What `namespace()` makes: the one thing whose attributes a template can set. Namespaces may hold
/// one another; whoever makes them clears them at the end.
class Namespace : public Object {
 public:
  [[nodiscard]] std::string type_name() const override { return "namespace"; }
  [[nodiscard]] const Value* find(const std::string& name) const;
  /// Throws Failure for names that begin with an underscore.
  void set(const std::string& name, Value value);
  void clear() { attributes_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

/// Values that can be taken once, as from a Python generator: what `map`, `select` and the like
/// make. They are computed when they are taken.
class Generator : public Object {
 public:
  /// Gives the next value, or nothing at the end.
  using Pull = std::function<std::optional<Value>()>;
  Generator(Pull pull, unsigned depth_of_owned) : Object(depth_of_owned), pull_(std::move(pull)) {}
  [[nodiscard]] std::string type_name() const override { return "generator"; }
  [[nodiscard]] std::optional<Value> next() { return pull_(); }

 private:
  Pull pull_;
};

/// Goes once through anything that can be iterated.
class Iterator {
 public:
  /// Throws Failure for what cannot be iterated. Spends what making the elements costs.
  Iterator(const Value& value, Budget& budget);

  /// Nothing at the end.
  [[nodiscard]] std::optional<Value> next();
  /// len() of what is iterated, or kUnknown for a generator.
  [[nodiscard]] std::size_t length() const { return length_; }

  static constexpr std::size_t kUnknown = static_cast<std::size_t>(-1);

 private:
  Value generator_;  // Or None.
  std::shared_ptr<const Sequence> values_;
  std::size_t next_ = 0;
  std::size_t length_ = 0;
};

/// All that iterating gives.
[[nodiscard]] std::vector<Value> elements_of(const Value& value, Budget& budget);
[[nodiscard]] bool is_iterable(const Value& value);
/// A generator of these values.
[[nodiscard]] Value make_generator(std::vector<Value> values);
/// A generator that maps the elements of `source` one by one, leaving out those for which `map`
/// gives nothing. `source` is iterated at once, as far as its elements do not have to be computed.
[[nodiscard]] Value make_generator(const Value& source, Budget& budget,
                                   std::function<std::optional<Value>(const Value&)> map);

}  // namespace metal_candle::jinja
