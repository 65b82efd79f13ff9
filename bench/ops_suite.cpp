// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See ops_suite.h.
#include "bench/ops_suite.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bench/peer_scripts.h"
#include "bench/torch_peer.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::bench {
namespace {

constexpr int kRounds = 15;

// Most microseconds on an H200.
struct Goals {
  std::optional<double> evaluated, queued;
};

struct Case {
  std::string name;  // And the peer's command.
  double bytes = 0;  // Read and written; 0 where arithmetic is what costs.
  double flops = 0;
  int depth = 100;                                // Evaluations queued at once.
  std::function<std::function<Tensor()>()> make;  // Makes the operands, and then what to time.
  Goals goals;
};

class Operands {
 public:
  explicit Operands(Device device) : key_(random::key(1, device)) {}
  Tensor operator()(const Shape& shape, DType dtype = DType::kF32, double scale = 1) {
    const Tensor x = random::normal(shape, random::fold_in(key_, next_++)) * scale;
    return astype(x, dtype).eval();
  }

 private:
  Tensor key_;
  std::uint32_t next_ = 0;
};

Tensor lora_layer(const Tensor& x, const Tensor& a, const Tensor& b) {
  return matmul(matmul(x, a), b) * 0.5f;
}

Case lora_case(Device device, std::int64_t m, std::int64_t d, std::int64_t r, DType dtype,
               int chain, Goals goals) {
  Case c;
  c.name = fmt::format("lora {} {} {} {} {}", m, d, r, chain, name(dtype));
  c.flops = 4.0 * static_cast<double>(m * d * r * chain);
  c.bytes =
      static_cast<double>(size_of(dtype)) * static_cast<double>(2 * m * d + 2 * d * r) * chain;
  c.goals = goals;
  c.make = [=] {
    Operands make(device);
    const Tensor x = make({m, d}, dtype);
    std::vector<std::pair<Tensor, Tensor>> layers;
    for (int i = 0; i < chain; ++i) {
      layers.emplace_back(make({d, r}, dtype, 0.1), make({r, d}, dtype, 0.1));
    }
    return [=] {
      Tensor y = x;
      for (const auto& [a, b] : layers) y = lora_layer(y, a, b);
      return y;
    };
  };
  return c;
}

Case rows_case(Device device, const std::string& op, std::int64_t m, std::int64_t n, DType dtype,
               Goals goals) {
  Case c;
  c.name = fmt::format("{} {} {} {}", op, m, n, name(dtype));
  c.bytes = 2.0 * static_cast<double>(m * n) * static_cast<double>(size_of(dtype));
  // Many results of this size at once would only measure the allocator.
  if (c.bytes > 1e8) c.depth = 10;
  c.goals = goals;
  c.make = [=] {
    Operands make(device);
    const Tensor x = make({m, n}, dtype);
    const Tensor weight = make({n}, dtype);
    const Tensor bias = make({n}, dtype);
    return [=]() -> Tensor {
      if (op == "softmax") return softmax(x, -1);
      if (op == "rms_norm") return rms_norm(x, weight, 1e-5f);
      if (op == "layer_norm") return layer_norm(x, weight, bias, 1e-5f);
      return x * sigmoid(x) + weight * x;  // elementwise
    };
  };
  return c;
}

Case mlp_case(Device device, std::int64_t m, std::int64_t d, std::int64_t hidden, DType dtype,
              Goals goals) {
  Case c;
  c.name = fmt::format("mlp {} {} {} {}", m, d, hidden, name(dtype));
  c.flops = 4.0 * static_cast<double>(m * d * hidden);
  c.goals = goals;
  c.make = [=] {
    Operands make(device);
    const Tensor x = make({m, d}, dtype);
    const Tensor up = make({d, hidden}, dtype, 0.03);
    const Tensor down = make({hidden, d}, dtype, 0.03);
    return [=] { return matmul(gelu_tanh(matmul(x, up)), down); };
  };
  return c;
}

Case attention_case(Device device, std::int64_t batch, std::int64_t heads, std::int64_t length,
                    std::int64_t d, DType dtype) {
  Case c;
  c.name = fmt::format("attention {} {} {} {} {}", batch, heads, length, d, name(dtype));
  c.flops = 2.0 * static_cast<double>(batch * heads * length * length * d);  // Causal: half of it.
  c.depth = 20;
  c.make = [=] {
    Operands make(device);
    const Shape shape{batch, heads, length, d};
    const Tensor q = make(shape, dtype);
    const Tensor k = make(shape, dtype);
    const Tensor v = make(shape, dtype);
    return [=] { return scaled_dot_product_attention(q, k, v, {.causal = true}); };
  };
  return c;
}

std::vector<Case> all_cases(Device device) {
  using enum DType;
  std::vector<Case> cases{
      lora_case(device, 1, 512, 8, kF32, 1, {10, 3}),
      lora_case(device, 1, 2048, 8, kF32, 1, {11, 4}),
      lora_case(device, 1, 512, 8, kF32, 2, {12, 5}),
      lora_case(device, 16, 1024, 16, kF32, 1, {}),
      lora_case(device, 128, 1024, 16, kF32, 1, {}),
      lora_case(device, 2048, 4096, 16, kBF16, 1, {{}, 20}),
      rows_case(device, "softmax", 64, 1024, kF32, {9, 2.5}),
      rows_case(device, "rms_norm", 64, 1024, kF32, {9, 2.5}),
      rows_case(device, "layer_norm", 64, 1024, kF32, {}),
      mlp_case(device, 128, 1024, 4096, kBF16, {{}, 18}),
  };
  const std::int64_t rows = device == Device::cpu() ? 1024 : 16384;
  for (const char* op : {"softmax", "rms_norm", "layer_norm", "elementwise"}) {
    for (const DType dtype : {kF32, kBF16}) {
      const bool has_goal = device.type == DeviceType::kCuda &&
                            (std::string(op) == "softmax" || std::string(op) == "rms_norm");
      const Goals goals = has_goal ? Goals{{}, dtype == kF32 ? 140.0 : 75.0} : Goals{};
      cases.push_back(rows_case(device, op, rows, 4096, dtype, goals));
    }
  }
  cases.push_back(device == Device::cpu() ? attention_case(device, 1, 8, 256, 64, kF32)
                                          : attention_case(device, 4, 16, 2048, 64, kBF16));
  return cases;
}

// Runs fn `depth` times before waiting for any.
void run_queued(const std::function<Tensor()>& fn, int depth) {
  Tensor last;
  for (int i = 0; i < depth; ++i) {
    last = fn();
    static_cast<void>(last.eval_async());
  }
  last.eval();
}

struct Peer {
  const char* name;
  const char* mode;  // Of the script.
};

void measure(Table& table, const Case& c, bool queued, Device device, TorchPeer* torch) {
  const std::string row_name = fmt::format("{}, {}", c.name, queued ? "queued" : "evaluated");
  if (!table.wants(row_name)) return;
  const std::function<Tensor()> fn = c.make();
  std::vector<Contestant> contestants;
  if (queued) {
    const Contestant whole = timed([&] { run_queued(fn, c.depth); });
    contestants.push_back([whole, depth = c.depth] { return whole() / depth; });
  } else {
    contestants.push_back(timed([&] { fn().eval(); }));
  }
  std::vector<Peer> peers;
  if (torch != nullptr) {
    peers = {{"PyTorch eager", "eager"}, {"torch.compile", "compile"}};
    if (device.type == DeviceType::kCuda) peers.push_back({"PyTorch CUDA graph", "graph"});
    for (const Peer& peer : peers) {
      contestants.push_back(
          torch->contestant(fmt::format("{} {} {}", peer.mode, queued ? c.depth : 1, c.name)));
    }
  }
  const std::vector<double> seconds = compete(contestants, kRounds);
  Row row{.name = row_name, .value = seconds[0] * 1e6, .unit = "us"};
  std::string note;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const double us = seconds[i + 1] * 1e6;
    if (!row.reference || us < *row.reference) {
      row.reference = us;
      row.reference_name = peers[i].name;
    }
    note += fmt::format("{}{} {:.2f}", note.empty() ? "" : ", ", peers[i].name, us);
  }
  if (row.reference) row.ratio = *row.value / *row.reference;
  if (c.bytes > 1e6) note += fmt::format("; {:.0f} GB/s", c.bytes / seconds[0] * 1e-9);
  if (c.flops > 1e9) note += fmt::format("; {:.0f} GFLOP/s", c.flops / seconds[0] * 1e-9);
  row.note = note;
  const std::optional<double> goal = queued ? c.goals.queued : c.goals.evaluated;
  if (goal && device.type == DeviceType::kCuda) judge_value(row, Bound::kAtMost, *goal);
  table.add(row);
}

}  // namespace

void run_ops_suite(Table& table, Device device) {
  std::string why;
  const std::unique_ptr<TorchPeer> torch =
      TorchPeer::start(kTorchOpsScript, why, device == Device::cpu() ? "cpu" : "cuda");
  table.note(torch ? "peer: PyTorch " + torch->version() : "no peer: " + why);
  table.header();
  for (const Case& c : all_cases(device)) {
    for (const bool queued : {false, true}) measure(table, c, queued, device, torch.get());
  }
}

}  // namespace metal_candle::bench
