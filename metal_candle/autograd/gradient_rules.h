// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of every operation: an overload set over Operation, so that an operation without a
// rule does not compile. A rule is given the cotangents of the outputs and gives those of the
// inputs, in tensor operations, so that gradients have gradients.
//
// Where there is no derivative: predicates, integer results, argmax, sorting orders and random bits
// pass no gradient, and neither do floor, ceil, round, trunc and sign, whose derivative is zero
// almost everywhere. Where several inputs tie for a maximum or minimum, they share its gradient
// evenly, as in PyTorch's amax. abs has derivative 0 at 0, and relu too.
#pragma once

#include <span>
#include <vector>

#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle::detail {

/// What a rule sees of one operation, and where it puts its results.
class VjpContext {
 public:
  VjpContext(const Operation& operation, Tensor node, std::vector<Tensor> inputs,
             std::vector<bool> needs, std::vector<Tensor> cotangents)
      : operation_(operation),
        node_(std::move(node)),
        inputs_(std::move(inputs)),
        needs_(std::move(needs)),
        cotangents_(std::move(cotangents)),
        gradients_(inputs_.size()) {}

  [[nodiscard]] std::size_t num_inputs() const { return inputs_.size(); }
  [[nodiscard]] const std::vector<Tensor>& inputs() const { return inputs_; }
  /// Input i.
  [[nodiscard]] const Tensor& x(std::size_t i = 0) const { return inputs_[i]; }
  /// Whether anybody wants the gradient of input i: rules compute no others.
  [[nodiscard]] bool needs(std::size_t i = 0) const { return needs_[i]; }
  [[nodiscard]] const std::vector<bool>& needs_all() const { return needs_; }
  /// Output k.
  [[nodiscard]] Tensor y(int k = 0) const;
  /// Cotangent of output k; empty if zero, which it never is where there is only one output.
  [[nodiscard]] const Tensor& dy(std::size_t k = 0) const { return cotangents_[k]; }
  [[nodiscard]] const std::vector<Tensor>& cotangents() const { return cotangents_; }

  /// Gives input i its gradient, summed over the axes along which the input was broadcast. Throws
  /// Error if it does not fit.
  void give(std::size_t i, const Tensor& gradient);
  /// One for each input; empty where zero or not needed.
  [[nodiscard]] std::vector<Tensor> take_gradients() { return std::move(gradients_); }

 private:
  const Operation& operation_;
  Tensor node_;
  std::vector<Tensor> inputs_;
  std::vector<bool> needs_;
  std::vector<Tensor> cotangents_;
  std::vector<Tensor> gradients_;
};

// Elementwise.
void vjp_rule(const op::Full& operation, VjpContext& c);
void vjp_rule(const op::Arange& operation, VjpContext& c);
void vjp_rule(const op::RandomBits& operation, VjpContext& c);
void vjp_rule(const op::Unary& operation, VjpContext& c);
void vjp_rule(const op::Binary& operation, VjpContext& c);
void vjp_rule(const op::Select& operation, VjpContext& c);
void vjp_rule(const op::Cast& operation, VjpContext& c);
void vjp_rule(const op::SwiGlu& operation, VjpContext& c);
void vjp_rule(const op::SwiGluBackward& operation, VjpContext& c);
void vjp_rule(const op::Elementwise& operation, VjpContext& c);
void vjp_rule(const op::ElementwiseReduce& operation, VjpContext& c);

// Reductions, scans and sorting.
void vjp_rule(const op::Reduce& operation, VjpContext& c);
void vjp_rule(const op::ArgReduce& operation, VjpContext& c);
void vjp_rule(const op::Cumulative& operation, VjpContext& c);
void vjp_rule(const op::Sort& operation, VjpContext& c);
void vjp_rule(const op::ArgSort& operation, VjpContext& c);
void vjp_rule(const op::ArgTopK& operation, VjpContext& c);
void vjp_rule(const op::Softmax& operation, VjpContext& c);
void vjp_rule(const op::LogSoftmax& operation, VjpContext& c);
void vjp_rule(const op::LogSumExp& operation, VjpContext& c);
void vjp_rule(const op::TopPThreshold& operation, VjpContext& c);
void vjp_rule(const op::Draw& operation, VjpContext& c);
void vjp_rule(const op::SoftmaxBackward& operation, VjpContext& c);

// Layout and structure.
void vjp_rule(const op::Reshape& operation, VjpContext& c);
void vjp_rule(const op::Transpose& operation, VjpContext& c);
void vjp_rule(const op::Slice& operation, VjpContext& c);
void vjp_rule(const op::Broadcast& operation, VjpContext& c);
void vjp_rule(const op::Concatenate& operation, VjpContext& c);
void vjp_rule(const op::Pad& operation, VjpContext& c);
void vjp_rule(const op::Barrier& operation, VjpContext& c);
void vjp_rule(const op::StopGradient& operation, VjpContext& c);
void vjp_rule(const op::Identity& operation, VjpContext& c);
void vjp_rule(const op::Pick& operation, VjpContext& c);
void vjp_rule(const op::CustomGradient& operation, VjpContext& c);

// Indexing.
void vjp_rule(const op::Take& operation, VjpContext& c);
void vjp_rule(const op::TakeAlongAxis& operation, VjpContext& c);
void vjp_rule(const op::ScatterAdd& operation, VjpContext& c);
void vjp_rule(const op::ScatterAddAlongAxis& operation, VjpContext& c);
void vjp_rule(const op::SliceUpdate& operation, VjpContext& c);
void vjp_rule(const op::DynamicSlice& operation, VjpContext& c);
void vjp_rule(const op::DynamicSliceUpdate& operation, VjpContext& c);

// Matrix products.
void vjp_rule(const op::Matmul& operation, VjpContext& c);
void vjp_rule(const op::Lora& operation, VjpContext& c);
void vjp_rule(const op::LoraLinear& operation, VjpContext& c);
void vjp_rule(const op::Linear& operation, VjpContext& c);
void vjp_rule(const op::ProductSum& operation, VjpContext& c);
void vjp_rule(const op::NormLinear& operation, VjpContext& c);

// Norms, positions, attention and losses.
void vjp_rule(const op::RmsNorm& operation, VjpContext& c);
void vjp_rule(const op::RmsNormBackward& operation, VjpContext& c);
void vjp_rule(const op::LayerNorm& operation, VjpContext& c);
void vjp_rule(const op::LayerNormBackward& operation, VjpContext& c);
void vjp_rule(const op::Rope& operation, VjpContext& c);
void vjp_rule(const op::Attention& operation, VjpContext& c);
void vjp_rule(const op::AttentionBackward& operation, VjpContext& c);
void vjp_rule(const op::CachedAttention& operation, VjpContext& c);
void vjp_rule(const op::CrossEntropy& operation, VjpContext& c);
void vjp_rule(const op::CrossEntropyBackward& operation, VjpContext& c);
void vjp_rule(const op::LinearCrossEntropy& operation, VjpContext& c);
void vjp_rule(const op::LinearCrossEntropyBackward& operation, VjpContext& c);

/// Applies the rule of c's operation.
void apply_vjp_rule(const Operation& operation, VjpContext& c);

/// The rule of a composite that has none of its own: differentiates its decomposition.
void vjp_of_decomposition(const Operation& operation, VjpContext& c);

}  // namespace metal_candle::detail
