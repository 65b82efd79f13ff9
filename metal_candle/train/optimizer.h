// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) and clipping by the
// global norm, as functions from trees of lazy tensors to trees of lazy tensors.
//
//   AdamW optimizer({.weight_decay = 0.1});
//   Tree state = optimizer.initial_state(parameters);
//   ...
//   auto updated = optimizer.update(parameters, gradients, state, Tensor(learning_rate));
//   parameters = std::move(updated.parameters);
//   state = std::move(updated.state);
//   eval(...)  // Of the leaves of both.
//
// Everything that changes from update to update is a tensor, so that one plan serves them all. When
// nobody else holds the old parameters and the old state, evaluation overwrites their memory.
#pragma once

#include "metal_candle/autograd/tree.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;  // Added to the root, not under it.
  double weight_decay = 0.01;
  /// Whether f16 and bf16 parameters have f32 copies in the state, which are what is updated; the
  /// parameters are the copies, rounded. Without them an update is lost when it is less than half
  /// of a unit in the last place, 2^-9 of a bf16 parameter: at the usual learning rates of
  /// fine-tuning, that is most of them.
  bool master_weights = true;
};

/// Immutable and thread safe.
class AdamW {
 public:
  /// Throws Error unless 0 <= beta < 1, eps > 0 and weight_decay >= 0.
  explicit AdamW(const AdamWOptions& options = {});

  struct Updated {
    Tree parameters;
    Tree state;
  };

  /// Lazy: {"step": i32 [], "m": and "v": f32, in the structure of the parameters} and, if there
  /// are any, {"master": {path: f32}} of the f16 and bf16 parameters. Throws DTypeError naming a
  /// parameter that is not floating.
  [[nodiscard]] Tree initial_state(const Tree& parameters) const;

  /// With g = gradient * gradient_scale, and t counting updates from 1:
  ///   m = beta1 m + (1 - beta1) g           v = beta2 v + (1 - beta2) g^2
  ///   p = p - rate (weight_decay p + (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps))
  /// in f32 whatever the dtypes. learning_rate and gradient_scale are f32 []; an empty
  /// gradient_scale is 1. Throws ShapeError naming a parameter whose gradient or state has another
  /// shape, Error when the structures differ.
  [[nodiscard]] Updated update(const Tree& parameters, const Tree& gradients, const Tree& state,
                               const Tensor& learning_rate,
                               const Tensor& gradient_scale = {}) const;

  [[nodiscard]] const AdamWOptions& options() const { return options_; }

 private:
  AdamWOptions options_;
};

/// f32 []: the 2-norm of all elements of all gradients together. `squares`, if given, gets the sums
/// of squares of each.
[[nodiscard]] Tensor global_norm(const Tree& gradients, std::vector<Tensor>* squares = nullptr);

/// f32 []: what gradients of this norm are multiplied with so that it becomes at most max_norm:
/// min(1, max_norm / (norm + 1e-6)), as in PyTorch.
[[nodiscard]] Tensor clip_scale(const Tensor& norm, double max_norm);

struct ClippedGradients {
  Tree gradients;
  Tensor norm;  // Before clipping.
};
/// Gradients times clip_scale() of their global norm. (AdamW::update() takes the scale itself,
/// which saves a pass over the gradients.)
[[nodiscard]] ClippedGradients clip_by_global_norm(const Tree& gradients, double max_norm);

}  // namespace metal_candle
