// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Checks of arguments, and the two ways to begin a backward pass.
#include "metal_candle/autograd/grad.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"

namespace metal_candle::detail {
namespace {

void require_floating(const char* what, const Tensor& x, const std::string& place) {
  if (x.empty()) throw Error(fmt::format("{}: argument {}is an empty tensor", what, place));
  if (is_floating(x.dtype())) return;
  throw DTypeError(fmt::format(
      "{}: argument {}is {} {}, and there is no gradient with respect to integers; leave it out of "
      "argnums, or let the function capture it",
      what, place, name(x.dtype()), to_string(x.shape())));
}

std::size_t checked_argnum(const char* what, int argnum, std::size_t count) {
  const int length = static_cast<int>(count);
  const int index = argnum < 0 ? argnum + length : argnum;
  if (index < 0 || index >= length) {
    throw ShapeError(
        fmt::format("{}: argnums names {}, but there are {} arguments", what, argnum, count));
  }
  return static_cast<std::size_t>(index);
}

void check_cotangents(const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents) {
  if (outputs.size() != cotangents.size()) {
    throw ShapeError(
        fmt::format("vjp: {} cotangents for {} outputs", cotangents.size(), outputs.size()));
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (cotangents[i].empty()) continue;
    const TensorSpec &output = outputs[i].spec(), &cotangent = cotangents[i].spec();
    if (output.shape != cotangent.shape) {
      throw ShapeError(fmt::format("vjp: output {} is {}, its cotangent {}", i,
                                   to_string(output.shape), to_string(cotangent.shape)));
    }
    if (output.dtype != cotangent.dtype) {
      throw DTypeError(fmt::format("vjp: output {} is {}, its cotangent {}", i, name(output.dtype),
                                   name(cotangent.dtype)));
    }
  }
}

}  // namespace

std::vector<bool> require_floating(const char* what, const Tensor& x,
                                   const std::vector<int>& argnums) {
  return require_floating(what, std::vector<Tensor>{x}, argnums);
}

std::vector<bool> require_floating(const char* what, const std::vector<Tensor>& xs,
                                   const std::vector<int>& argnums) {
  std::vector<bool> wanted(xs.size(), argnums.empty());
  for (const int argnum : argnums) wanted[checked_argnum(what, argnum, xs.size())] = true;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (wanted[i]) require_floating(what, xs[i], fmt::format("{} ", i));
  }
  return wanted;
}

std::vector<bool> require_floating(const char* what, const Tree& tree,
                                   const std::vector<int>& argnums) {
  if (!argnums.empty()) {
    throw Error(fmt::format("{}: argnums selects from a list of tensors, not from a tree", what));
  }
  const std::vector<Tensor> leaves = tree.leaves();
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].empty() && is_floating(leaves[i].dtype())) continue;
    require_floating(what, leaves[i], fmt::format("'{}' ", tree.paths()[i]));
  }
  return std::vector<bool>(leaves.size(), true);
}

TensorsAndGradients vjp_of_tensors(const TensorFunction& fn, const std::vector<Tensor>& primals,
                                   const std::vector<bool>& wanted,
                                   const std::vector<Tensor>& cotangents) {
  const Differentiation differentiation(primals, wanted);
  std::vector<Tensor> outputs = fn(differentiation.arguments());
  check_cotangents(outputs, cotangents);
  std::vector<Tensor> gradients = differentiation.pull_back(outputs, cotangents);
  return {std::move(outputs), std::move(gradients)};
}

TensorsAndGradients gradients_of_scalar(const char* what, const TensorFunction& fn,
                                        const std::vector<Tensor>& primals,
                                        const std::vector<bool>& wanted) {
  const Differentiation differentiation(primals, wanted);
  std::vector<Tensor> outputs = fn(differentiation.arguments());
  const Tensor& value = outputs[0];
  if (value.rank() != 0) {
    throw ShapeError(
        fmt::format("{}: the function's value has shape {}, but must be a scalar; use "
                    "vjp() with a cotangent, or reduce it",
                    what, to_string(value.shape())));
  }
  if (!is_floating(value.dtype())) {
    throw DTypeError(fmt::format("{}: the function's value is {}, which has no gradient", what,
                                 name(value.dtype())));
  }
  const Tensor one = make_node(op::Full{Scalar::from_real(1)}, std::span<const Tensor* const>(),
                               value.spec(), value.device());
  std::vector<Tensor> gradients = differentiation.pull_back(outputs, {one});
  return {std::move(outputs), std::move(gradients)};
}

std::vector<Tensor> select(const std::vector<Tensor>& tensors, const std::vector<int>& argnums) {
  if (argnums.empty()) return tensors;
  std::vector<Tensor> selected;
  for (const int argnum : argnums) {
    selected.push_back(tensors[checked_argnum("argnums", argnum, tensors.size())]);
  }
  return selected;
}

}  // namespace metal_candle::detail
