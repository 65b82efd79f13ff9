// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the functions that a template calls share during one rendering.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "metal_candle/io/chat_template/budget.h"
#include "metal_candle/io/chat_template/object.h"
#include "metal_candle/io/chat_template/value.h"

namespace metal_candle::jinja {

class Runtime {
 public:
  explicit Runtime(std::chrono::system_clock::time_point time) : now(time) {}
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// A text value, its size spent.
  [[nodiscard]] Value text(std::string text) {
    budget.spend(text.size());
    return Value(std::move(text));
  }
  /// A new namespace, cleared when the rendering ends.
  [[nodiscard]] std::shared_ptr<Namespace> make_namespace();

  Budget budget;
  const std::chrono::system_clock::time_point now;

 private:
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace metal_candle::jinja
