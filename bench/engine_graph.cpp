// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The cost of the graph itself: nothing here computes a number.
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>

#include "bench/engine_suite.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::bench {
namespace {

using NodeSized = std::array<std::byte, sizeof(Node)>;

// Written so that the compiler cannot leave out the allocation. Each thread has its own, lest they
// contend for it.
thread_local std::atomic<const void*> sink;

Contestant make_shared_contestant() {
  return timed([] {
    const auto object = std::make_shared<NodeSized>();
    sink.store(object.get(), std::memory_order_relaxed);
  });
}

// Builds and drops nodes on `threads` threads at once; seconds of a node.
double time_building(int threads, int nodes_each) {
  std::atomic<int> ready{0};
  std::vector<double> seconds(static_cast<std::size_t>(threads));
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      const Tensor x = zeros({4, 4}).eval();
      ready.fetch_add(1);
      while (ready.load() < threads) {
      }
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < nodes_each; ++i) {
        const Tensor y = add(x, x);
        sink.store(y.node().get(), std::memory_order_relaxed);
      }
      seconds[static_cast<std::size_t>(t)] =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    });
  }
  double slowest = 0;
  for (int t = 0; t < threads; ++t) {
    workers[static_cast<std::size_t>(t)].join();
    slowest = std::max(slowest, seconds[static_cast<std::size_t>(t)]);
  }
  return slowest / (static_cast<double>(nodes_each) * threads);
}

void build_case(Table& table) {
  const Tensor x = zeros({4, 4}).eval();
  const Contestant ours = timed([&] {
    const Tensor y = add(x, x);
    sink.store(y.node().get(), std::memory_order_relaxed);
  });
  const auto seconds = compete({ours, make_shared_contestant()}, 31);
  Row row{.name = "build a node",
          .value = seconds[0] * 1e9,
          .unit = "ns",
          .reference = seconds[1] * 1e9};
  row.reference_name = "make_shared";
  table.add(judge_ratio(row, Bound::kAtMost, 4));
}

void two_thread_case(Table& table) {
  const auto seconds =
      compete({[] { return time_building(2, 20000); }, [] { return time_building(1, 20000); }}, 31);
  Row row{.name = "build nodes, two threads",
          .value = 1e-6 / seconds[0],
          .unit = "M/s",
          .reference = 1e-6 / seconds[1]};
  row.reference_name = "one thread";
  table.add(judge_ratio(row, Bound::kAtLeast, 1.8));
}

void lookup_case(Table& table) {
  constexpr int kNodes = 4000;
  const Tensor x = zeros({4, 4}).eval();
  Tensor y = x;
  for (int i = 0; i < kNodes; ++i) y = i % 2 == 0 ? add(y, x) : multiply(y, x);
  const Tensor outputs[] = {y};
  (void)plan_evaluation(outputs);  // From now on it is a hit.
  const Contestant ours = timed([&] {
    if (!detail::has_plan(outputs)) throw std::logic_error("bench: the plan was not found");
  });
  const auto seconds = compete({ours, make_shared_contestant()}, 31);
  Row row{.name = "trace, hash and find the plan, a node of 4,000",
          .value = seconds[0] * 1e9 / kNodes,
          .unit = "ns",
          .reference = seconds[1] * 1e9};
  row.reference_name = "make_shared";
  table.add(judge_ratio(row, Bound::kAtMost, 4));
}

}  // namespace

void run_graph_cases(Table& table) {
  if (table.wants("build a node")) build_case(table);
  if (table.wants("build nodes, two threads")) two_thread_case(table);
  if (table.wants("trace, hash and find the plan, a node of 4,000")) lookup_case(table);
}

}  // namespace metal_candle::bench
