// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See limits.h.
#include "bench/limits.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <dnnl.hpp>
#include <vector>

#include "metal_candle/backend/cpu/parallel.h"

namespace metal_candle::bench {
namespace {

constexpr int kTries = 30;

// Of several calls, the quickest: disturbances only ever make it slower.
template <typename Fn>
double best_seconds(Fn fn) {
  fn();
  double best = 1e30;
  for (int i = 0; i < kTries; ++i) {
    const double start = seconds_now();
    fn();
    best = std::min(best, seconds_now() - start);
  }
  return best;
}

double memcpy_rate() {
  constexpr std::int64_t kBytes = std::int64_t{64} << 20;
  const std::vector<char> from(kBytes, 1);
  std::vector<char> to(kBytes);
  const double seconds = best_seconds([&] {
    backend::cpu::parallel_for(kBytes, std::int64_t{1} << 20,
                               [&](std::int64_t begin, std::int64_t end) {
                                 std::memcpy(to.data() + begin, from.data() + begin,
                                             static_cast<std::size_t>(end - begin));
                               });
  });
  return 2.0 * static_cast<double>(kBytes) / seconds;
}

// 0 where this processor has no such product.
double onednn_rate(dnnl::memory::data_type type) {
  constexpr std::int64_t kSize = 1024;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::memory::desc operand({kSize, kSize}, type, dnnl::memory::format_tag::ab);
  try {
    const dnnl::matmul product(
        dnnl::matmul::primitive_desc(dnnl::matmul::desc(operand, operand, operand), engine));
    dnnl::memory a(operand, engine), b(operand, engine), c(operand, engine);
    for (const dnnl::memory* memory : {&a, &b}) {
      std::memset(memory->get_data_handle(), 0, operand.get_size());
    }
    const double seconds = best_seconds([&] {
      product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
      stream.wait();
    });
    return 2.0 * kSize * kSize * kSize / seconds;
  } catch (const dnnl::error&) {
    return 0;
  }
}

}  // namespace

MachineLimits measure_limits(const Table& table, Device device) {
  MachineLimits limits = measure_machine_limits(device);
  if (device == Device::cpu()) {
    omp_set_num_threads(backend::cpu::num_threads());
    const auto raise = [](double& limit, double rate) { limit = std::max(limit, rate); };
    raise(limits.copy_bytes_per_second, memcpy_rate());
    raise(limits.f32_flops_per_second, onednn_rate(dnnl::memory::data_type::f32));
    raise(limits.bf16_flops_per_second, onednn_rate(dnnl::memory::data_type::bf16));
  }
  table.note(
      fmt::format("limits of {}: copies {:.1f} GB/s, products {:.0f} GFLOP/s in f32 and {:.0f} in "
                  "bf16",
                  to_string(device), limits.copy_bytes_per_second * 1e-9,
                  limits.f32_flops_per_second * 1e-9, limits.bf16_flops_per_second * 1e-9));
  return limits;
}

}  // namespace metal_candle::bench
