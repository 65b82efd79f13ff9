// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Graphs from a hundred to a million nodes: no recursion, and work that grows in proportion. What
// is asserted are counts; times are printed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/trace.h"
#include "metal_candle/optimize/graph_optimizer.h"

namespace metal_candle {
namespace {

double seconds(const std::function<void()>& fn) {
  const auto start = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Tensor input() { return ones({4}).eval(); }

// Operations that no pass can join.
Tensor chain(int nodes) {
  Tensor x = input();
  for (int i = 0; i < nodes; ++i) x = cumsum(x, 0);
  return x * 0.0;
}
Tensor elementwise_chain(int nodes) {
  Tensor x = input();
  for (int i = 0; i < nodes; ++i) x = i % 2 == 0 ? sin(x) : x + 0.5;
  return x;
}
Tensor diamonds(int nodes) {
  Tensor x = input();
  for (int i = 0; i < nodes; i += 3) {
    const Tensor a = x * 0.5;
    x = a + flip(a, 0);
  }
  return x;
}
Tensor wide(int nodes) {
  const Tensor x = input();
  std::vector<Tensor> parts;
  for (int i = 0; i < nodes; i += 2) {
    parts.push_back(cumsum(x * (1 + static_cast<double>(i) * 1e-6), 0));
  }
  return concatenate(parts, 0);
}
Tensor layers(int nodes) {
  Tensor x = ones({2, 8}).eval();
  const Tensor w = full({8, 8}, 0.125f).eval(), b = ones({8}).eval();
  for (int i = 0; i < nodes; i += 10) {
    const Tensor shifted = x - max(x, -1, true);
    const Tensor e = exp(shifted);
    const Tensor p = e / sum(e, -1, true);
    x = relu(matmul(p, w) + b) + x;
  }
  return x;
}

struct Family {
  const char* name;
  Tensor (*build)(int);
};

// Deep enough that recursion would overflow the stack, also where a sanitizer makes each node dear.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kMany = 10000;
constexpr int kMillion = 50000;
#else
constexpr int kMany = 100000;
constexpr int kMillion = 1000000;
#endif

class LinearCost : public ::testing::TestWithParam<Family> {};

TEST_P(LinearCost, NodesStepsAndVisitsGrowInProportion) {
  double visits_per_node = 0, steps_per_node = 0, traced_per_node = 0;
  for (int nodes = 100; nodes <= kMany; nodes *= 10) {
    const Tensor x = GetParam().build(nodes);
    const auto size = static_cast<double>(x.graph_size());
    ComputationGraph graph = trace_graph({x});
    OptimizationReport report;
    const double optimizing = seconds([&] { report = GraphOptimizer().run(graph); });
    reset_counters();
    const double first = seconds([&] { x.eval(); });
    const Counters used = counters();
    const Tensor again = GetParam().build(nodes);
    const double second = seconds([&] { again.eval(); });
    fmt::print(
        "{:>9} nodes: optimise {:8.3f} ms, evaluate {:8.3f} ms, from a plan {:8.3f} ms, "
        "{:.2f} visits and {:.2f} steps a node\n",
        size, optimizing * 1e3, first * 1e3, second * 1e3,
        static_cast<double>(report.visits) / size, static_cast<double>(used.steps) / size);
    if (nodes == 1000) {
      visits_per_node = static_cast<double>(report.visits) / size;
      steps_per_node = static_cast<double>(used.steps) / size;
      traced_per_node = static_cast<double>(used.nodes) / size;
    } else if (nodes > 1000) {
      EXPECT_LE(static_cast<double>(report.visits) / size, 1.2 * visits_per_node);
      EXPECT_LE(static_cast<double>(used.steps) / size, 1.2 * steps_per_node);
      EXPECT_LE(static_cast<double>(used.nodes) / size, 1.2 * traced_per_node);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearCost,
                         ::testing::Values(Family{"chain", chain},
                                           Family{"elementwise_chain", elementwise_chain},
                                           Family{"diamonds", diamonds}, Family{"wide", wide},
                                           Family{"layers", layers}),
                         [](const auto& test) { return test.param.name; });

TEST(LinearCostOfData, StepsDoNotDependOnIt) {
  std::uint64_t steps = 0;
  for (const std::int64_t count : {100, 10000, 1000000}) {
    const Tensor x = ones({count}).eval();
    reset_counters();
    const double time = seconds([&] { (cumsum(sin(x) + 1.0, 0) * 0.5).eval(); });
    fmt::print("{:>9} elements: {:8.3f} ms\n", count, time * 1e3);
    if (steps == 0) steps = counters().steps;
    EXPECT_EQ(counters().steps, steps);
  }
}

TEST(MillionNodes, AreDroppedUnevaluated) {
  Tensor x = input();
  for (int i = 0; i < kMillion; ++i) x = x + 1.0;
  EXPECT_EQ(x.graph_size(), 2u * kMillion);  // Each addition and its constant.
  x = Tensor();
}

TEST(MillionNodes, AreEvaluatedAndDropped) {
  Tensor x = input();
  for (int i = 0; i < kMillion; ++i) x = x + 1.0;
  const double time = seconds([&] { x.eval(); });
  fmt::print("evaluated with passes: {:.3f} s\n", time);
  EXPECT_EQ(x.to_vector<float>()[3], 1.0f + kMillion);
  EXPECT_EQ(x.graph_size(), 0u);
}

TEST(MillionNodes, AreEvaluatedWithoutPasses) {
  const ScopedPasses passes(PassSet::none());
  Tensor x = input();
  for (int i = 0; i < kMillion; ++i) x = negative(x);
  const double time = seconds([&] { x.eval(); });
  fmt::print("evaluated without passes: {:.3f} s\n", time);
  EXPECT_EQ(x.to_vector<float>()[3], 1.0f);
}

TEST(MillionNodes, HeldAtBothEndsAreDroppedFromEither) {
  const Tensor first = input() * 2.0;
  Tensor last = first;
  for (int i = 0; i < kMillion; ++i) last = last + first;
  last = Tensor();
  EXPECT_EQ(first.to_vector<float>()[0], 2.0f);
}

}  // namespace
}  // namespace metal_candle
