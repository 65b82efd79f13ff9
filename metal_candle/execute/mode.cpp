// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See mode.h.
#include "metal_candle/execute/mode.h"

#include <fmt/format.h>

#include <cstdlib>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {
namespace {

ExecutionMode mode_from_environment() {
  const char* text = std::getenv("METAL_CANDLE_MODE");
  return text == nullptr || *text == '\0' ? ExecutionMode::kAsync : parse_execution_mode(text);
}

// -1 until first asked for: the environment is read once, but not before main().
thread_local int mode_of_thread = -1;

}  // namespace

std::string_view name(ExecutionMode mode) {
  switch (mode) {
    case ExecutionMode::kEager:
      return "eager";
    case ExecutionMode::kSync:
      return "sync";
    case ExecutionMode::kAsync:
      break;
  }
  return "async";
}

ExecutionMode parse_execution_mode(std::string_view text) {
  for (const ExecutionMode mode :
       {ExecutionMode::kEager, ExecutionMode::kSync, ExecutionMode::kAsync}) {
    if (text == name(mode)) return mode;
  }
  throw FormatError(fmt::format(
      "execution mode '{}' (METAL_CANDLE_MODE): known are eager, sync and async", text));
}

ExecutionMode execution_mode() {
  if (mode_of_thread < 0) {
    static const ExecutionMode from_environment = mode_from_environment();
    mode_of_thread = static_cast<int>(from_environment);
  }
  return static_cast<ExecutionMode>(mode_of_thread);
}

void set_execution_mode(ExecutionMode mode) { mode_of_thread = static_cast<int>(mode); }

bool detail::eager_mode() { return execution_mode() == ExecutionMode::kEager; }

}  // namespace metal_candle
