// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// RandomBits on GPUs gives the bits that its definition says, at any length and address.
#include <gtest/gtest.h>

#include "tests/backend/elementwise_cases.h"
#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"

namespace metal_candle::testing {
namespace {

TEST(GpuRandomTest, GivesThePhiloxSequence) {
  const HostTensor key = HostTensor::of_integers({2}, {0xdeadbeef, 0x12345678}, DType::kU32);
  const HostTensor* inputs[] = {&key};
  for (const std::int64_t n : {0, 1, 3, 4, 1027, 5000}) {
    const TensorSpec spec{{n}, DType::kU32};
    for (const Placement placement : {Placement::kContiguous, Placement::kScattered}) {
      expect_gpu_matches(op::RandomBits{}, inputs, spec, {}, placement);
    }
    EXPECT_TRUE(all_close(run_gpu_kernel_at(op::RandomBits{}, inputs, spec, {1}),
                          reference(op::RandomBits{}, inputs, spec), {}));
  }
}

}  // namespace
}  // namespace metal_candle::testing
