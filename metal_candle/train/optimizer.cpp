// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Each parameter costs three fused steps: one for m, one for v and one for the parameter. So that
// it stays at that, m and v each scale the gradient with a scalar of their own instead of sharing a
// scaled gradient, which would have to be stored.
#include "metal_candle/train/optimizer.h"

#include <fmt/format.h>

#include <cmath>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

bool has_master(const AdamWOptions& options, const Tensor& parameter) {
  return options.master_weights && parameter.dtype() != DType::kF32;
}

void require_shape(const std::string& path, const char* what, const Tensor& tensor,
                   const Tensor& parameter) {
  if (tensor.shape() == parameter.shape()) return;
  throw ShapeError(fmt::format("AdamW: {} is {}, but its {} is {}", path,
                               to_string(parameter.shape()), what, to_string(tensor.shape())));
}

// What all parameters of an update share: f32 [].
struct Scalars {
  Tensor step;               // i32 [].
  Tensor decay;              // rate * weight_decay; empty without decay.
  Tensor rate;               // rate / (1 - beta1^t).
  Tensor root_scale;         // 1 / sqrt(1 - beta2^t).
  Tensor first_scale;        // (1 - beta1) * gradient_scale; empty when that is 1.
  Tensor root_second_scale;  // sqrt(1 - beta2) * gradient_scale; empty when that is 1.
};

Scalars make_scalars(const AdamWOptions& options, const Tensor& step, const Tensor& learning_rate,
                     const Tensor& gradient_scale) {
  Scalars scalars;
  scalars.step = step + 1;
  const Tensor t = astype(scalars.step, DType::kF32);
  // 1 - beta^t, which keeps its digits when beta^t is close to 1.
  const auto correction = [&](double beta) { return negative(expm1(t * std::log(beta))); };
  const bool first_is_plain = options.beta1 == 0;
  scalars.rate = first_is_plain ? learning_rate : learning_rate / correction(options.beta1);
  scalars.root_scale =
      options.beta2 == 0 ? ones({}, DType::kF32, t.device()) : rsqrt(correction(options.beta2));
  if (options.weight_decay > 0) scalars.decay = learning_rate * options.weight_decay;
  if (!gradient_scale.empty()) {
    scalars.first_scale = gradient_scale * (1 - options.beta1);
    scalars.root_second_scale = gradient_scale * std::sqrt(1 - options.beta2);
  }
  return scalars;
}

struct Moments {
  Tensor m, v;
};

Moments update_moments(const AdamWOptions& options, const Scalars& scalars, const Tensor& gradient,
                       const Tensor& m, const Tensor& v) {
  const Tensor g = astype(gradient, DType::kF32);
  const bool scaled = !scalars.first_scale.empty();
  const Tensor first = scaled ? g * scalars.first_scale : g * (1 - options.beta1);
  const Tensor second =
      square(scaled ? g * scalars.root_second_scale : g * std::sqrt(1 - options.beta2));
  return {m * options.beta1 + first, v * options.beta2 + second};
}

Tensor update_parameter(const AdamWOptions& options, const Scalars& scalars, const Tensor& p,
                        const Moments& moments) {
  Tensor change = scalars.rate * moments.m / (sqrt(moments.v) * scalars.root_scale + options.eps);
  // The two are added first: each alone may be too small to change p.
  if (!scalars.decay.empty()) change = change + scalars.decay * p;
  return p - change;
}

}  // namespace

AdamW::AdamW(const AdamWOptions& options) : options_(options) {
  const auto require = [](bool valid, const char* what, double value) {
    if (!valid) throw Error(fmt::format("AdamW: {} cannot be {}", what, value));
  };
  require(options.beta1 >= 0 && options.beta1 < 1, "beta1", options.beta1);
  require(options.beta2 >= 0 && options.beta2 < 1, "beta2", options.beta2);
  require(options.eps > 0, "eps", options.eps);
  require(options.weight_decay >= 0, "weight_decay", options.weight_decay);
}

Tree AdamW::initial_state(const Tree& parameters) const {
  const std::vector<Tensor> leaves = parameters.leaves();
  const std::vector<std::string> paths = parameters.paths();
  Tree::Dict master;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!is_floating(leaves[i].dtype())) {
      throw DTypeError(fmt::format("AdamW: {} is {}, and only floating parameters can be trained",
                                   paths[i], name(leaves[i].dtype())));
    }
    if (has_master(options_, leaves[i])) master.emplace(paths[i], astype(leaves[i], DType::kF32));
  }
  const auto zero = [](const Tensor& parameter) { return zeros_like(parameter, DType::kF32); };
  Tree state;
  const Device device = leaves.empty() ? default_device() : leaves[0].device();
  state["step"] = zeros({}, DType::kI32, device);
  state["m"] = parameters.map(zero);
  state["v"] = parameters.map(zero);
  if (!master.empty()) state["master"] = std::move(master);
  return state;
}

AdamW::Updated AdamW::update(const Tree& parameters, const Tree& gradients, const Tree& state,
                             const Tensor& learning_rate, const Tensor& gradient_scale) const {
  if (!same_structure(parameters, gradients) || !same_structure(parameters, state.at("m")) ||
      !same_structure(parameters, state.at("v"))) {
    throw Error("AdamW: parameters, gradients and state have different structures");
  }
  const std::vector<Tensor> ps = parameters.leaves();
  const std::vector<Tensor> gs = gradients.leaves();
  const std::vector<Tensor> ms = state.at("m").leaves();
  const std::vector<Tensor> vs = state.at("v").leaves();
  const std::vector<std::string> paths = parameters.paths();
  const Scalars scalars =
      make_scalars(options_, state.tensor("step"), learning_rate, gradient_scale);
  std::vector<Tensor> new_ps;
  std::vector<Tensor> new_ms;
  std::vector<Tensor> new_vs;
  Tree::Dict master;
  for (std::size_t i = 0; i < ps.size(); ++i) {
    require_shape(paths[i], "gradient", gs[i], ps[i]);
    require_shape(paths[i], "first moment", ms[i], ps[i]);
    require_shape(paths[i], "second moment", vs[i], ps[i]);
    const bool mastered = has_master(options_, ps[i]);
    const Tensor p = mastered ? state.at("master").tensor(paths[i]) : astype(ps[i], DType::kF32);
    require_shape(paths[i], "master copy", p, ps[i]);
    const Moments moments = update_moments(options_, scalars, gs[i], ms[i], vs[i]);
    Tensor updated = update_parameter(options_, scalars, p, moments);
    if (mastered) master.emplace(paths[i], updated);
    new_ps.push_back(astype(updated, ps[i].dtype()));
    new_ms.push_back(moments.m);
    new_vs.push_back(moments.v);
  }
  Tree new_state;
  new_state["step"] = scalars.step;
  new_state["m"] = parameters.with_leaves(new_ms);
  new_state["v"] = parameters.with_leaves(new_vs);
  if (!master.empty()) new_state["master"] = std::move(master);
  return {parameters.with_leaves(new_ps), std::move(new_state)};
}

Tensor global_norm(const Tree& gradients, std::vector<Tensor>* squares) {
  std::vector<Tensor> sums;
  for (const Tensor& gradient : gradients.leaves()) {
    sums.push_back(sum(square(astype(gradient, DType::kF32))));
  }
  if (sums.empty()) return zeros({});
  Tensor norm = sqrt(sum(stack(sums)));
  if (squares != nullptr) *squares = std::move(sums);
  return norm;
}

Tensor clip_scale(const Tensor& norm, double max_norm) {
  if (!(max_norm > 0)) {
    throw Error(fmt::format("clip_by_global_norm: the norm cannot be limited to {}", max_norm));
  }
  return minimum(max_norm / (norm + 1e-6), 1.0);
}

ClippedGradients clip_by_global_norm(const Tree& gradients, double max_norm) {
  const Tensor norm = global_norm(gradients);
  const Tensor scale = clip_scale(norm, max_norm);
  const auto scaled = [&](const Tensor& gradient) {
    return astype(astype(gradient, DType::kF32) * scale, gradient.dtype());
  };
  return {gradients.map(scaled), norm};
}

}  // namespace metal_candle
