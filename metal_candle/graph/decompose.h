// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Every composite in terms of primitives: what a backend without a kernel runs, and what tests
// compare each kernel with.
#pragma once

#include <span>
#include <vector>

#include "metal_candle/graph/computation_graph.h"

namespace metal_candle {

/// Adds the primitives that compute `operation` of `inputs` (nodes of `graph`) and returns its
/// outputs, in order. f16/bf16 composites that accumulate in f32 do so here too. May use other
/// composites, which have decompositions of their own, but no cycle. The operation must satisfy
/// is_composite().
[[nodiscard]] std::vector<NodeId> decompose(ComputationGraph& graph, const Operation& operation,
                                            std::span<const NodeId> inputs);

}  // namespace metal_candle
