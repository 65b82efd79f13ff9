// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Operations that are bound by memory traffic: large ones against the machine's copy bandwidth,
// small ones against PyTorch.
#include <fmt/format.h>

#include <cstring>

#include "bench/engine_suite.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::bench {
namespace {

constexpr std::int64_t kLarge = 4096;

struct RowOperation {
  const char* name;
  Tensor (*fn)(const Tensor& x, const Tensor& weight, const Tensor& bias);
};

// Spelled out as a user without the library's composites would.
const RowOperation kPrimitives[] = {
    {"softmax",
     [](const Tensor& x, const Tensor&, const Tensor&) {
       const Tensor e = exp(x - max(x, -1, true));
       return e / sum(e, -1, true);
     }},
    {"rms_norm", [](const Tensor& x, const Tensor& weight,
                    const Tensor&) { return x * rsqrt(mean(x * x, -1, true) + 1e-5f) * weight; }},
    {"layer_norm",
     [](const Tensor& x, const Tensor& weight, const Tensor& bias) {
       const Tensor centred = x - mean(x, -1, true);
       return centred * rsqrt(mean(centred * centred, -1, true) + 1e-5f) * weight + bias;
     }},
    {"gelu", [](const Tensor& x, const Tensor&,
                const Tensor&) { return 0.5f * x * (1.0f + erf(x * 0.70710678118654752f)); }},
};

void large_case(Table& table, const RowOperation& operation, const std::string& name) {
  const Tensor x = random::normal({kLarge, kLarge}, random::key(1)).eval();
  const Tensor weight = random::normal({kLarge}, random::key(2)).eval();
  const Tensor bias = random::normal({kLarge}, random::key(3)).eval();
  const std::size_t bytes = x.spec().bytes();
  const StoragePtr copy = detail::allocate_storage(Device::cpu(), bytes);
  const auto* source = static_cast<const char*>(x.node()->value().storage->contents());
  auto* target = static_cast<char*>(copy->contents());
  const Contestant memory = timed([&] {
    backend::cpu::parallel_for(static_cast<std::int64_t>(bytes), std::int64_t{1} << 20,
                               [&](std::int64_t begin, std::int64_t end) {
                                 std::memcpy(target + begin, source + begin,
                                             static_cast<std::size_t>(end - begin));
                               });
  });
  const Contestant ours = timed([&] { operation.fn(x, weight, bias).eval(); });
  const auto seconds = compete({ours, memory}, 21);
  const double traffic = 2e-9 * static_cast<double>(bytes);
  Row row{.name = name,
          .value = traffic / seconds[0],
          .unit = "GB/s",
          .reference = traffic / seconds[1]};
  row.reference_name = "copy, all cores";
  table.add(judge_ratio(row, Bound::kAtLeast, 0.8));
}

void small_case(Table& table, Peer* torch, const char* operation, const std::string& name) {
  const Tensor x = random::normal({64, 1024}, random::key(1)).eval();
  const Tensor weight = random::normal({1024}, random::key(2)).eval();
  const bool is_softmax = std::string_view(operation) == "softmax";
  std::vector<Contestant> contestants{
      timed([&] { (is_softmax ? softmax(x) : rms_norm(x, weight)).eval(); })};
  if (torch != nullptr)
    contestants.push_back(torch->contestant(fmt::format("{} 64 1024", operation)));
  const auto seconds = compete(contestants, 31);
  Row row{.name = name, .value = seconds[0] * 1e6, .unit = "us"};
  row.reference_name = "PyTorch eager";
  if (torch != nullptr) row.reference = seconds[1] * 1e6;
  table.add(judge_ratio(row, Bound::kAtMost, 0.7));
}

}  // namespace

void run_row_cases(Table& table, Peer* torch) {
  for (const RowOperation& operation : kPrimitives) {
    const std::string name = fmt::format("{} in primitives, 4096x4096 f32", operation.name);
    if (table.wants(name)) large_case(table, operation, name);
  }
  for (const char* operation : {"softmax", "rms_norm"}) {
    const std::string name = fmt::format("{} 64x1024 f32", operation);
    if (table.wants(name)) small_case(table, torch, operation, name);
  }
}

}  // namespace metal_candle::bench
