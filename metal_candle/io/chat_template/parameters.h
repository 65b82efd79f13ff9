// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The arguments of a built-in function, by the names of its parameters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/chat_template/object.h"
#include "metal_candle/io/chat_template/value.h"

namespace metal_candle::jinja {

class Parameters {
 public:
  /// Throws Failure for too many arguments, unknown names, an argument passed twice, and when one
  /// of the first `required` parameters gets none.
  Parameters(std::string_view function, CallArguments&& arguments,
             std::initializer_list<std::string_view> names, std::size_t required = 0);

  /// Null when nothing was passed.
  [[nodiscard]] const Value* find(std::size_t index) const {
    return values_[index] ? &*values_[index] : nullptr;
  }
  [[nodiscard]] const Value& operator[](std::size_t index) const { return *values_[index]; }

  // What was passed, or the default. They throw Failure for another type; flag() takes any.
  [[nodiscard]] bool flag(std::size_t index, bool otherwise) const;
  [[nodiscard]] std::int64_t integer(std::size_t index, std::int64_t otherwise) const;
  [[nodiscard]] std::string text(std::size_t index, std::string_view otherwise = "") const;

 private:
  [[noreturn]] void fail_type(std::size_t index, std::string_view expected) const;

  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace metal_candle::jinja
