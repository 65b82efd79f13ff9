// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shape and dtype rules: what an operation's outputs are, given its inputs, or a typed error.
#pragma once

#include <array>
#include <span>

#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle {

/// Specs of inputs by address, so that building a node copies none.
using SpecRefs = std::span<const TensorSpec* const>;

/// Outputs of one operation.
struct OutputSpecs {
  static constexpr int kMax = 3;
  std::array<TensorSpec, kMax> specs;
  int count = 0;
};

/// How many outputs an operation can have. One that can have several is always read through Pick,
/// also where it has one (a norm's gradient without a weight): infer_outputs() has the count.
[[nodiscard]] int num_outputs(const Operation& operation);

/// The output of an operation that has one, or output 0. Throws ShapeError or DTypeError naming the
/// operation and the offending shapes or dtypes. `requested` matters only where the inputs do not
/// determine the output: the dtype and shape of Full, Arange, RandomBits; the dtype of Cast; the
/// shape of Reshape, Slice, Broadcast, Pad, ArgTopK, DynamicSlice; the spec of Pick.
[[nodiscard]] TensorSpec infer_output(const Operation& operation, SpecRefs inputs,
                                      const TensorSpec& requested);
/// All of them. Not for CustomGradient, which has as many as it likes.
[[nodiscard]] OutputSpecs infer_outputs(const Operation& operation, SpecRefs inputs,
                                        const TensorSpec& requested);

}  // namespace metal_candle
