// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Making a graph fit a backend, which is not a pass: it always happens.
#pragma once

#include <functional>
#include <span>

#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/optimize/graph_optimizer.h"

namespace metal_candle {

/// Whether a backend has a kernel for this operation at these inputs.
using SupportsOperation = std::function<bool(const Operation&, std::span<const TensorSpec>)>;

/// Replaces each composite that is not supported by its decomposition, and that likewise, until
/// only supported operations are left; then compacts, if there was any. Views (is_alias(), Reshape)
/// and Pick need no kernel and are not asked about. Throws DeviceError naming the operation, dtypes
/// and shapes when a primitive is not supported. Returns how many nodes were decomposed.
int lower_unsupported(ComputationGraph& graph, const SupportsOperation& supports);

/// Optimises the graph, lowers it, and optimises what lowering decomposed: its constants fold and
/// its chains are fused, also with what is around them. Adds both to the report.
void optimize_for_backend(ComputationGraph& graph, const GraphOptimizer& optimizer,
                          const SupportsOperation& supports, OptimizationReport* report = nullptr);

}  // namespace metal_candle
