// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random graphs, each evaluated in every mode, with all passes, none and some, and again through
// the plan cache: against the double-precision interpreter, and bit for bit where the same plan
// runs.
//
// METAL_CANDLE_RANDOM_GRAPHS=n runs n graphs; METAL_CANDLE_SEED=n runs that one alone.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/graph/trace.h"
#include "metal_candle/optimize/pass_registry.h"
#include "tests/support/random_graph.h"
#include "tests/support/random_graph_builder.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {
namespace {

using Values = std::vector<HostTensor>;

constexpr int kMostOperations = 40;
// Some ten seconds; sanitizers are ten times slower.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::int64_t kGraphs = 300;
#else
constexpr std::int64_t kGraphs = 2000;
#endif

std::int64_t from_environment(const char* variable, std::int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoll(text, nullptr, 10);
}

Values read(const RandomGraph& graph) {
  Values values;
  for (const Tensor& output : graph.outputs) values.push_back(read_evaluated(output));
  return values;
}

/// Bit for bit, but that any NaN equals any other.
bool identical(const HostTensor& a, const HostTensor& b) {
  if (a.spec != b.spec || a.integer != b.integer) return false;
  for (std::size_t i = 0; i < a.real.size(); ++i) {
    if (std::memcmp(&a.real[i], &b.real[i], sizeof(double)) != 0 &&
        !(a.real[i] != a.real[i] && b.real[i] != b.real[i])) {
      return false;
    }
  }
  return true;
}

PassSet random_passes(std::uint64_t seed) {
  RandomSource random(seed);
  PassSet passes = PassSet::all();
  for (const std::string& pass : pass_names()) {
    if (random.chance(50)) passes = passes.without(pass);
  }
  return passes;
}

/// Evaluates one graph in all ways; what is wrong, if anything.
class Differential {
 public:
  Differential(std::uint64_t seed, int operations) : seed_(seed), operations_(operations) {}

  std::optional<std::string> run() {
    try {
      return compare_all();
    } catch (const std::exception& error) {
      return fmt::format("{} threw: {}", way_, error.what());
    }
  }

 private:
  std::optional<std::string> compare_all() {
    way_ = "the interpreter";
    RandomGraph graph = build();
    const Values expected = interpret(graph.outputs);

    way_ = "async";
    eval(graph.outputs);
    const Values async = read(graph);
    if (auto problem = check_close(async, expected, graph.errors)) return problem;

    way_ = "sync";
    {
      const ScopedExecutionMode mode(ExecutionMode::kSync);
      if (auto problem = check_identical(evaluate(), async)) return problem;
    }
    way_ = "async, queued, from the plan cache";
    const std::uint64_t hits = counters().plan_hits;
    const bool all_leaves = is_all_leaves();
    if (auto problem = check_identical(evaluate_queued(), async)) return problem;
    if (!all_leaves && counters().plan_hits == hits) return way_ + ": no plan was found";

    way_ = "eager";
    {
      const ScopedExecutionMode mode(ExecutionMode::kEager);
      if (auto problem = check_close(evaluate(), expected, graph.errors)) return problem;
    }
    way_ = "no passes";
    {
      const ScopedPasses passes(PassSet::none());
      if (auto problem = check_close(evaluate(), expected, graph.errors)) return problem;
    }
    for (std::uint64_t subset = 0; subset < 2; ++subset) {
      way_ = fmt::format("random passes {}", subset);
      const ScopedPasses passes(random_passes(seed_ * 2 + subset));
      if (auto problem = check_close(evaluate(), expected, graph.errors)) return problem;
    }
    return {};
  }

  [[nodiscard]] RandomGraph build() const { return make_random_graph(seed_, operations_); }
  [[nodiscard]] bool is_all_leaves() const {
    for (const Tensor& output : build().outputs) {
      if (!output.is_evaluated()) return false;
    }
    return true;
  }
  [[nodiscard]] Values evaluate() const {
    const RandomGraph graph = build();
    eval(graph.outputs);
    return read(graph);
  }
  [[nodiscard]] Values evaluate_queued() const {
    const RandomGraph graph = build();
    eval_async(graph.outputs, static_cast<int>(seed_ % 4)).wait();
    return read(graph);
  }

  std::optional<std::string> check_close(const Values& actual, const Values& expected,
                                         const std::vector<double>& errors) const {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      // An element that moved about exactly may still be compared with itself in double.
      const auto result = all_close(actual[i], expected[i], {1e-7, errors[i]});
      if (!result) return fmt::format("{}: output {}: {}", way_, i, result.message());
    }
    return {};
  }
  std::optional<std::string> check_identical(const Values& actual, const Values& expected) const {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (!identical(actual[i], expected[i])) {
        const auto result = all_close(actual[i], expected[i], {0, 0});
        return fmt::format("{}: output {} differs in its bits: {}", way_, i, result.message());
      }
    }
    return {};
  }

  std::uint64_t seed_;
  int operations_;
  std::string way_;
};

/// The failure with the fewest operations, and its graph.
std::string describe_failure(std::uint64_t seed, int most) {
  std::string problem;
  int operations = 0;
  while (problem.empty() && operations < most) {
    problem = Differential(seed, ++operations).run().value_or("");
  }
  const RandomGraph graph = make_random_graph(seed, operations);
  std::string text = fmt::format("METAL_CANDLE_SEED={} ({} operations): {}\n{}", seed, operations,
                                 problem, trace_graph(graph.outputs).to_text());
  try {
    text += "optimised:\n" + plan_evaluation(graph.outputs).optimized.to_text();
  } catch (const std::exception& error) {
    text += fmt::format("planning threw: {}", error.what());
  }
  return text;
}

int operations_of(std::uint64_t seed) {
  RandomSource random(seed * 31 + 7);
  return 3 + random.below(kMostOperations - 2);
}

// Every kParts-th graph: parts are suites, which ctest runs beside each other.
constexpr int kParts = 16;
class RandomGraphsPart : public ::testing::TestWithParam<int> {};

TEST_P(RandomGraphsPart, EveryWayToEvaluateGivesTheSame) {
  const std::int64_t one = from_environment("METAL_CANDLE_SEED", -1);
  const std::int64_t first = one >= 0 ? one : 1;
  const std::int64_t count = one >= 0 ? 1 : from_environment("METAL_CANDLE_RANDOM_GRAPHS", kGraphs);
  int failures = 0;
  for (std::int64_t i = first; i < first + count && failures < 3; ++i) {
    if (i % kParts != GetParam()) continue;
    const auto seed = static_cast<std::uint64_t>(i);
    const int operations = operations_of(seed);
    if (const auto problem = Differential(seed, operations).run()) {
      ++failures;
      ADD_FAILURE() << *problem
                    << "\nThe smallest that fails: " << describe_failure(seed, operations);
    }
  }
}

#define METAL_CANDLE_PART(part) \
  INSTANTIATE_TEST_SUITE_P(Part##part, RandomGraphsPart, ::testing::Values(part))
METAL_CANDLE_PART(0);
METAL_CANDLE_PART(1);
METAL_CANDLE_PART(2);
METAL_CANDLE_PART(3);
METAL_CANDLE_PART(4);
METAL_CANDLE_PART(5);
METAL_CANDLE_PART(6);
METAL_CANDLE_PART(7);
METAL_CANDLE_PART(8);
METAL_CANDLE_PART(9);
METAL_CANDLE_PART(10);
METAL_CANDLE_PART(11);
METAL_CANDLE_PART(12);
METAL_CANDLE_PART(13);
METAL_CANDLE_PART(14);
METAL_CANDLE_PART(15);
#undef METAL_CANDLE_PART
static_assert(kParts == 16);

TEST(RandomGraphs, SameSeedSameGraph) {
  for (const std::uint64_t seed : {3u, 11u}) {
    const RandomGraph a = make_random_graph(seed, 25), b = make_random_graph(seed, 25);
    EXPECT_EQ(trace_graph(a.outputs).to_text(), trace_graph(b.outputs).to_text());
  }
}

TEST(RandomGraphs, ReachMostOperations) {
  std::vector<bool> seen(std::variant_size_v<Operation>, false);
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    const RandomGraph random = make_random_graph(seed, kMostOperations);
    const ComputationGraph graph = trace_graph(random.outputs);
    for (NodeId id = 0; id < graph.size(); ++id) {
      if (!graph.node(id).is_input()) seen[graph.node(id).operation.index()] = true;
    }
  }
  // Not: barriers, gradients and what only passes make.
  EXPECT_GE(std::count(seen.begin(), seen.end(), true), 36);
}

}  // namespace
}  // namespace metal_candle::testing
