// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Central differences in double precision.
#include "tests/autograd/gradient_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/mode.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {
namespace {

// The error of a central difference is about step^2 f''' / 6 + 1e-16 f / step.
constexpr double kStep = 2e-5;
constexpr Tolerance kTolerance = {2e-6, 2e-7};

std::vector<Tensor> to_tensors(const std::vector<HostTensor>& hosts) {
  std::vector<Tensor> tensors;
  for (const HostTensor& host : hosts) tensors.push_back(to_tensor(host));
  return tensors;
}

std::vector<bool> floating(const std::vector<Tensor>& tensors) {
  std::vector<bool> result;
  for (const Tensor& tensor : tensors) result.push_back(is_floating(tensor.dtype()));
  return result;
}

/// Random weights of each output; none where it is not floating.
std::vector<Tensor> cotangents_of(const std::vector<Tensor>& outputs) {
  std::vector<Tensor> cotangents;
  for (const Tensor& output : outputs) {
    const bool has_one = is_floating(output.dtype());
    cotangents.push_back(has_one ? to_tensor(uniform(output.shape(), 0.5, 1.5,
                                                     100 + cotangents.size(), output.dtype()))
                                 : Tensor());
  }
  return cotangents;
}

/// sum(outputs * cotangents) as a function of the leaves' values.
class Objective {
 public:
  Objective(const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents)
      : traced_(trace_values(outputs)) {
    for (const Tensor& cotangent : cotangents) {
      weights_.push_back(cotangent.empty() ? HostTensor() : read_evaluated(cotangent));
    }
  }

  [[nodiscard]] double at(const std::vector<HostTensor>& inputs) const {
    const std::vector<HostTensor> outputs = interpret(traced_.graph, inputs);
    double total = 0;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      for (std::size_t i = 0; i < weights_[k].real.size(); ++i) {
        total += outputs[k].real[i] * weights_[k].real[i];
      }
    }
    return total;
  }

  /// The derivative with respect to each element of a leaf; zeros if it is none.
  [[nodiscard]] HostTensor differences(const Tensor& argument) const {
    HostTensor result(argument.spec());
    const auto found =
        std::find(traced_.leaves.begin(), traced_.leaves.end(), argument.node().get());
    if (found == traced_.leaves.end()) return result;
    const auto which = static_cast<std::size_t>(found - traced_.leaves.begin());
    std::vector<HostTensor> inputs = traced_.inputs;
    for (std::int64_t i = 0; i < result.size(); ++i) {
      const double x = inputs[which].r(i);
      inputs[which].r(i) = x + kStep;
      const double above = at(inputs);
      inputs[which].r(i) = x - kStep;
      const double below = at(inputs);
      inputs[which].r(i) = x;
      result.r(i) = (above - below) / (2 * kStep);
    }
    return result;
  }

 private:
  TracedValues traced_;
  std::vector<HostTensor> weights_;
};

std::vector<HostTensor> gradients_of(const TensorFunction& fn, const std::vector<Tensor>& arguments,
                                     const std::vector<bool>& wanted,
                                     const std::vector<Tensor>& cotangents) {
  const auto result = detail::vjp_of_tensors(fn, arguments, wanted, cotangents);
  std::vector<Tensor> present;
  for (const Tensor& gradient : result.gradients) {
    if (!gradient.empty()) present.push_back(gradient);
  }
  std::vector<HostTensor> values = interpret(present);
  std::vector<HostTensor> gradients(arguments.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (wanted[i]) gradients[i] = std::move(values[next++]);
  }
  return gradients;
}

}  // namespace

HostTensor uniform(const Shape& shape, double low, double high, std::uint64_t seed, DType dtype) {
  std::mt19937_64 engine(seed);
  HostTensor host(shape, dtype);
  for (double& value : host.real) {
    // Not std::uniform_real_distribution, whose numbers differ between libraries.
    const double unit = static_cast<double>(engine() >> 11) * 0x1p-53;
    value = round_to(low + unit * (high - low), dtype);
  }
  return host;
}

void check_first_order(const GradientCase& c) {
  const std::vector<Tensor> arguments = to_tensors(c.arguments);
  const std::vector<bool> wanted = floating(arguments);
  const std::vector<Tensor> outputs = c.fn(arguments);
  const std::vector<Tensor> cotangents = cotangents_of(outputs);
  const Objective objective(outputs, cotangents);
  const std::vector<HostTensor> together = gradients_of(c.fn, arguments, wanted, cotangents);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (!wanted[i]) continue;
    EXPECT_TRUE(all_close(together[i], objective.differences(arguments[i]), kTolerance))
        << c.name << ": gradient of argument " << i;
    std::vector<bool> only(arguments.size(), false);
    only[i] = true;
    EXPECT_TRUE(
        all_close(gradients_of(c.fn, arguments, only, cotangents)[i], together[i], {1e-12, 1e-12}))
        << c.name << ": gradient of argument " << i << " alone";
  }
}

void check_executed(const GradientCase& c) {
  const std::vector<Tensor> arguments = to_tensors(c.arguments);
  const std::vector<bool> wanted = floating(arguments);
  const std::vector<Tensor> cotangents = cotangents_of(c.fn(arguments));
  const auto build = [&] {
    const auto found = detail::vjp_of_tensors(c.fn, arguments, wanted, cotangents);
    std::vector<Tensor> tensors = found.outputs;
    for (const Tensor& gradient : found.gradients) {
      if (!gradient.empty()) tensors.push_back(gradient);
    }
    return tensors;
  };
  const std::vector<HostTensor> expected = interpret(build());
  for (const ExecutionMode mode :
       {ExecutionMode::kAsync, ExecutionMode::kSync, ExecutionMode::kEager}) {
    const ScopedExecutionMode scoped(mode);
    const std::vector<Tensor> tensors = build();
    detail::evaluate_and_wait(tensors);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      // Rounding once an operation, over chains of a few dozen.
      const bool narrow = tensors[i].dtype() != DType::kF32;
      const Tolerance tolerance = narrow ? Tolerance{2e-2, 2e-2} : Tolerance{1e-4, 2e-5};
      EXPECT_TRUE(all_close(read_evaluated(tensors[i]), expected[i], tolerance))
          << c.name << ": tensor " << i << " of outputs and gradients, " << name(mode);
    }
  }
}

void check_second_order(const GradientCase& c) {
  const std::size_t count = c.arguments.size();
  std::vector<HostTensor> arguments = c.arguments;
  const std::vector<Tensor> outputs = c.fn(to_tensors(arguments));
  std::vector<bool> has_cotangent;
  for (const Tensor& cotangent : cotangents_of(outputs)) {
    has_cotangent.push_back(!cotangent.empty());
    if (!cotangent.empty()) arguments.push_back(read_evaluated(cotangent));
  }
  const TensorFunction gradient = [&](const std::vector<Tensor>& x) {
    const std::vector<Tensor> primals(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(count));
    std::vector<Tensor> cotangents;
    std::size_t next = count;
    for (const bool has_one : has_cotangent) {
      cotangents.push_back(has_one ? x[next++] : Tensor());
    }
    const auto result = detail::vjp_of_tensors(c.fn, primals, floating(primals), cotangents);
    std::vector<Tensor> present;
    for (const Tensor& tensor : result.gradients) {
      if (!tensor.empty()) present.push_back(tensor);
    }
    return present;
  };
  check_first_order({c.name + "'", arguments, gradient, false});
}

}  // namespace metal_candle::testing
