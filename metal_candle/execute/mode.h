// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How the calling thread evaluates.
#pragma once

#include <string_view>

namespace metal_candle {

/// All three give the same results.
enum class ExecutionMode {
  kEager,  // Each operation runs when it is called; nothing is fused. The baseline.
  kSync,   // Lazy and optimised; evaluation blocks, one command buffer a step. To rule the queue
           // out.
  kAsync,  // Lazy, optimised, batched into command buffers that run on a queue. The default.
};

/// "eager", "sync", "async".
[[nodiscard]] std::string_view name(ExecutionMode mode);
/// The inverse. Throws FormatError.
[[nodiscard]] ExecutionMode parse_execution_mode(std::string_view text);

/// The mode of the calling thread: what set_execution_mode() set, else METAL_CANDLE_MODE, else
/// kAsync. Throws FormatError if the variable is malformed.
[[nodiscard]] ExecutionMode execution_mode();
/// Sets the mode of the calling thread.
void set_execution_mode(ExecutionMode mode);

/// Sets the mode for a scope.
class ScopedExecutionMode {
 public:
  explicit ScopedExecutionMode(ExecutionMode mode) : saved_(execution_mode()) {
    set_execution_mode(mode);
  }
  ~ScopedExecutionMode() { set_execution_mode(saved_); }
  ScopedExecutionMode(const ScopedExecutionMode&) = delete;
  ScopedExecutionMode& operator=(const ScopedExecutionMode&) = delete;

 private:
  ExecutionMode saved_;
};

}  // namespace metal_candle
