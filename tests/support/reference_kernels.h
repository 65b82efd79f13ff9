// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The loops of the reference interpreter, by family. Results are not rounded here.
#pragma once

#include <span>
#include <vector>

#include "metal_candle/graph/operation.h"
#include "tests/support/host_tensor.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing::reference {

using Inputs = std::span<const HostTensor* const>;
using Outputs = std::vector<HostTensor>;

/// An axis with what lies before and after it: element (o, i, k) is at (o * length + i) * inner +
/// k.
struct AxisView {
  AxisView(const Shape& shape, int axis);
  [[nodiscard]] std::int64_t at(std::int64_t o, std::int64_t i, std::int64_t k) const {
    return (o * length + i) * inner + k;
  }
  std::int64_t outer = 1, length = 1, inner = 1;
};

/// The position in an array of shape `from` that broadcasting reads for `index`.
std::int64_t broadcast_position(const Dims& index, const Shape& from);
/// An index that counts from the end if negative. Throws ShapeError when out of range.
std::int64_t checked_index(std::int64_t index, std::int64_t length);

HostTensor elementwise(const Operation& operation, Inputs inputs, const TensorSpec& spec);
HostTensor fused_elementwise(const ElementwiseProgram& program, Inputs inputs,
                             const TensorSpec& spec, Rounding rounding);
HostTensor full(const op::Full& operation, const TensorSpec& spec);
HostTensor arange(const op::Arange& operation, const TensorSpec& spec);
HostTensor random_bits(const HostTensor& key, const TensorSpec& spec);

HostTensor reduce(const op::Reduce& operation, const HostTensor& x, const TensorSpec& spec);
HostTensor arg_reduce(const op::ArgReduce& operation, const HostTensor& x, const TensorSpec& spec);
HostTensor cumulative(const op::Cumulative& operation, const HostTensor& x, const TensorSpec& spec);
/// Positions of the first spec.shape[axis] elements in sorted order.
HostTensor argsort(int axis, bool descending, const HostTensor& x, const TensorSpec& spec);
HostTensor matmul(const HostTensor& a, const HostTensor& b, DType dtype);

HostTensor reshape(const HostTensor& x, const TensorSpec& spec);
HostTensor transpose(const op::Transpose& operation, const HostTensor& x, const TensorSpec& spec);
HostTensor slice(const Dims& start, const Dims& step, const HostTensor& x, const TensorSpec& spec);
HostTensor slice_update(const Dims& start, const Dims& step, const HostTensor& x,
                        const HostTensor& update);
HostTensor broadcast(const HostTensor& x, const TensorSpec& spec);
HostTensor concatenate(int axis, Inputs inputs, const TensorSpec& spec);
HostTensor pad(const op::Pad& operation, const HostTensor& x, const TensorSpec& spec);
HostTensor take(int axis, const HostTensor& x, const HostTensor& indices, const TensorSpec& spec);
HostTensor take_along_axis(int axis, const HostTensor& x, const HostTensor& indices,
                           const TensorSpec& spec);
HostTensor scatter_add(int axis, const HostTensor& x, const HostTensor& indices,
                       const HostTensor& updates);
HostTensor scatter_add_along_axis(int axis, const HostTensor& x, const HostTensor& indices,
                                  const HostTensor& updates);
/// Where the block of a dynamic slice begins, clamped.
Dims dynamic_start(const Axes& axes, const HostTensor& starts, const Shape& whole,
                   const Shape& block);

HostTensor top_p_threshold(double p, const HostTensor& x, const TensorSpec& spec);
HostTensor draw(const HostTensor& x, const HostTensor& u, const TensorSpec& spec);
HostTensor log_sum_exp(int axis, const HostTensor& x, const TensorSpec& spec);
HostTensor softmax(int axis, const HostTensor& x, bool logarithm);
HostTensor softmax_backward(int axis, const HostTensor& y, const HostTensor& dy);
HostTensor rms_norm(double eps, Inputs inputs);
Outputs rms_norm_backward(double eps, Inputs inputs);
HostTensor layer_norm(double eps, Inputs inputs);
Outputs layer_norm_backward(double eps, Inputs inputs);
HostTensor swiglu(Inputs inputs, const TensorSpec& spec);
HostTensor rope(const op::Rope& operation, Inputs inputs);
HostTensor lora(double scale, const HostTensor& x, const HostTensor& a, const HostTensor& b);
Outputs lora_linear(const op::LoraLinear& operation, Inputs inputs);
Outputs swiglu_backward(Inputs inputs);
HostTensor linear(const op::Linear& operation, Inputs inputs, const TensorSpec& spec);
HostTensor product_sum(const op::ProductSum& operation, Inputs inputs, const TensorSpec& spec);
HostTensor norm_linear(const op::NormLinear& operation, Inputs inputs, const TensorSpec& spec);
Outputs attention(const op::Attention& operation, Inputs inputs);
Outputs cached_attention(const op::CachedAttention& operation, Inputs inputs);
Outputs attention_backward(const op::AttentionBackward& operation, Inputs inputs);
Outputs cross_entropy(std::int64_t ignore_index, const HostTensor& logits,
                      const HostTensor& targets);
HostTensor cross_entropy_backward(std::int64_t ignore_index, const HostTensor& logits,
                                  const HostTensor& targets, const HostTensor& logsumexp,
                                  const HostTensor& dloss);
Outputs linear_cross_entropy(std::int64_t ignore_index, Inputs inputs);
Outputs linear_cross_entropy_backward(std::int64_t ignore_index, Inputs inputs);

}  // namespace metal_candle::testing::reference
