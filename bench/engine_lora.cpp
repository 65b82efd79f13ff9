// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// LoRA at batch 1: arithmetic of a microsecond, so what is measured is everything around it.
#include <fmt/format.h>

#include "bench/direct_kernel.h"
#include "bench/engine_suite.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::bench {
namespace {

constexpr std::int64_t kWidth = 512;
constexpr std::int64_t kRank = 8;

struct LoraOperands {
  Tensor x, a, b;
  LoraOperands(std::int64_t m, std::uint64_t seed) {
    const Tensor keys = random::split(random::key(seed), 3);
    x = random::normal({m, kWidth}, keys[0]).eval();
    a = random::normal({kWidth, kRank}, keys[1]).eval();
    b = random::normal({kRank, kWidth}, keys[2]).eval();
  }
};

void single_case(Table& table, Peer* torch) {
  const LoraOperands t(1, 1);
  DirectKernel direct(op::Lora{0.5f}, {t.x, t.a, t.b}, {{{1, kWidth}, DType::kF32}});
  // As a user writes it: the pass finds the LoRA in it.
  const Contestant ours = timed([&] { (matmul(matmul(t.x, t.a), t.b) * 0.5f).eval(); });
  std::vector<Contestant> contestants{ours, timed([&] { direct.run(); })};
  if (torch != nullptr) contestants.push_back(torch->contestant("lora 1 512 8"));
  const auto seconds = compete(contestants, 31);
  Row overhead{.name = "LoRA m=1 d=512 r=8 f32, over direct calls",
               .value = (seconds[0] - seconds[1]) * 1e6,
               .unit = "us"};
  overhead.reference = seconds[1] * 1e6;
  overhead.reference_name = "direct kernel";
  overhead.note = fmt::format("evaluated in {:.2f} us", seconds[0] * 1e6);
  table.add(judge_value(overhead, Bound::kAtMost, 3));
  Row row{.name = "LoRA m=1 d=512 r=8 f32, built and evaluated",
          .value = seconds[0] * 1e6,
          .unit = "us"};
  row.reference_name = "PyTorch eager";
  if (torch != nullptr) row.reference = seconds[2] * 1e6;
  table.add(judge_ratio(row, Bound::kAtMost, 1));
}

void chain_case(Table& table, Peer* torch) {
  const LoraOperands first(1, 1);
  const LoraOperands second(1, 2);
  const auto layer = [](const Tensor& x, const LoraOperands& t) {
    return matmul(matmul(x, t.a), t.b) * 0.5f;
  };
  std::vector<Contestant> contestants{timed([&] { layer(layer(first.x, first), second).eval(); }),
                                      timed([&] {
                                        const Tensor hidden = layer(first.x, first).eval();
                                        layer(hidden, second).eval();
                                      })};
  if (torch != nullptr) contestants.push_back(torch->contestant("lora_chain 1 512 8"));
  const auto seconds = compete(contestants, 31);
  Row row{
      .name = "two LoRA layers chained, one evaluation", .value = seconds[0] * 1e6, .unit = "us"};
  row.reference = seconds[1] * 1e6;
  row.reference_name = "two evaluations";
  if (torch != nullptr) row.note = fmt::format("PyTorch eager {:.2f} us", seconds[2] * 1e6);
  table.add(judge_ratio(row, Bound::kAtMost, 1));
}

}  // namespace

void run_lora_cases(Table& table, Peer* torch) {
  if (table.wants("LoRA m=1 d=512 r=8 f32")) single_case(table, torch);
  if (table.wants("two LoRA layers chained")) chain_case(table, torch);
}

}  // namespace metal_candle::bench
