// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See counters.h.
#include "metal_candle/execute/counters.h"

#include <fmt/format.h>

#include <iterator>
#include <mutex>

#include "metal_candle/backend/registry.h"
#include "metal_candle/execute/statistics.h"

namespace metal_candle {
namespace {

struct Field {
  const char* name;
  std::uint64_t Counters::*value;
};

constexpr Field kFields[] = {
    {"evaluations", &Counters::evaluations},
    {"nodes", &Counters::nodes},
    {"plans made", &Counters::plans_made},
    {"plan hits", &Counters::plan_hits},
    {"plans evicted", &Counters::plans_evicted},
    {"steps", &Counters::steps},
    {"donations", &Counters::donations},
    {"waits", &Counters::waits},
    {"command buffers", &Counters::command_buffers},
    {"run inline", &Counters::inline_buffers},
    {"encoders made", &Counters::encoders_made},
    {"encoders reused", &Counters::encoders_reused},
    {"waits for a full queue", &Counters::full_waits},
    {"graphs captured", &Counters::graphs_made},
    {"graphs replayed", &Counters::graph_launches},
    {"graphs re-pointed", &Counters::graphs_repointed},
    {"graph nodes re-pointed", &Counters::nodes_repointed},
    {"buffers without graph", &Counters::direct_launches},
    {"allocations", &Counters::allocations},
    {"pool hits", &Counters::pool_hits},
};

// Backends count from the start of the process; resetting moves the origin.
std::mutex origin_mutex;
Counters origin;

Counters since_start() {
  const ExecutorStatistics& s = statistics();
  Counters c;
  c.evaluations = s.evaluations;
  c.nodes = s.nodes;
  c.plans_made = s.plans_made;
  c.plan_hits = s.plan_hits;
  c.plans_evicted = s.plans_evicted;
  c.donations = s.donations;
  c.waits = s.waits;
  for (const backend::Backend* backend : backend::backends_in_use()) {
    const backend::QueueStatistics queues = backend->queue_statistics();
    c.steps += queues.kernels;
    c.command_buffers += queues.command_buffers;
    c.inline_buffers += queues.inline_buffers;
    c.encoders_made += queues.buffers_made;
    c.encoders_reused += queues.buffers_reused;
    c.full_waits += queues.full_waits;
    c.graphs_made += queues.graphs_made;
    c.graph_launches += queues.graph_launches;
    c.graphs_repointed += queues.graphs_repointed;
    c.nodes_repointed += queues.nodes_repointed;
    c.direct_launches += queues.direct_launches;
    const backend::MemoryStatistics memory = backend->memory();
    c.allocations += memory.allocations;
    c.pool_hits += memory.pool_hits;
    c.bytes_in_use += memory.in_use;
    c.peak_bytes += memory.peak;
  }
  return c;
}

}  // namespace

ExecutorStatistics& statistics() {
  static auto* instance = new ExecutorStatistics;  // Outlives the workers.
  return *instance;
}

Counters counters() {
  const Counters c = since_start();
  const std::lock_guard lock(origin_mutex);
  return c.since(origin);
}

void reset_counters() {
  const Counters now = since_start();
  const std::lock_guard lock(origin_mutex);
  origin = now;
}

Counters Counters::since(const Counters& earlier) const {
  Counters c = *this;
  for (const Field& field : kFields) c.*field.value -= earlier.*field.value;
  return c;
}

std::string Counters::to_string() const {
  std::string text;
  const auto out = std::back_inserter(text);
  for (const Field& field : kFields)
    fmt::format_to(out, "{:<24}{:>14}\n", field.name, this->*field.value);
  fmt::format_to(out, "{:<24}{:>14.1f}\n", "steps per buffer", steps_per_buffer());
  fmt::format_to(out, "{:<24}{:>14}\n", "bytes in use", bytes_in_use);
  fmt::format_to(out, "{:<24}{:>14}\n", "peak bytes", peak_bytes);
  return text;
}

}  // namespace metal_candle
