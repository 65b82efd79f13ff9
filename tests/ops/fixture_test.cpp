// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Every operation through the executor, in every mode and with every pass off, against NumPy and
// PyTorch.
#include <gtest/gtest.h>

#include <algorithm>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/optimize/pass_registry.h"
#include "tests/ops/op_table.h"

namespace metal_candle::testing {
namespace {

struct Way {
  const char* name;
  ExecutionMode mode;
  bool passes;
  bool evaluated_views;  // Operands are views of memory rather than part of the graph.
};

constexpr Way kWays[] = {
    {"eager", ExecutionMode::kEager, true, true},
    {"sync", ExecutionMode::kSync, true, false},
    {"async", ExecutionMode::kAsync, true, true},
    {"without passes", ExecutionMode::kAsync, false, false},
};

std::vector<HostTensor> evaluate(const FixtureCase& c, const Op& op, const Way& way) {
  const ScopedExecutionMode mode(way.mode);
  const ScopedPasses passes(way.passes ? PassSet::all() : PassSet::none());
  Tensors inputs;
  for (const FixtureOperand& operand : c.inputs) inputs.push_back(operand.tensor());
  if (way.evaluated_views) eval(inputs);
  const Tensors outputs = op.call(c, inputs);
  eval(outputs);
  std::vector<HostTensor> values;
  for (const Tensor& output : outputs) values.push_back(read_evaluated(output));
  return values;
}

/// Empty if the case passes, else what is wrong.
std::string check(const FixtureCase& c, const Op& op, const Way& way) {
  try {
    const std::vector<HostTensor> actual = evaluate(c, op, way);
    if (actual.size() != c.outputs.size()) return "wrong number of outputs";
    for (std::size_t i = 0; i < actual.size(); ++i) {
      const HostTensor& expected = c.outputs[i];
      const auto result = all_close(actual[i], expected, tolerance_for(op, c, expected.dtype()));
      if (!result) return result.message();
    }
    return "";
  } catch (const std::exception& error) {
    return std::string("threw: ") + error.what();
  }
}

using Parameter = std::pair<std::string, std::string>;  // Family, operation.

class OpFixture : public ::testing::TestWithParam<Parameter> {};

TEST_P(OpFixture, Values) {
  const auto& [family, name] = GetParam();
  const OpTable& table = ops_of(family);
  const auto found = table.find(name);
  ASSERT_NE(found, table.end()) << "the tests do not know how to call " << name;
  int failures = 0;
  for (const FixtureCase& c : fixture_cases(family)) {
    if (c.op != name) continue;
    for (const Way& way : kWays) {
      const std::string problem = check(c, found->second, way);
      if (problem.empty()) continue;
      if (++failures <= 5) ADD_FAILURE() << way.name << ": " << c.describe() << ": " << problem;
    }
  }
  EXPECT_EQ(failures, 0);
}

std::vector<Parameter> parameters() {
  std::vector<Parameter> all;
  for (const char* family :
       {"elementwise", "reduce", "layout", "index", "linalg", "nn", "random"}) {
    for (const std::string& name : ops_in_fixture(family)) all.emplace_back(family, name);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, OpFixture, ::testing::ValuesIn(parameters()), [](const auto& test) {
  return test.param.first + "_" + test.param.second;
});

TEST(OpFixtures, CoverEveryOperationThatTheTestsKnow) {
  for (const char* family :
       {"elementwise", "reduce", "layout", "index", "linalg", "nn", "random"}) {
    const std::vector<std::string> names = ops_in_fixture(family);
    for (const auto& [name, op] : ops_of(family)) {
      EXPECT_NE(std::find(names.begin(), names.end(), name), names.end())
          << family << " has no case of " << name;
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
