// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See ops_suite.h.
#include "bench/ops_suite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "bench/limits.h"
#include "bench/ops_cases.h"
#include "bench/peer.h"
#include "bench/peer_scripts.h"
#include "bench/start.h"
#include "metal_candle/backend/registry.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"

namespace metal_candle::bench {
namespace {

constexpr int kRounds = 15;

struct Framework {
  const char* name;  // As --compare and the script have it.
  const char* title;
  const char* const* script;
  // The script's name of a way to run, and ours.
  std::vector<std::pair<const char*, const char*>> modes;
};

std::vector<Framework> frameworks(Device device) {
  std::vector<Framework> all{
      {"torch",
       "PyTorch",
       &kTorchOpsScript,
       {{"eager", "PyTorch eager"}, {"compile", "torch.compile"}}},
      {"mlx", "MLX", &kMlxOpsScript, {{"eager", "MLX"}, {"compile", "MLX compiled"}}},
      {"jax", "JAX", &kJaxOpsScript, {{"jit", "JAX jit"}}},
  };
  if (device.type == DeviceType::kCuda) all[0].modes.emplace_back("graph", "PyTorch CUDA graph");
  return all;
}

// A way in which a peer that runs computes.
struct Rival {
  const Framework& framework;
  const char* mode;
  const char* title;
  Peer* peer;
};

std::unique_ptr<Peer> start_peer(const Framework& framework, Device device, std::string& why) {
  return Peer::start(std::string(kPeerLoopScript) + kOpsLoopScript + *framework.script,
                     framework.name, why, device == Device::cpu() ? "cpu" : "cuda");
}

// Those that are installed.
class Rivals {
 public:
  Rivals(const Table& table, Device device, const std::vector<std::string>& names)
      : frameworks_(frameworks(device)) {
    for (const Framework& framework : frameworks_) {
      if (std::ranges::find(names, framework.name) == names.end()) continue;
      std::string why;
      std::unique_ptr<Peer> peer = start_peer(framework, device, why);
      table.note(peer ? fmt::format("peer: {} {}", framework.title, peer->version())
                      : fmt::format("without {}: {}", framework.title, why));
      if (!peer) continue;
      for (const auto& [mode, title] : framework.modes) {
        all_.push_back({framework, mode, title, peer.get()});
      }
      peers_.push_back(std::move(peer));
    }
  }
  [[nodiscard]] const std::vector<Rival>& all() const { return all_; }

 private:
  std::vector<Framework> frameworks_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<Rival> all_;
};

// Runs fn `depth` times before waiting for any.
void run_queued(const std::function<Tensor()>& fn, int depth) {
  Tensor last;
  for (int i = 0; i < depth; ++i) {
    last = fn();
    static_cast<void>(last.eval_async());
  }
  last.eval();
}

// What may be the reference of a row.
enum class Forms {
  kAll,
  kFirst,  // Of a process that runs several, the first: what that loads, the others find.
};

// `seconds`: ours, then each rival's, those of a process side by side.
Row make_row(const std::string& name, const char* unit, double scale,
             const std::vector<double>& seconds, const std::vector<Rival>& rivals,
             Forms forms = Forms::kAll) {
  Row row{.name = name, .value = seconds[0] * scale, .unit = unit};
  const Peer* last = nullptr;
  for (std::size_t i = 0; i < rivals.size(); ++i) {
    const double value = seconds[i + 1] * scale;
    if (std::isnan(value)) continue;
    row.peers.emplace_back(rivals[i].title, value);
    const bool is_first = std::exchange(last, rivals[i].peer) != rivals[i].peer;
    if (forms == Forms::kFirst && !is_first) continue;
    if (row.reference && value >= *row.reference) continue;
    row.reference = value;
    row.reference_name = rivals[i].title;
  }
  if (row.reference) row.ratio = *row.value / *row.reference;
  return row;
}

// As peers do before their first calls (ops_loop.py): random numbers are made for a while, each
// time in a new size, so that neither process nor device have to wake up in what is measured.
void stay_awake(Device device) {
  Operands make(device);
  std::int64_t size = 1;
  // Kernels that the first round needs are there in the second.
  for (int round = 0; round < 2; ++round) {
    const double begin = wall_seconds();
    while (wall_seconds() - begin < kLeastWarmUpSeconds) static_cast<void>(make({1, size++}));
    backend::backend_for(device).finish_compiling();
  }
}

// What is paid once: planning and making kernels, compiling (in other processes, too: by the wall's
// clock).
void measure_first(Table& table, const OpsCase& c, const std::function<Tensor()>& fn,
                   const std::vector<Rival>& rivals) {
  const double start = wall_seconds();
  fn().eval();
  std::vector<double> seconds{wall_seconds() - start};
  // What is still being compiled takes no part in what follows.
  backend::backend_for(default_device()).finish_compiling();
  const std::string name = c.name + ", first call";
  if (!table.wants(name)) return;
  for (const Rival& rival : rivals) {
    seconds.push_back(rival.peer->contestant(fmt::format("first {} {}", rival.mode, c.name))());
  }
  table.add(make_row(name, "ms", 1e3, seconds, rivals, Forms::kFirst));
}

void measure(Table& table, const OpsCase& c, const std::function<Tensor()>& fn, bool queued,
             Device device, const std::vector<Rival>& rivals, const MachineLimits& limits) {
  const std::string row_name = fmt::format("{}, {}", c.name, queued ? "queued" : "evaluated");
  if (!table.wants(row_name)) return;
  std::vector<Contestant> contestants;
  if (queued) {
    const Contestant whole = timed([&] { run_queued(fn, c.depth); });
    contestants.emplace_back([whole, depth = c.depth] { return whole() / depth; });
  } else {
    contestants.push_back(timed([&] { fn().eval(); }));
  }
  for (const Rival& rival : rivals) {
    contestants.push_back(
        rival.peer->contestant(fmt::format("{} {} {}", rival.mode, queued ? c.depth : 1, c.name)));
  }
  const std::vector<double> seconds = compete(contestants, kRounds);
  Row row = make_row(row_name, "us", 1e6, seconds, rivals);
  row.limit_fraction = limits.least_seconds(c.bytes, c.flops, c.dtype) / seconds[0];
  const std::optional<double> goal = queued ? c.goals.queued : c.goals.evaluated;
  if (goal && device.type == DeviceType::kCuda) judge_value(row, Bound::kAtMost, *goal);
  table.add(row);
}

// The first call is of the first case. Its operands are there before; the library is ready when it
// has been loaded and has found the device.
void add_start_rows(Table& table, Device device, const OpsCase& c,
                    const std::vector<Rival>& rivals) {
  std::vector<StartRow> rows{{"process start to ready", &StartTimes::ready},
                             {"first call of a process", &StartTimes::first}};
  std::erase_if(rows, [&](const StartRow& row) { return !table.wants(row.name); });
  if (rows.empty()) return;
  const auto answer_to = [](const std::string& command) {
    return [command](Peer& process) { return process.measure(command); };
  };
  std::vector<Starter> starters{
      {starting_self({"bench", "--first", "call", "--device", to_string(device)}),
       answer_to("call")}};
  for (const Rival& rival : rivals) {
    starters.push_back({[&framework = rival.framework, device] {
                          std::string why;
                          std::unique_ptr<Peer> started = start_peer(framework, device, why);
                          if (!started) throw Error("bench: " + why);
                          return started;
                        },
                        answer_to(fmt::format("first {} {}", rival.mode, c.name))});
  }
  const StartTimes times = measure_starts(starters);
  for (const StartRow& row : rows) {
    table.add(make_row(row.name, "ms", 1e3, times.*row.seconds, rivals));
  }
}

}  // namespace

void run_ops_suite(Table& table, Device device, const std::vector<std::string>& peers) {
  const Rivals rivals(table, device, peers);
  const MachineLimits limits = table.lists() ? MachineLimits() : measure_limits(table, device);
  if (!rivals.all().empty()) {
    table.note("first calls are compared with the form of a peer that runs first in its process");
  }
  table.header();
  const std::vector<OpsCase> cases = ops_cases(device);
  add_start_rows(table, device, cases[0], rivals.all());
  for (const OpsCase& c : cases) {
    const bool wanted = table.wants(c.name + ", first call") ||
                        table.wants(c.name + ", evaluated") || table.wants(c.name + ", queued");
    if (!wanted) continue;
    stay_awake(device);
    const std::function<Tensor()> fn = c.make();
    measure_first(table, c, fn, rivals.all());
    for (const bool queued : {false, true}) {
      measure(table, c, fn, queued, device, rivals.all(), limits);
    }
  }
  run_ops_engine_cases(table, device);
}

void first_call(Device device) {
  answer_start([device] {
    const std::function<Tensor()> fn = ops_cases(device)[0].make();
    const double start = wall_seconds();
    fn().eval();
    return wall_seconds() - start;
  });
}

}  // namespace metal_candle::bench
