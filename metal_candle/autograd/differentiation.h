// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The mechanism under grad.h, custom.h and rules that differentiate a decomposition: which nodes
// lie between a function's arguments and its outputs, and cotangents carried back over them.
#pragma once

#include <functional>
#include <vector>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// A function of tensors that returns tensors.
using TensorFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

namespace detail {

/// One function call being differentiated. While this object lives, nodes that depend on its
/// arguments keep their expressions, also when they are evaluated. Objects on one thread nest:
/// destroy them in reverse order of making, on the thread that made them.
class Differentiation {
 public:
  /// `wanted[i]`: gradients flow to primal i; the others are passed through as they are.
  Differentiation(const std::vector<Tensor>& primals, const std::vector<bool>& wanted);
  ~Differentiation();
  Differentiation(const Differentiation&) = delete;
  Differentiation& operator=(const Differentiation&) = delete;

  /// What to call the function with.
  [[nodiscard]] const std::vector<Tensor>& arguments() const { return arguments_; }

  /// The gradients of sum(outputs[i] * cotangents[i]) with respect to the primals: zeros where
  /// nothing depends on a wanted primal, empty where a primal is not wanted. An empty cotangent
  /// means zeros. Iterative: a chain of any length is fine.
  [[nodiscard]] std::vector<Tensor> pull_back(const std::vector<Tensor>& outputs,
                                              const std::vector<Tensor>& cotangents) const;

 private:
  std::vector<Tensor> primals_;
  std::vector<Tensor> arguments_;
  std::vector<bool> wanted_;
  IntrusivePtr<GradientScope> scope_;
  IntrusivePtr<GradientScope> outer_;  // What was innermost on this thread before.
};

/// Whether `tensor` depends, through differentiable operations, on something that is being
/// differentiated, other than through one of `arguments`. Linear in the number of nodes between.
[[nodiscard]] bool depends_on_others(const std::vector<Tensor>& tensors,
                                     const std::vector<Tensor>& arguments);

}  // namespace detail
}  // namespace metal_candle
