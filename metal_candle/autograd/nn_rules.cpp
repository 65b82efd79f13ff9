// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients of norms, rotary embeddings, attention and cross entropies: where a backward operation
// exists, one node of it. Gradients of those, for higher orders, are found by differentiating what
// they decompose into.
#include "metal_candle/autograd/gradient_rules.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/ops/build.h"

namespace metal_candle::detail {
namespace {

/// Gives x and, where there is one, the weight what a norm's backward operation finds.
void norm_rule(const Operation& backward, VjpContext& c) {
  const bool has_weight = c.num_inputs() > 1;
  const bool needs_weight = has_weight && c.needs(1);
  if (!c.needs(0) && !needs_weight) return;
  std::vector<const Tensor*> inputs = {&c.x(0)};
  if (has_weight) inputs.push_back(&c.x(1));
  inputs.push_back(&c.dy());
  const std::vector<Tensor> gradients = make_outputs(backward, inputs);
  if (c.needs(0)) c.give(0, gradients[0]);
  if (needs_weight) c.give(1, gradients[1]);
}

}  // namespace

void vjp_rule(const op::RmsNorm& operation, VjpContext& c) {
  norm_rule(op::RmsNormBackward{operation.eps}, c);
}

void vjp_rule(const op::LayerNorm& operation, VjpContext& c) {
  if (c.num_inputs() == 3 && c.needs(2)) c.give(2, c.dy());
  norm_rule(op::LayerNormBackward{operation.eps}, c);
}

void vjp_rule(const op::RmsNormBackward& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}
void vjp_rule(const op::LayerNormBackward& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::Rope& operation, VjpContext& c) {
  if (c.needs(2)) return vjp_of_decomposition(operation, c);  // Learned frequencies.
  op::Rope back = operation;
  back.inverse = !operation.inverse;
  if (c.needs(0)) c.give(0, make_node(back, {&c.dy(), &c.x(1), &c.x(2)}));
}

void vjp_rule(const op::Attention& operation, VjpContext& c) {
  const bool mask_is_learned = operation.has_mask && c.needs(3);
  if (mask_is_learned || !c.dy(1).empty()) return vjp_of_decomposition(operation, c);
  const Tensor output = c.y(0), logsumexp = c.y(1);
  std::vector<const Tensor*> inputs = {&c.x(0), &c.x(1), &c.x(2), &output, &logsumexp, &c.dy(0)};
  for (std::size_t i = 3; i < c.num_inputs(); ++i) inputs.push_back(&c.x(i));
  const std::vector<Tensor> gradients = make_outputs(op::AttentionBackward{operation}, inputs);
  for (std::size_t i = 0; i < 3; ++i) {
    if (c.needs(i)) c.give(i, gradients[i]);
  }
}

void vjp_rule(const op::AttentionBackward& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::CachedAttention& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::CrossEntropy& operation, VjpContext& c) {
  if (!c.needs(0)) return;
  const Tensor &logits = c.x(0), &targets = c.x(1);
  const Tensor logsumexp = c.y(1);
  Tensor total;
  if (!c.dy(0).empty()) {
    total = make_node(op::CrossEntropyBackward{operation.ignore_index},
                      {&logits, &targets, &logsumexp, &c.dy(0)});
  }
  if (!c.dy(1).empty()) {
    const Tensor probabilities = exp(astype(logits, DType::kF32) - expand_dims(logsumexp, -1));
    const Tensor term = astype(probabilities * expand_dims(c.dy(1), -1), logits.dtype());
    total = total.empty() ? term : total + term;
  }
  c.give(0, total);
}

void vjp_rule(const op::CrossEntropyBackward& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

void vjp_rule(const op::LinearCrossEntropy& operation, VjpContext& c) {
  if (!c.dy(1).empty() || !c.dy(2).empty()) return vjp_of_decomposition(operation, c);
  if (!c.needs(1)) {
    // The weight is frozen: the forward pass knows the gradient up to a factor a row.
    const Tensor gradient = c.y(2);
    c.give(0, astype(gradient * expand_dims(c.dy(0), -1), gradient.dtype()));
    return;
  }
  const Tensor logsumexp = c.y(1);
  const std::vector<Tensor> gradients =
      make_outputs(op::LinearCrossEntropyBackward{operation.ignore_index},
                   {&c.x(0), &c.x(1), &c.x(2), &logsumexp, &c.dy(0)});
  if (c.needs(0)) c.give(0, gradients[0]);
  if (c.needs(1)) c.give(1, gradients[1]);
}

void vjp_rule(const op::LinearCrossEntropyBackward& operation, VjpContext& c) {
  vjp_of_decomposition(operation, c);
}

}  // namespace metal_candle::detail
