// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See machine_limits.h. Work is queued several deep, so that launching is no part of it.
#include "metal_candle/execute/machine_limits.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds of one of `depth` evaluations that are queued together, the best of `tries`.
double best_seconds(const std::function<Tensor()>& fn, int depth, int tries) {
  double best = 1e30;
  for (int i = 0; i <= tries; ++i) {
    const auto start = Clock::now();
    Tensor last;
    for (int d = 0; d < depth; ++d) {
      last = fn();
      static_cast<void>(last.eval_async());
    }
    last.eval();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (i > 0) best = std::min(best, seconds / depth);  // The first one plans.
  }
  return best;
}

double product_rate(Device device, std::int64_t size, DType dtype, int depth) {
  const Tensor keys = random::split(random::key(1, device), 2);
  const Tensor x = random::normal({size, size}, keys[0], dtype).eval();
  const Tensor w = random::normal({size, size}, keys[1], dtype).eval();
  const auto n = static_cast<double>(size);
  return 2 * n * n * n / best_seconds([&] { return matmul(x, w); }, depth, 8);
}

}  // namespace

double MachineLimits::least_seconds(double bytes, double flops, DType dtype) const {
  const double moving = copy_bytes_per_second > 0 ? bytes / copy_bytes_per_second : 0;
  const double rate = flops_per_second(dtype);
  return std::max(moving, rate > 0 ? flops / rate : 0);
}

MachineLimits measure_machine_limits(Device device) {
  const ScopedExecutionMode async(ExecutionMode::kAsync);
  const bool is_cpu = device == Device::cpu();
  const std::int64_t elements = std::int64_t{1} << (is_cpu ? 23 : 27);
  const int depth = is_cpu ? 1 : 4;
  MachineLimits limits;
  {
    const Tensor x = full({elements}, 1.0f, DType::kF32, device).eval();
    const double bytes = 2.0 * static_cast<double>(x.spec().bytes());
    limits.copy_bytes_per_second = bytes / best_seconds([&] { return -x; }, depth, is_cpu ? 30 : 3);
  }
  const std::int64_t size = is_cpu ? 1024 : 8192;
  limits.f32_flops_per_second = product_rate(device, size, DType::kF32, depth);
  limits.bf16_flops_per_second = product_rate(device, size, DType::kBF16, depth);
  return limits;
}

}  // namespace metal_candle
