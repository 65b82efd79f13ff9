// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How values should lie for those that read them.
#pragma once

#include <optional>

#include "metal_candle/backend/backend.h"
#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle {

[[nodiscard]] bool satisfies(const TensorLayout& layout, backend::InputLayout required);

/// How `value` would have to lie, instead of contiguously, so that transposing it and reshaping
/// that copies nothing, as where heads are joined after attention. Nothing if nobody does that, or
/// if another reader would need a copy then.
[[nodiscard]] std::optional<TensorLayout> layout_for_readers(const ComputationGraph& graph,
                                                             NodeId value,
                                                             const backend::Backend& backend);

}  // namespace metal_candle
