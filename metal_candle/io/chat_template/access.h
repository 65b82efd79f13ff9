// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attributes, items and slices of values, and the methods of strings, lists and dicts, as templates
// see them in Jinja's immutable sandbox.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

/// `object.name`: the attribute or method, else the item of a dict, else undefined.
[[nodiscard]] Value get_attribute(Runtime& runtime, const Value& object, const std::string& name);

/// `object[key]`: the item, else the attribute or method of that name, else undefined.
[[nodiscard]] Value get_item(Runtime& runtime, const Value& object, const Value& key);

/// `object[start:stop:step]`. Bounds are integers or none.
[[nodiscard]] Value get_slice(Runtime& runtime, const Value& object, const Value& start,
                              const Value& stop, const Value& step);

/// Follows "a.b.0", the form in which filters name attributes; `fallback`, if any, is taken for
/// what is missing.
[[nodiscard]] Value get_path(Runtime& runtime, Value object, const Value& path,
                             const Value* fallback = nullptr);

/// `needle in haystack`.
[[nodiscard]] bool contains(Runtime& runtime, const Value& haystack, const Value& needle);

/// len(value).
[[nodiscard]] std::size_t length_of(const Value& value);

/// The method of a string, bound to it; nothing when strings have no method of that name.
[[nodiscard]] std::optional<Value> bind_text_method(Runtime& runtime, const Value& text,
                                                    std::string_view name);

}  // namespace metal_candle::jinja
