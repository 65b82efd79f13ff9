// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A running `for`, which its body sees as `loop`.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/chat_template/object.h"
#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

class Loop : public Object {
 public:
  /// Decides whether the loop takes an element; may be empty.
  using Condition = std::function<bool(const Value&)>;

  Loop(Runtime& runtime, const Value& iterable, Condition condition);

  [[nodiscard]] std::string type_name() const override { return "loop"; }
  /// Goes to the next element; false at the end. Elements are tested no sooner than they are
  /// needed, since what the condition looks at may change with each iteration.
  [[nodiscard]] bool advance();
  [[nodiscard]] const Value& current() const { return current_; }
  /// `loop.name`; nothing when loops have no such attribute.
  [[nodiscard]] std::optional<Value> attribute(Runtime& runtime, const Value& self,
                                               std::string_view name);

 private:
  [[nodiscard]] std::optional<Value> pull();
  [[nodiscard]] bool has_next();
  [[nodiscard]] std::int64_t length();

  Iterator iterator_;
  Condition condition_;
  std::deque<Value> ahead_;  // Pulled, not reached.
  Value previous_;
  Value current_;
  std::int64_t index_ = 0;  // Of the current element, from 1.
  std::optional<std::int64_t> length_;
  std::optional<Value> last_changed_;
};

}  // namespace metal_candle::jinja
