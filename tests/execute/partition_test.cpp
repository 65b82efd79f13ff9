// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Parts of one evaluation that do not depend on each other: which they are, that each has a queue,
// and that queues run at the same time.
#include "metal_candle/execute/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/trace.h"
#include "tests/support/host_only.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::testing {
namespace {

using ::testing::ElementsAre;

// Several steps over `x` that no pass joins; worth a queue from about 300 x 300 on.
Tensor chain(const Tensor& x, int steps = 2) {
  Tensor y = x;
  for (int i = 0; i < steps; ++i) y = cumsum(flip(y, 1), 0) * 0.001;
  return y;
}

Tensor matrix(std::int64_t size, float value = 1) { return full({size, size}, value).eval(); }

TEST(Partition, ComponentsThatAreWorthItArePartsAndTheRestIsOne) {
  const Tensor a = matrix(400), b = matrix(500), c = matrix(8), d = matrix(9);
  const std::vector<GraphPart> parts =
      partition(trace_graph({chain(a), chain(c), chain(b), chain(d), sum(chain(a, 3))}));
  // Two outputs read the input a, which joins nothing.
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_THAT(parts[0].outputs, ElementsAre(1, 3));  // What is small.
  EXPECT_THAT(parts[1].outputs, ElementsAre(0));
  EXPECT_THAT(parts[2].outputs, ElementsAre(2));
  EXPECT_THAT(parts[3].outputs, ElementsAre(4));
  EXPECT_EQ(parts[1].inputs, parts[3].inputs);
  EXPECT_NE(parts[1].inputs, parts[2].inputs);
  for (const GraphPart& part : parts) {
    EXPECT_EQ(part.graph.inputs().size(), part.inputs.size());
    EXPECT_EQ(part.graph.outputs().size(), part.outputs.size());
  }
}

TEST(Partition, WhatIsJoinedOrSmallOrSingleIsNotSplit) {
  const Tensor a = matrix(400), b = matrix(500);
  const Tensor shared = chain(a);
  EXPECT_EQ(partition(trace_graph({chain(shared), sum(shared)})).size(), 1u);
  EXPECT_EQ(partition(trace_graph({sum(chain(a)) + sum(chain(b))})).size(), 1u);
  EXPECT_EQ(partition(trace_graph({chain(matrix(8)), chain(matrix(9))})).size(), 1u);
  // One that is worth a queue has nothing to run beside but what is not.
  EXPECT_EQ(partition(trace_graph({chain(a), chain(matrix(8))})).size(), 1u);
}

struct Step {
  int queue;
  double start, end;
};

// The steps of evaluating chains over the matrices together.
std::vector<Step> steps_of(const std::vector<Tensor>& inputs, int steps) {
  const TemporaryFolder folder;
  const std::string path = folder / "trace.json";
  std::vector<Tensor> outputs;
  for (const Tensor& x : inputs) outputs.push_back(chain(x, steps));
  start_trace(path);
  eval(outputs);
  stop_trace();
  std::ifstream file(path);
  std::vector<Step> found;
  const nlohmann::json trace = nlohmann::json::parse(file);
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.value("cat", "") != "step") continue;
    const double start = event.at("ts").get<double>();
    found.push_back({event.at("tid").get<int>(), start, start + event.at("dur").get<double>()});
  }
  return found;
}

TEST(Partition, EachPartHasAQueueAndGivesTheValuesOfItsOwn) {
  const Tensor a = matrix(400, 1.5f), b = matrix(500, 2.5f);
  std::set<int> queues;
  for (const Step& step : steps_of({a, b}, 2)) queues.insert(step.queue);
  EXPECT_EQ(queues.size(), 2u);

  const Tensor x = chain(a), y = chain(b);
  eval(x, y);
  EXPECT_EQ(x.to_vector<float>(), chain(a).to_vector<float>());
  EXPECT_EQ(y.to_vector<float>(), chain(b).to_vector<float>());
}

TEST(Partition, QueuesRunAtTheSameTime) {
  METAL_CANDLE_HOST_ONLY("a GPU may take the queues in turn");
  const Tensor a = matrix(700), b = matrix(701);
  // On a machine that is busy, one queue may be done before the other gets a processor.
  for (int attempt = 0; attempt < 20; ++attempt) {
    std::map<int, std::pair<double, double>> spans;
    for (const Step& step : steps_of({a, b}, 10 * (attempt + 1))) {
      const auto [span, is_new] = spans.try_emplace(step.queue, step.start, step.end);
      span->second = {std::min(span->second.first, step.start),
                      std::max(span->second.second, step.end)};
    }
    ASSERT_EQ(spans.size(), 2u);
    const auto &first = spans.begin()->second, &second = spans.rbegin()->second;
    if (first.first < second.second && second.first < first.second) return;
  }
  ADD_FAILURE() << "the queues never overlapped";
}

}  // namespace
}  // namespace metal_candle::testing
