// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metal_candle/io/chat_template/failure.h"

namespace metal_candle::jinja {

Parameters::Parameters(std::string_view function, CallArguments&& arguments,
                       std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function), names_(names), values_(names.size()) {
  if (arguments.positional.size() > names.size()) {
    throw Failure(fmt::format("'{}' takes no more than {} arguments, but got {}", function,
                              names.size(), arguments.positional.size()));
  }
  std::move(arguments.positional.begin(), arguments.positional.end(), values_.begin());
  for (auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) {
      throw Failure(fmt::format("'{}' has no parameter '{}'", function, name));
    }
    auto& place = values_[static_cast<std::size_t>(found - names_.begin())];
    if (place) throw Failure(fmt::format("'{}' got the argument '{}' twice", function, name));
    place = std::move(value);
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (!values_[i]) {
      throw Failure(fmt::format("'{}' needs the argument '{}'", function, names_[i]));
    }
  }
}

void Parameters::fail_type(std::size_t index, std::string_view expected) const {
  const Value& value = *values_[index];
  if (value.is_undefined()) throw Failure(value.reason());
  throw Failure(fmt::format("the argument '{}' of '{}' must be {}, not {}", names_[index],
                            function_, expected, value.described()));
}

bool Parameters::flag(std::size_t index, bool otherwise) const {
  return values_[index] ? is_true(*values_[index]) : otherwise;
}

std::int64_t Parameters::integer(std::size_t index, std::int64_t otherwise) const {
  if (!values_[index]) return otherwise;
  if (!values_[index]->is_integer()) fail_type(index, "an integer");
  return values_[index]->integer();
}

std::string Parameters::text(std::size_t index, std::string_view otherwise) const {
  if (!values_[index]) return std::string(otherwise);
  if (values_[index]->if_text() == nullptr) fail_type(index, "a string");
  return values_[index]->bytes();
}

}  // namespace metal_candle::jinja
