// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients against PyTorch's automatic differentiation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/optimize/pass_registry.h"
#include "tests/ops/op_table.h"

namespace metal_candle::testing {
namespace {

// Relative to the largest element: backward passes of f16 and bf16 round between operations whose
// results may cancel, PyTorch's in float64 does not.
Tolerance gradient_tolerance(const HostTensor& expected) {
  double largest = 1;
  for (const double value : expected.real) largest = std::max(largest, std::abs(value));
  switch (expected.dtype()) {
    case DType::kF16:
      return {5e-3, 5e-3 * largest};
    case DType::kBF16:
      return {3e-2, 3e-2 * largest};
    default:
      return {1e-5, 5e-6 * largest};
  }
}

struct ValuesAndGradients {
  std::vector<HostTensor> values, gradients;
};

ValuesAndGradients differentiate(const FixtureCase& c, const Op& op) {
  Tensors inputs;
  for (const FixtureOperand& operand : c.inputs) inputs.push_back(operand.tensor());
  Tensors cotangents;
  for (const FixtureOperand& cotangent : c.cotangents) cotangents.push_back(cotangent.tensor());
  Tensors primals;
  for (const int i : c.wrt) primals.push_back(inputs[static_cast<std::size_t>(i)]);
  const auto function = [&](const std::vector<Tensor>& arguments) {
    Tensors all = inputs;
    for (std::size_t i = 0; i < c.wrt.size(); ++i) {
      all[static_cast<std::size_t>(c.wrt[i])] = arguments[i];
    }
    return op.call(c, all);
  };
  const auto result = vjp(function, primals, cotangents);
  Tensors everything = result.output;
  everything.insert(everything.end(), result.gradient.begin(), result.gradient.end());
  eval(everything);
  ValuesAndGradients read;
  for (const Tensor& output : result.output) read.values.push_back(read_evaluated(output));
  for (const Tensor& g : result.gradient) read.gradients.push_back(read_evaluated(g));
  return read;
}

std::string check(const FixtureCase& c, const Op& op) {
  try {
    const ValuesAndGradients actual = differentiate(c, op);
    if (actual.values.size() != c.outputs.size()) return "wrong number of outputs";
    if (actual.gradients.size() != c.gradients.size()) return "wrong number of gradients";
    for (std::size_t i = 0; i < c.outputs.size(); ++i) {
      Tolerance tolerance = gradient_tolerance(c.outputs[i]);
      tolerance.absolute =
          std::max(tolerance.absolute, tolerance_for(op, c, c.outputs[i].dtype()).absolute);
      const auto result = all_close(actual.values[i], c.outputs[i], tolerance);
      if (!result) return result.message();
    }
    for (std::size_t i = 0; i < c.gradients.size(); ++i) {
      const auto result =
          all_close(actual.gradients[i], c.gradients[i], gradient_tolerance(c.gradients[i]));
      if (!result) return "gradient " + std::to_string(c.wrt[i]) + ": " + result.message();
    }
    return "";
  } catch (const std::exception& error) {
    return std::string("threw: ") + error.what();
  }
}

class GradientFixture : public ::testing::TestWithParam<std::string> {};

TEST_P(GradientFixture, Gradients) {
  const OpTable& table = ops_of("gradients");
  const auto found = table.find(GetParam());
  ASSERT_NE(found, table.end()) << "the tests do not know how to call " << GetParam();
  int failures = 0;
  const auto run = [&](const char* way) {
    for (const FixtureCase& c : fixture_cases("gradients")) {
      if (c.op != GetParam()) continue;
      const std::string problem = check(c, found->second);
      if (problem.empty()) continue;
      if (++failures <= 5) ADD_FAILURE() << way << ": " << c.describe() << ": " << problem;
    }
  };
  {
    const ScopedExecutionMode mode(ExecutionMode::kEager);
    run("eager");
  }
  {
    const ScopedExecutionMode mode(ExecutionMode::kSync);
    run("sync");
  }
  run("async");
  const ScopedPasses passes(PassSet::none());
  run("without passes");
  EXPECT_EQ(failures, 0);
}

INSTANTIATE_TEST_SUITE_P(All, GradientFixture, ::testing::ValuesIn(ops_in_fixture("gradients")),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace metal_candle::testing
