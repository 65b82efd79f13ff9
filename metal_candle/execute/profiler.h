// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A trace of every step, for the Perfetto UI and chrome://tracing.
#pragma once

#include <string>

namespace metal_candle {

/// Records every step that runs from now on: name, shapes, queue, start, end, bytes, flops. Costs
/// two clock readings a step; nothing when off. Throws Error if a trace is being recorded already.
/// METAL_CANDLE_TRACE=file in the environment does the same from the first evaluation to the end of
/// the process.
void start_trace(const std::string& path);

/// Stops, and writes the file (Chrome's JSON trace event format). Waits for work in flight. Throws
/// IoError naming the file; Error if no trace was started.
void stop_trace();

/// Starts the trace that METAL_CANDLE_TRACE asks for, once. Called by evaluation.
void start_trace_from_environment();

}  // namespace metal_candle
