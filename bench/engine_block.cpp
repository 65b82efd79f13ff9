// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A transformer block with LoRA on the query and value projections, forward and backward, written
// in primitives: what laziness, batching and fusion give together, and each alone.
#include <fmt/format.h>

#include <cmath>

#include "bench/engine_suite.h"
#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle::bench {
namespace {

constexpr std::int64_t kTokens = 64;
constexpr std::int64_t kWidth = 512;
constexpr std::int64_t kHeads = 8;
constexpr std::int64_t kHeadWidth = kWidth / kHeads;
constexpr std::int64_t kHidden = 1408;
constexpr std::int64_t kRank = 8;

struct Block {
  Tensor x, wq, wk, wv, wo, gate, up, down, norm1, norm2, mask;
  std::vector<Tensor> adapters;  // A and B of the query, then of the value projection.

  Block() {
    std::uint64_t seed = 0;
    const auto weight = [&](const Shape& shape) {
      const double scale = 1 / std::sqrt(static_cast<double>(shape[0]));
      return (random::normal(shape, random::key(++seed)) * scale).eval();
    };
    x = weight({kTokens, kWidth});
    for (Tensor* w : {&wq, &wk, &wv, &wo}) *w = weight({kWidth, kWidth});
    gate = weight({kWidth, kHidden});
    up = weight({kWidth, kHidden});
    down = weight({kHidden, kWidth});
    norm1 = weight({kWidth});
    norm2 = weight({kWidth});
    mask = tril(ones({kTokens, kTokens}, DType::kBool)).eval();
    for (int i = 0; i < 2; ++i) {
      adapters.push_back(weight({kWidth, kRank}));
      adapters.push_back(weight({kRank, kWidth}));
    }
  }

  static Tensor rms(const Tensor& x, const Tensor& w) {
    return x * rsqrt(mean(x * x, -1, true) + 1e-5f) * w;
  }

  static Tensor heads(const Tensor& x) {
    return transpose(reshape(x, {1, kTokens, kHeads, kHeadWidth}), {0, 2, 1, 3});
  }

  [[nodiscard]] Tensor loss(const std::vector<Tensor>& a) const {
    const Tensor h = rms(x, norm1);
    const Tensor q = heads(matmul(h, wq) + matmul(matmul(h, a[0]), a[1]) * 2.0f);
    const Tensor k = heads(matmul(h, wk));
    const Tensor v = heads(matmul(h, wv) + matmul(matmul(h, a[2]), a[3]) * 2.0f);
    const float scale = 1 / std::sqrt(static_cast<float>(kHeadWidth));
    const Tensor scores = where(mask, matmul(q, swapaxes(k, -1, -2)) * scale, -INFINITY);
    const Tensor e = exp(scores - max(scores, -1, true));
    const Tensor mixed = matmul(e / sum(e, -1, true), v);
    const Tensor y = x + matmul(reshape(transpose(mixed, {0, 2, 1, 3}), {kTokens, kWidth}), wo);
    const Tensor g = matmul(rms(y, norm2), gate);
    const Tensor u = matmul(rms(y, norm2), up);
    const Tensor out = y + matmul(g * (1.0f / (1.0f + exp(-g))) * u, down);
    return mean(out * out);
  }

  // The loss and the gradients of the adapters, evaluated.
  void step() const {
    auto [value, gradients] =
        value_and_grad([this](const std::vector<Tensor>& a) { return loss(a); })(adapters);
    gradients.push_back(value);
    eval(gradients);
  }
};

Contestant in_mode(const Block& block, ExecutionMode mode, PassSet passes) {
  return timed([&block, mode, passes] {
    const ScopedExecutionMode scoped_mode(mode);
    const ScopedPasses scoped_passes(passes);
    block.step();
  });
}

std::size_t peak_bytes(const Block& block, ExecutionMode mode) {
  const ScopedExecutionMode scoped(mode);
  block.step();
  reset_peak_memory();
  const std::size_t before = memory_use().in_use;
  block.step();
  return memory_use().peak - before;
}

void time_cases(Table& table, const Block& block) {
  const PassSet all = PassSet::all();
  const PassSet none = PassSet::none();
  const auto seconds = compete(
      {in_mode(block, ExecutionMode::kAsync, all), in_mode(block, ExecutionMode::kEager, none),
       in_mode(block, ExecutionMode::kAsync, none), in_mode(block, ExecutionMode::kSync, none)},
      21);
  const auto row = [&](const char* name, std::size_t value, std::size_t reference,
                       const char* reference_name) {
    Row r{.name = name,
          .value = 1 / seconds[value],
          .unit = "step/s",
          .reference = 1 / seconds[reference]};
    r.reference_name = reference_name;
    return r;
  };
  Row modes = row("block forward + backward, async", 0, 1, "eager");
  table.add(judge_ratio(modes, Bound::kAtLeast, 2));
  Row fused = row("block forward + backward, fused", 0, 2, "unfused");
  table.add(judge_ratio(fused, Bound::kAtLeast, 1.4));
  table.add(row("block forward + backward, batching alone", 2, 3, "sync, unfused"));
  table.add(row("block forward + backward, laziness alone", 3, 1, "eager"));
}

}  // namespace

void run_block_cases(Table& table) {
  const std::string peak = "block forward + backward, peak memory";
  if (!table.wants("block forward + backward") && !table.wants(peak)) return;
  const Block block;
  if (table.wants("block forward + backward")) time_cases(table, block);
  Row row{.name = peak,
          .value = 1e-6 * static_cast<double>(peak_bytes(block, ExecutionMode::kAsync)),
          .unit = "MB"};
  row.reference = 1e-6 * static_cast<double>(peak_bytes(block, ExecutionMode::kEager));
  row.reference_name = "eager";
  table.add(judge_ratio(row, Bound::kAtMost, 0.6));
}

}  // namespace metal_candle::bench
