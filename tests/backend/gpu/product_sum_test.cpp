// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sums of products against the reference: by wide products where matrices are of whole packets, and
// product by product.
#include <gtest/gtest.h>

#include <vector>

#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"
#include "tests/gpu_sim/sim_backend.h"
#include "tests/gpu_sim/sim_device.h"

namespace metal_candle::testing {
namespace {

struct Case {
  Shape rows;
  std::int64_t n;
  std::vector<std::int64_t> inner;
  bool has_residual;
};

void check(const Case& c, DType dtype, Placement placement) {
  std::vector<HostTensor> operands;
  std::uint32_t seed = 1;
  const auto add = [&](Shape shape) { operands.push_back(random_operand(shape, dtype, seed++)); };
  Shape wide = c.rows;
  wide.push_back(c.n);
  for (const std::int64_t k : c.inner) {
    Shape left = c.rows;
    left.push_back(k);
    add(left);
    add({k, c.n});
  }
  if (c.has_residual) add(wide);
  std::vector<const HostTensor*> hosts;
  for (const HostTensor& operand : operands) hosts.push_back(&operand);
  const Tolerance tolerance = dtype == DType::kF32   ? Tolerance{1e-5, 1e-5}
                              : dtype == DType::kF16 ? Tolerance{4e-3, 1e-2}
                                                     : Tolerance{3e-2, 8e-2};
  expect_gpu_matches(op::ProductSum{static_cast<int>(c.inner.size()), c.has_residual}, hosts, {},
                     tolerance, placement);
}

class GpuProductSumTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuProductSumTest, AgreesWithTheReferenceWhicheverWayMatricesLie) {
  auto& limits = static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu()).mutable_limits();
  const backend::gpu::DeviceLimits saved = limits;
  for (const bool wide : {true, false}) {
    limits.wide_products = wide;
    for (const Placement placement : {Placement::kContiguous, Placement::kColumns}) {
      check({{70}, 72, {40, 136, 8}, true}, GetParam(), placement);
      check({{2, 65}, 136, {64, 8}, false}, GetParam(), placement);
      check({{130}, 256, {8, 200}, false}, GetParam(), placement);
      check({{300}, 448, {72, 8}, true}, GetParam(), placement);  // Several panels a group.
      check({{400}, 520, {64, 8}, true}, GetParam(), placement);
      check({{3}, 16, {8, 16}, true}, GetParam(), placement);    // Few rows.
      check({{70}, 72, {40, 13}, true}, GetParam(), placement);  // No whole packets.
      check({{70}, 35, {40, 16}, false}, GetParam(), placement);
      check({{0}, 16, {8, 16}, true}, GetParam(), placement);
    }
  }
  limits = saved;
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuProductSumTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& param_info) {
                           return std::string(name(param_info.param));
                         });

}  // namespace
}  // namespace metal_candle::testing
