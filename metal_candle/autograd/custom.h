// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Functions whose gradient the user defines, and functions that compute again in the backward pass
// what they would otherwise keep in memory.
#pragma once

#include <functional>
#include <vector>

#include "metal_candle/autograd/differentiation.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// The gradient rule of an op::CustomGradient. Immutable, so as thread safe as what it captures.
class CustomGradientRule {
 public:
  virtual ~CustomGradientRule() = default;
  /// The gradients of sum(outputs * cotangents) with respect to the arguments, in order.
  /// `wanted[i]` says whether anybody reads the i-th; it may be empty if not, or if zero.
  /// Cotangents that are zero are empty.
  [[nodiscard]] virtual std::vector<Tensor> gradients(
      const std::vector<Tensor>& arguments, const std::vector<bool>& wanted,
      const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents) const = 0;
};

/// A rule for custom_vjp(): the gradients of sum(outputs * cotangents) with respect to the
/// arguments; one an argument, of its shape and dtype, or empty for none. Cotangents are never
/// empty.
using VjpRule = std::function<std::vector<Tensor>(const std::vector<Tensor>& arguments,
                                                  const std::vector<Tensor>& outputs,
                                                  const std::vector<Tensor>& cotangents)>;

/// A function with the values of fn and the gradient that `rule` says. For gradients of higher
/// order, rule is differentiated as it stands. Gradients flow to arguments only: calling the result
/// throws Error if fn's outputs depend on a tensor that is being differentiated and was captured
/// rather than passed.
[[nodiscard]] TensorFunction custom_vjp(TensorFunction fn, VjpRule rule);

/// A function with the values and gradients of fn that keeps nothing but its arguments for the
/// backward pass, and there computes fn again: after the caller has returned, so fn must not
/// capture its variables by reference. fn must compute the same each time (random keys as arguments
/// or captured constants are fine). Gradients flow to arguments only, as with custom_vjp().
[[nodiscard]] TensorFunction checkpoint(TensorFunction fn);
/// The same for a function of one tensor.
[[nodiscard]] std::function<Tensor(const Tensor&)> checkpoint(
    std::function<Tensor(const Tensor&)> fn);

}  // namespace metal_candle
