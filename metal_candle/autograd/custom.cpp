// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Custom gradients: the outputs of a function and its arguments are tied together by one node that
// carries the rule. Evaluation sees through it.
#include "metal_candle/autograd/custom.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

Tensor make(Operation operation, const std::vector<const Tensor*>& inputs,
            const TensorSpec& requested) {
  return detail::make_node(std::move(operation), inputs, requested, inputs[0]->device());
}

/// fn's outputs, with `rule` for their gradient.
std::vector<Tensor> call_with_rule(const char* what, const TensorFunction& fn,
                                   const std::vector<Tensor>& arguments,
                                   std::shared_ptr<const CustomGradientRule> rule) {
  bool is_differentiated = false;
  std::vector<Tensor> marked;
  for (const Tensor& argument : arguments) {
    if (argument.empty()) throw Error(fmt::format("{}: an argument is an empty tensor", what));
    is_differentiated |= static_cast<bool>(argument.node()->gradient_scope());
    marked.push_back(detail::make_node(op::Identity{}, {&argument}));
  }
  std::vector<Tensor> values = fn(marked);
  if (detail::depends_on_others(values, marked)) {
    throw Error(
        fmt::format("{}: an output depends on a tensor that is being differentiated but is "
                    "not among the arguments; pass it as one",
                    what));
  }
  // Nobody can ask for a gradient later: a differentiation begins by calling its function.
  if (!is_differentiated || values.empty()) return values;
  std::vector<Node*> inputs;
  for (const Tensor& value : values) inputs.push_back(value.node().get());
  for (const Tensor& argument : arguments) inputs.push_back(argument.node().get());
  // Not through make_node(), which in eager mode would evaluate a tuple of one.
  const Tensor tuple(
      Node::make(op::CustomGradient{static_cast<int>(values.size()), std::move(rule)},
                 values[0].spec(), values[0].device(), inputs));
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < values.size(); ++i) {
    outputs.push_back(make(op::Pick{static_cast<int>(i)}, {&tuple}, values[i].spec()));
  }
  return outputs;
}

class UserRule : public CustomGradientRule {
 public:
  explicit UserRule(VjpRule rule) : rule_(std::move(rule)) {}

  [[nodiscard]] std::vector<Tensor> gradients(
      const std::vector<Tensor>& arguments, const std::vector<bool>& /*wanted*/,
      const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents) const override {
    std::vector<Tensor> filled = cotangents;
    for (std::size_t i = 0; i < filled.size(); ++i) {
      if (!filled[i].empty()) continue;
      filled[i] = detail::make_node(op::Full{}, std::span<const Tensor* const>(), outputs[i].spec(),
                                    outputs[i].device());
    }
    std::vector<Tensor> result = rule_(arguments, outputs, filled);
    if (result.size() != arguments.size()) {
      throw Error(fmt::format("custom_vjp: the rule returned {} gradients for {} arguments",
                              result.size(), arguments.size()));
    }
    return result;
  }

 private:
  VjpRule rule_;
};

class RecomputeRule : public CustomGradientRule {
 public:
  explicit RecomputeRule(TensorFunction fn) : fn_(std::move(fn)) {}

  [[nodiscard]] std::vector<Tensor> gradients(
      const std::vector<Tensor>& arguments, const std::vector<bool>& wanted,
      const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents) const override {
    // Behind barriers that wait for the cotangents: common subexpression elimination would merge
    // the second computation with the first, and keep alive what is meant to be dropped.
    std::vector<Tensor> waiting;
    for (const Tensor& argument : arguments) {
      std::vector<const Tensor*> inputs = {&argument};
      for (const Tensor& cotangent : cotangents) {
        if (!cotangent.empty()) inputs.push_back(&cotangent);
      }
      waiting.push_back(make(op::Barrier{}, inputs, argument.spec()));
    }
    const detail::Differentiation differentiation(waiting, wanted);
    const std::vector<Tensor> again = fn_(differentiation.arguments());
    if (again.size() != outputs.size()) {
      throw Error(fmt::format("checkpoint: the function returned {} outputs, then {}",
                              outputs.size(), again.size()));
    }
    return differentiation.pull_back(again, cotangents);
  }

 private:
  TensorFunction fn_;
};

}  // namespace

TensorFunction custom_vjp(TensorFunction fn, VjpRule rule) {
  auto shared = std::make_shared<const UserRule>(std::move(rule));
  return [fn = std::move(fn), rule = std::move(shared)](const std::vector<Tensor>& arguments) {
    return call_with_rule("custom_vjp", fn, arguments, rule);
  };
}

TensorFunction checkpoint(TensorFunction fn) {
  auto shared = std::make_shared<const RecomputeRule>(fn);
  return [fn = std::move(fn), rule = std::move(shared)](const std::vector<Tensor>& arguments) {
    return call_with_rule("checkpoint", fn, arguments, rule);
  };
}

std::function<Tensor(const Tensor&)> checkpoint(std::function<Tensor(const Tensor&)> fn) {
  TensorFunction wrapped =
      checkpoint(TensorFunction([fn = std::move(fn)](const std::vector<Tensor>& arguments) {
        return std::vector<Tensor>{fn(arguments[0])};
      }));
  return [wrapped = std::move(wrapped)](const Tensor& x) { return wrapped({x})[0]; };
}

}  // namespace metal_candle
