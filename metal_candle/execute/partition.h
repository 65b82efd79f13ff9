// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Splits a graph into parts that can run at the same time on different queues.
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/graph/computation_graph.h"

namespace metal_candle {

struct GraphPart {
  ComputationGraph graph;
  std::vector<std::int32_t> inputs;   // Input i of the part is input inputs[i] of the whole.
  std::vector<std::int32_t> outputs;  // Likewise.
};

/// Work below this (floating-point operations plus bytes) is not worth a queue of its own: a part
/// costs some microseconds to hand over.
inline constexpr double kMinPartWork = 1e6;

/// The connected components of a compacted graph (joined through operations, not through inputs),
/// those that are too small gathered in one. A graph that does not split is one part.
[[nodiscard]] std::vector<GraphPart> partition(ComputationGraph graph);

}  // namespace metal_candle
