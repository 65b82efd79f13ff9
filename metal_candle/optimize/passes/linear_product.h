// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the epilogue passes share: a matrix product that may have taken part of its epilogue
// already, in the order scale, bias, activation, residual.
#pragma once

#include <vector>

#include "metal_candle/optimize/pattern.h"

namespace metal_candle::passes {

/// Matmul or Linear, bound to `node`, whose operands may be anything.
[[nodiscard]] pattern::Pattern linear_product(const pattern::Var& node);
/// The attributes of such a node as a Linear.
[[nodiscard]] op::Linear linear_attributes(const pattern::Match& m, const pattern::Var& node);
/// Its operands: x, weight, bias if any, residual if any.
[[nodiscard]] std::vector<NodeId> linear_operands(const pattern::Match& m,
                                                  const pattern::Var& node);
/// Whether it is floating and has the root's spec: only then does what follows fit an epilogue.
[[nodiscard]] bool epilogue_fits(const pattern::Match& m, const pattern::Var& node);

}  // namespace metal_candle::passes
