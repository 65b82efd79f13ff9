// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Traces, counters and modes: what a user sees of evaluation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "metal_candle/backend/registry.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {
namespace {

using nlohmann::json;

std::string temporary_path(const char* leaf) {
  return (std::filesystem::path(::testing::TempDir()) / leaf).string();
}

json read_json(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

json steps_of(const json& trace) {
  json steps = json::array();
  for (const json& event : trace.at("traceEvents")) {
    if (event.value("cat", "") == "step") steps.push_back(event);
  }
  return steps;
}

TEST(Trace, EveryStepIsInIt) {
  const std::string path = temporary_path("metal_candle_trace.json");
  start_trace(path);
  EXPECT_THROW(start_trace(path), Error);
  const Tensor x = ones({64, 32}).eval();
  reset_counters();
  const Tensor y = cumsum(matmul(x, transpose(x)), 1);
  (void)eval_async(std::vector{y}, 1);
  (void)eval_async(std::vector{sum(y), argmax(x, 0)}, 2);
  synchronize();
  const std::uint64_t steps = counters().steps;
  stop_trace();
  EXPECT_THROW(stop_trace(), Error);
  const json events = steps_of(read_json(path));
  std::filesystem::remove(path);
  ASSERT_GE(events.size(), steps);
  std::map<std::string, int> names;
  double last_end = 0;
  for (const json& event : events) {
    ++names[event.at("name").get<std::string>()];
    EXPECT_EQ(event.at("ph"), "X");
    EXPECT_GE(event.at("ts").get<double>(), 0);
    EXPECT_GE(event.at("dur").get<double>(), 0);
    EXPECT_GE(event.at("tid").get<int>(), 0);
    EXPECT_TRUE(event.at("args").at("shapes").is_string());
    EXPECT_GE(event.at("args").at("bytes").get<double>(), 0);
    if (event.at("name") == "matmul") {
      EXPECT_EQ(event.at("args").at("flops").get<double>(), 2.0 * 64 * 64 * 32);
      EXPECT_EQ(event.at("tid"), 1);
    }
    last_end = std::max(last_end, event.at("ts").get<double>() + event.at("dur").get<double>());
  }
  EXPECT_EQ(names["matmul"], 1);
  EXPECT_GE(names.size(), 3u);
  EXPECT_GT(last_end, 0);
}

TEST(Trace, NothingIsRecordedWhenOff) {
  const std::string path = temporary_path("metal_candle_empty_trace.json");
  start_trace(path);
  stop_trace();
  (ones({4}) + 1.0).eval();
  EXPECT_TRUE(read_json(path).at("traceEvents").empty());
  std::filesystem::remove(path);
}

TEST(Trace, AFolderThatIsMissingIsAnIoError) {
  start_trace("/nonexistent-folder/trace.json");
  EXPECT_THROW(stop_trace(), IoError);
  // And another can be started.
  const std::string path = temporary_path("metal_candle_trace_2.json");
  start_trace(path);
  stop_trace();
  std::filesystem::remove(path);
}

TEST(Dumps, BeforeAndAfterOptimisationAsTextAndGraphviz) {
  const Tensor x = ones({2, 3}).eval();
  const Tensor e = exp(x);
  const EvaluationPlan plan = plan_evaluation({e / sum(e, -1, true)});
  EXPECT_EQ(plan.traced.to_text(),
            "%0 = input(0) : f32[2, 3]\n"
            "%1 = exp %0 : f32[2, 3]\n"
            "%2 = reduce_sum(axes=[1], keepdims=true) %1 : f32[2, 1]\n"
            "%3 = divide %1, %2 : f32[2, 3]\n"
            "return %3\n");
  EXPECT_EQ(plan.optimized.to_text(),
            "%0 = input(0) : f32[2, 3]\n"
            "%1 = softmax(axis=1) %0 : f32[2, 3]\n"
            "return %1\n");
  EXPECT_EQ(plan.optimized.to_dot(),
            "digraph computation {\n"
            "  node [shape=box, fontname=\"monospace\"];\n"
            "  n0 [label=\"input 0\\nf32[2, 3]\", style=rounded];\n"
            "  n1 [label=\"softmax(axis=1)\\nf32[2, 3]\", peripheries=2];\n"
            "  n0 -> n1;\n"
            "}\n");
  EXPECT_THAT(plan.optimizer_report, ::testing::HasSubstr("softmax                1 rewrite"));
}

TEST(Counters, CountAndPrint) {
  const Tensor x = ones({16}).eval();
  synchronize();
  reset_counters();
  Tensor y = x;
  for (int i = 0; i < 100; ++i) y = cumsum(y, 0) * 0.01;
  eval_async({y}).wait();
  synchronize();
  const Counters c = counters();
  EXPECT_EQ(c.evaluations, 1u);
  EXPECT_EQ(c.nodes, 200u + 100u);  // With the scalars.
  EXPECT_EQ(c.plans_made + c.plan_hits, 1u);
  EXPECT_EQ(c.steps, 200u);
  const std::size_t batch = backend::backend_for(default_device()).steps_per_command_buffer();
  EXPECT_EQ(c.command_buffers, (200 + batch - 1) / batch);
  EXPECT_EQ(c.encoders_made + c.encoders_reused, c.command_buffers);
  EXPECT_GT(c.steps_per_buffer(), 8);
  EXPECT_GT(c.bytes_in_use, 0u);
  EXPECT_GE(c.peak_bytes, c.bytes_in_use);
  const std::string text = c.to_string();
  for (const char* word : {"evaluations", "nodes", "plans made", "command buffers", "steps",
                           "bytes in use", "peak", "waits", "encoders reused"}) {
    EXPECT_THAT(text, ::testing::HasSubstr(word));
  }
  // Encoders are reused from then on.
  reset_counters();
  for (int i = 0; i < 10; ++i) (x + static_cast<double>(i)).eval();
  EXPECT_EQ(counters().encoders_made, 0u);
  EXPECT_EQ(counters().evaluations, 10u);
}

TEST(Counters, EvaluatedTensorsAreNotEvaluatedAgain) {
  const Tensor x = ones({4}) + 1.0;
  x.eval();
  reset_counters();
  x.eval();
  (void)x.to_vector<float>();
  eval(x, x);
  EXPECT_EQ(counters().evaluations, 0u);
}

TEST(Modes, NamesAndErrors) {
  for (const ExecutionMode mode :
       {ExecutionMode::kEager, ExecutionMode::kSync, ExecutionMode::kAsync}) {
    EXPECT_EQ(parse_execution_mode(name(mode)), mode);
  }
  EXPECT_THROW((void)parse_execution_mode("fast"), FormatError);
}

TEST(Modes, SyncBatchesNothingAndAsyncDoes) {
  const Tensor x = ones({16}).eval();
  const auto buffers = [&](ExecutionMode mode) {
    const ScopedExecutionMode scope(mode);
    const ScopedPasses passes(PassSet::none());
    Tensor y = x;
    for (int i = 0; i < 20; ++i) y = cumsum(y, 0);
    reset_counters();
    y.eval();
    return counters().command_buffers;
  };
  EXPECT_EQ(buffers(ExecutionMode::kSync), 20u);
  EXPECT_EQ(buffers(ExecutionMode::kAsync), 1u);
}

}  // namespace
}  // namespace metal_candle
