// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The step after optimisation that makes a graph fit a backend. Not a pass: it always runs.
#pragma once

#include <functional>
#include <span>

#include "metal_candle/graph/computation_graph.h"

namespace metal_candle {

/// Whether a backend has a kernel for this operation at these inputs.
using SupportsOperation = std::function<bool(const Operation&, std::span<const TensorSpec>)>;

/// Replaces each composite that is not supported by its decomposition, and that likewise, until
/// only supported operations are left; then compacts. Views (is_alias(), Reshape) and Pick need no
/// kernel and are not asked about. Throws DeviceError naming the operation, dtypes and shapes when
/// a primitive is not supported. Returns how many nodes were decomposed.
int lower_unsupported(ComputationGraph& graph, const SupportsOperation& supports);

}  // namespace metal_candle
