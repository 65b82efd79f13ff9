// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See ops_cases.h.
#include "bench/ops_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metal_candle/graph/ops.h"

namespace metal_candle::bench {
namespace {

double size(DType dtype) { return static_cast<double>(size_of(dtype)); }
double product(std::initializer_list<std::int64_t> factors) {
  double result = 1;
  for (const std::int64_t factor : factors) result *= static_cast<double>(factor);
  return result;
}

// Many large results at once would only measure the allocator, and take slow peers minutes.
int depth_for(double bytes, double flops) { return bytes > 4e6 || flops > 1e8 ? 10 : 100; }

OpsCase lora_case(Device device, std::int64_t m, std::int64_t d, std::int64_t r, DType dtype,
                  int chain, OpsCase::Goals goals = {}) {
  OpsCase c;
  c.name = fmt::format("lora {} {} {} {} {}", m, d, r, chain, name(dtype));
  c.dtype = dtype;
  c.flops = 4 * product({m, d, r, chain});
  c.bytes = size(dtype) * (2 * product({m, d, chain}) + 2 * product({d, r, chain}));
  c.depth = depth_for(c.bytes, c.flops);
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
      for (const auto& [a, b] : layers) y = matmul(matmul(y, a), b) * 0.5f;
      return y;
    };
  };
  return c;
}

Tensor chain_of(const Tensor& x, const Tensor& weight) {
  Tensor y = x;
  for (int i = 0; i < 8; ++i) y = maximum(y * weight + x, 0.0f);
  return y;
}

OpsCase rows_case(Device device, const std::string& op, std::int64_t m, std::int64_t n, DType dtype,
                  OpsCase::Goals goals = {}) {
  OpsCase c;
  c.name = fmt::format("{} {} {} {}", op, m, n, name(dtype));
  c.dtype = dtype;
  c.bytes = 2 * size(dtype) * product({m, n});
  c.depth = depth_for(c.bytes, 0);
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
      if (op == "chain") return chain_of(x, weight);
      return x * sigmoid(x) + weight * x;  // elementwise
    };
  };
  return c;
}

OpsCase mlp_case(Device device, std::int64_t m, std::int64_t d, std::int64_t hidden, DType dtype,
                 OpsCase::Goals goals = {}) {
  OpsCase c;
  c.name = fmt::format("mlp {} {} {} {}", m, d, hidden, name(dtype));
  c.dtype = dtype;
  c.flops = 4 * product({m, d, hidden});
  c.bytes = size(dtype) * (2 * product({d, hidden}) + 2 * product({m, d}));
  c.depth = depth_for(c.bytes, c.flops);
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

// Causal, but for a single query.
OpsCase attention_case(Device device, std::int64_t batch, std::int64_t heads, std::int64_t queries,
                       std::int64_t keys, std::int64_t d, DType dtype) {
  OpsCase c;
  c.name = fmt::format("attention {} {} {} {} {} {}", batch, heads, queries, keys, d, name(dtype));
  c.dtype = dtype;
  const bool causal = queries > 1;
  c.flops = (causal ? 2 : 4) * product({batch, heads, queries, keys, d});
  c.bytes = size(dtype) * 2 * product({batch, heads, queries + keys, d});
  c.depth = std::min(20, depth_for(c.bytes, c.flops));
  c.make = [=] {
    Operands make(device);
    const Tensor q = make({batch, heads, queries, d}, dtype);
    const Tensor k = make({batch, heads, keys, d}, dtype);
    const Tensor v = make({batch, heads, keys, d}, dtype);
    return [=] { return scaled_dot_product_attention(q, k, v, {.causal = causal}); };
  };
  return c;
}

void add_lora_cases(std::vector<OpsCase>& cases, Device device) {
  using enum DType;
  for (const std::int64_t m : {1, 16, 128, 2048}) {
    const auto add = [&](std::int64_t d, std::int64_t r) {
      OpsCase::Goals goals;
      if (m == 1 && d == 512 && r == 8) goals = {10, 3};
      if (m == 1 && d == 2048 && r == 8) goals = {11, 4};
      cases.push_back(lora_case(device, m, d, r, kF32, 1, goals));
    };
    for (const std::int64_t d : {512, 2048, 4096}) add(d, 8);
    for (const std::int64_t r : {4, 16, 64}) add(1024, r);
  }
  cases.push_back(lora_case(device, 2048, 4096, 16, kBF16, 1, {{}, 20}));
  cases.push_back(lora_case(device, 1, 512, 8, kF32, 2, {12, 5}));
  cases.push_back(lora_case(device, 1, 512, 8, kF32, 8));
  cases.push_back(lora_case(device, 128, 1024, 16, kF32, 4));
}

void add_row_cases(std::vector<OpsCase>& cases, Device device) {
  using enum DType;
  struct Rows {
    std::int64_t m, n;
    DType dtype;
  };
  const bool on_cpu = device == Device::cpu();
  const std::int64_t most = on_cpu ? 1024 : 16384;
  for (const std::string op : {"softmax", "rms_norm", "layer_norm"}) {
    for (const Rows& rows : {Rows{1, 4096, kF32}, Rows{64, 1024, kF32}, Rows{1024, 1024, kF32},
                             Rows{most, 4096, kF32}, Rows{most, 4096, kBF16}}) {
      OpsCase::Goals goals;
      if (op != "layer_norm" && rows.m == 64) goals = {9, 2.5};
      if (op != "layer_norm" && rows.m == most) goals = {{}, rows.dtype == kF32 ? 140.0 : 75.0};
      cases.push_back(rows_case(device, op, rows.m, rows.n, rows.dtype, goals));
    }
  }
  for (const char* op : {"elementwise", "chain"}) {
    for (const DType dtype : {kF32, kBF16}) {
      cases.push_back(rows_case(device, op, most, 4096, dtype));
    }
  }
}

}  // namespace

Operands::Operands(Device device) : key_(random::key(1, device)) {}

Tensor Operands::operator()(const Shape& shape, DType dtype, double scale) {
  const Tensor x = random::normal(shape, random::fold_in(key_, next_++)) * scale;
  return astype(x, dtype).eval();
}

std::vector<OpsCase> ops_cases(Device device) {
  using enum DType;
  const bool on_cpu = device == Device::cpu();
  std::vector<OpsCase> cases;
  add_lora_cases(cases, device);
  add_row_cases(cases, device);
  for (const std::int64_t m : {1, 16, 128}) {
    const OpsCase::Goals goals = m == 128 ? OpsCase::Goals{{}, 18} : OpsCase::Goals{};
    cases.push_back(mlp_case(device, m, 1024, 4096, kBF16, goals));
    if (on_cpu) cases.push_back(mlp_case(device, m, 1024, 4096, kF32));
  }
  if (on_cpu) {
    cases.push_back(attention_case(device, 1, 8, 256, 256, 64, kF32));
    cases.push_back(attention_case(device, 1, 8, 256, 256, 64, kBF16));
    cases.push_back(attention_case(device, 1, 8, 1024, 1024, 64, kF32));
    cases.push_back(attention_case(device, 1, 8, 1, 1024, 64, kF32));
  } else {
    cases.push_back(attention_case(device, 4, 16, 2048, 2048, 64, kBF16));
    cases.push_back(attention_case(device, 1, 16, 1, 4096, 64, kBF16));
  }
  return cases;
}

}  // namespace metal_candle::bench
