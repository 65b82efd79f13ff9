// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// JSON to values and back, as Python's json module does it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "metal_candle/io/chat_template/value.h"

namespace metal_candle::jinja {

/// Throws Failure, saying at which byte, for what is not JSON, an integer beyond 64 bits, or
/// nesting deeper than kMaxValueDepth. Of equal keys the last one's value counts.
[[nodiscard]] Value from_json(std::string_view text);

struct JsonStyle {
  std::optional<std::string> indent;  // Of each level; on one line without.
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};

/// json.dumps(value). Throws Failure for what JSON does not have: undefined values, objects, keys
/// of other types than JSON's scalars.
[[nodiscard]] std::string to_json(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace metal_candle::jinja
