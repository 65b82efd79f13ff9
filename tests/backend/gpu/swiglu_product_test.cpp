// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of silu(gate) * up by a product, against the reference: in one kernel, and by the
// library's product.
#include <gtest/gtest.h>

#include <vector>

#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"
#include "tests/gpu_sim/sim_backend.h"
#include "tests/gpu_sim/sim_device.h"

namespace metal_candle::testing {
namespace {

void check(const Shape& rows, std::int64_t n, std::int64_t k, DType dtype, Placement placement) {
  Shape wide = rows, inner = rows;
  wide.push_back(n);
  inner.push_back(k);
  const HostTensor gate = random_operand(wide, dtype, 1, 3), up = random_operand(wide, dtype, 2);
  const HostTensor a = random_operand(inner, dtype, 3), b = random_operand({k, n}, dtype, 4);
  const HostTensor* const inputs[] = {&gate, &up, &a, &b};
  const Tolerance tolerance = dtype == DType::kF32   ? Tolerance{1e-4, 1e-4}
                              : dtype == DType::kF16 ? Tolerance{1e-2, 3e-2}
                                                     : Tolerance{6e-2, 2e-1};
  expect_gpu_matches(op::SwiGluBackward{true}, inputs, {}, tolerance, placement);
  // One gradient alone.
  const std::vector<TensorSpec> specs(2, gate.spec);
  const auto both = run_gpu_kernel(op::SwiGluBackward{true}, inputs, specs);
  const auto second = run_gpu_kernel(op::SwiGluBackward{true}, inputs, specs, {0, 1});
  EXPECT_TRUE(all_close(second[1], both[1], {}));
}

class GpuSwiGluProductTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuSwiGluProductTest, AgreesWithTheReferenceWhicheverWayTheMatrixLies) {
  auto& limits = static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu()).mutable_limits();
  const backend::gpu::DeviceLimits saved = limits;
  for (const bool wide : {true, false}) {
    limits.wide_products = wide;
    for (const Placement placement : {Placement::kContiguous, Placement::kColumns}) {
      check({70}, 72, 40, GetParam(), placement);
      check({2, 150}, 520, 136, GetParam(), placement);  // Several panels a group.
      check({130}, 256, 1160, GetParam(), placement);    // More steps than there are chunks.
      check({3}, 16, 8, GetParam(), placement);          // Few rows.
      check({70}, 35, 13, GetParam(), placement);        // No whole packets.
      check({0}, 16, 8, GetParam(), placement);
    }
  }
  limits = saved;
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuSwiGluProductTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& param_info) {
                           return std::string(name(param_info.param));
                         });

}  // namespace
}  // namespace metal_candle::testing
