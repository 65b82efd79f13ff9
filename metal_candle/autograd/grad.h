// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reverse-mode differentiation of functions, of any order: grad(grad(f)) is a function like any
// other.
//
// A function takes one argument and returns one result: a Tensor, a std::vector<Tensor> or a Tree.
// Its parameter's type must be written out ([](const Tree& params) {...}), because it tells which.
// Whatever it captures is a constant, unless that depends on what an enclosing differentiation
// differentiates by.
//
//   auto step = value_and_grad([&](const Tree& params) { return loss(model(params, batch)); });
//   auto [value, gradient] = step(params);
//
// Gradients are lazy tensors like any others: evaluate them together with the value, so that what
// the two share is computed once. Thread safe as long as fn is: nothing is shared between calls.
//
// What has no derivative, and what ties do, is said in gradient_rules.h.
#pragma once

#include <concepts>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "metal_candle/autograd/differentiation.h"
#include "metal_candle/autograd/tree.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

namespace detail {

/// Converts to a T and to nothing that is made from one.
template <typename T>
struct ExactArgument {
  operator const T&() const;  // NOLINT(google-explicit-constructor)
};
template <typename Fn, typename Argument>
concept Takes = std::invocable<const Fn&, ExactArgument<Argument>>;
template <typename Fn>
concept Differentiable = Takes<Fn, Tensor> || Takes<Fn, std::vector<Tensor>> || Takes<Fn, Tree>;

template <typename Fn>
using ArgumentOf = std::conditional_t<
    Takes<Fn, Tensor>, Tensor,
    std::conditional_t<Takes<Fn, std::vector<Tensor>>, std::vector<Tensor>, Tree>>;
template <typename Fn>
using ResultOf = std::remove_cvref_t<std::invoke_result_t<const Fn&, const ArgumentOf<Fn>&>>;

template <typename T>
struct IsValueAndAux : std::false_type {};
template <typename Aux>
struct IsValueAndAux<std::pair<Tensor, Aux>> : std::true_type {};

// Taking arguments and results apart into tensors, and putting them together again.
inline std::vector<Tensor> leaves_of(const Tensor& x) { return {x}; }
inline std::vector<Tensor> leaves_of(const std::vector<Tensor>& xs) { return xs; }
inline std::vector<Tensor> leaves_of(const Tree& tree) { return tree.leaves(); }
inline Tensor rebuild(const Tensor& /*like*/, const std::vector<Tensor>& leaves) {
  return leaves[0];
}
inline std::vector<Tensor> rebuild(const std::vector<Tensor>& /*like*/,
                                   const std::vector<Tensor>& leaves) {
  return leaves;
}
inline Tree rebuild(const Tree& like, const std::vector<Tensor>& leaves) {
  return like.with_leaves(leaves);
}

// Each throws DTypeError naming the argument unless it is floating (only those in argnums, of a
// list), and returns which tensors are wanted.
std::vector<bool> require_floating(const char* what, const Tensor& x,
                                   const std::vector<int>& argnums);
std::vector<bool> require_floating(const char* what, const std::vector<Tensor>& xs,
                                   const std::vector<int>& argnums);
std::vector<bool> require_floating(const char* what, const Tree& tree,
                                   const std::vector<int>& argnums);

struct TensorsAndGradients {
  std::vector<Tensor> outputs, gradients;
};
TensorsAndGradients vjp_of_tensors(const TensorFunction& fn, const std::vector<Tensor>& primals,
                                   const std::vector<bool>& wanted,
                                   const std::vector<Tensor>& cotangents);
/// The cotangent is one. Throws ShapeError unless the output is a scalar, DTypeError unless it is
/// floating.
TensorsAndGradients gradients_of_scalar(const char* what, const TensorFunction& fn,
                                        const std::vector<Tensor>& primals,
                                        const std::vector<bool>& wanted);
/// Those that argnums names, in its order; all if it is empty.
std::vector<Tensor> select(const std::vector<Tensor>& tensors, const std::vector<int>& argnums);

}  // namespace detail

/// A function's output, and the gradient with respect to its argument.
template <typename Output, typename Argument>
struct VjpResult {
  Output output;
  Argument gradient;
};

/// fn(primal), and the gradient of sum(output * cotangent) over all its tensors with respect to
/// primal. The cotangent has the structure, shapes and dtypes of the output. Zeros where the output
/// does not depend on a tensor. Throws ShapeError, DTypeError (integer or bool primals).
template <detail::Differentiable Fn>
[[nodiscard]] auto vjp(const Fn& fn, const detail::ArgumentOf<Fn>& primal,
                       const detail::ResultOf<Fn>& cotangent) {
  std::optional<detail::ResultOf<Fn>> output;
  auto result = detail::vjp_of_tensors(
      [&](const std::vector<Tensor>& leaves) {
        output.emplace(fn(detail::rebuild(primal, leaves)));
        return detail::leaves_of(*output);
      },
      detail::leaves_of(primal), detail::require_floating("vjp", primal, {}),
      detail::leaves_of(cotangent));
  return VjpResult<detail::ResultOf<Fn>, detail::ArgumentOf<Fn>>{
      *std::move(output), detail::rebuild(primal, result.gradients)};
}

/// A scalar function's value and gradient.
template <typename Argument>
struct ValueAndGrad {
  Tensor value;
  Argument gradient;
};
/// The same with what else the function returned.
template <typename Argument, typename Aux>
struct ValueGradAndAux {
  Tensor value;
  Argument gradient;
  Aux aux;
};

/// A function of fn's argument that returns fn's value and gradient: ValueAndGrad. fn returns a
/// scalar, or a std::pair of a scalar and anything else (ValueGradAndAux then). The gradient has
/// the structure of the argument; of a std::vector<Tensor>, `argnums` selects which tensors to
/// differentiate by (all if empty; negative ones count from the end), and the gradient has those,
/// in that order. Calling it throws ShapeError when the value is not a scalar, DTypeError for an
/// integer argument.
template <detail::Differentiable Fn>
[[nodiscard]] auto value_and_grad(Fn fn, std::vector<int> argnums = {}) {
  using Argument = detail::ArgumentOf<Fn>;
  using Result = detail::ResultOf<Fn>;
  return [fn = std::move(fn), argnums = std::move(argnums)](const Argument& argument) {
    constexpr const char* kName = "value_and_grad";
    const std::vector<bool> wanted = detail::require_floating(kName, argument, argnums);
    std::optional<Result> result;
    const auto call = [&](const std::vector<Tensor>& leaves) {
      result.emplace(fn(detail::rebuild(argument, leaves)));
      if constexpr (detail::IsValueAndAux<Result>::value) {
        return std::vector<Tensor>{result->first};
      } else {
        static_assert(std::same_as<Result, Tensor>,
                      "the function must return a Tensor or std::pair<Tensor, Aux>");
        return std::vector<Tensor>{*result};
      }
    };
    auto found = detail::gradients_of_scalar(kName, call, detail::leaves_of(argument), wanted);
    Argument gradient = detail::rebuild(argument, detail::select(found.gradients, argnums));
    if constexpr (detail::IsValueAndAux<Result>::value) {
      return ValueGradAndAux<Argument, typename Result::second_type>{
          found.outputs[0], std::move(gradient), std::move(result->second)};
    } else {
      return ValueAndGrad<Argument>{found.outputs[0], std::move(gradient)};
    }
  };
}

/// value_and_grad() without the value (and without what else fn may return).
template <detail::Differentiable Fn>
[[nodiscard]] auto grad(Fn fn, std::vector<int> argnums = {}) {
  return [both = value_and_grad(std::move(fn), std::move(argnums))](
             const detail::ArgumentOf<Fn>& argument) { return both(argument).gradient; };
}

}  // namespace metal_candle
