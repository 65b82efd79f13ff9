// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the CUDA backend asks of the driver, over one that computes nothing (tests/cuda_sim).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "metal_candle/backend/gpu/gpu_backend.h"
#include "metal_candle/backend/registry.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/backend/cuda/cuda_sim_test.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

class CudaDeviceTest : public testing::CudaSimTest {
 protected:
  void SetUp() override {
    auto* const calls =
        find<decltype(metal_candle_cuda_sim_calls)>("libcuda.so.1", "metal_candle_cuda_sim_calls");
    if (calls == nullptr) GTEST_SKIP() << "this is the driver of a GPU";
    calls_ = &calls();
  }

  [[nodiscard]] backend::gpu::GpuDevice& gpu() const {
    return static_cast<backend::gpu::GpuBackend&>(backend::backend_for(device_)).gpu();
  }
  template <typename Fn>
  [[nodiscard]] int loaded_by(Fn&& fn) const {
    const int before = calls_->kernels_loaded;
    fn();
    return calls_->kernels_loaded - before;
  }

  cuda_sim::Calls* calls_ = nullptr;
};

TEST_F(CudaDeviceTest, KernelsAreLoadedWhenTheyAreFirstDispatched) {
  const Tensor x = zeros({64, 1024}, DType::kBF16, device_).eval();
  EXPECT_EQ(loaded_by([&] { softmax(x, -1).eval(); }), 1);
  EXPECT_EQ(loaded_by([&] { softmax(x, -1).eval(); }), 0);
  EXPECT_EQ(loaded_by([&] { static_cast<void>(gpu().function("any_name")); }), 0);
}

TEST_F(CudaDeviceTest, RowsThatFitInRegistersSeekNoKernelsForLongOnes) {
  const Tensor x = zeros({80, 1024}, DType::kF32, device_).eval();
  const int before = calls_->kernels_sought;
  logsumexp(x, -1).eval();
  EXPECT_LE(calls_->kernels_sought - before, 2);  // For aligned rows, and others.
}

TEST_F(CudaDeviceTest, SiblingsForSeveralDispatchesAreLoadedWhenTheyAreDispatched) {
  const Tensor x = zeros({64, 1024}, DType::kF16, device_).eval();
  const Tensor y = zeros({64, 1024}, DType::kF16, device_).eval();
  // Both are one dispatch.
  EXPECT_EQ(loaded_by([&] { eval({softmax(x, -1), softmax(y, -1)}); }), 1);
  EXPECT_EQ(loaded_by([&] { softmax(x, -1).eval(); }), 1);
}

TEST_F(CudaDeviceTest, SmallBlocksAreCutFromFewOfTheDrivers) {
  synchronize(device_);
  clear_memory_cache(device_);
  const int held = calls_->blocks_held, made = calls_->blocks_made;
  {
    std::vector<Tensor> all;
    for (std::int64_t i = 1; i <= 60; ++i) {
      all.push_back(zeros({i, 1024}, DType::kF32, device_).eval());
      all.push_back(zeros({i, 12, 1024}, DType::kF32, device_).eval());
    }
    EXPECT_LE(calls_->blocks_made - made, 9);  // 7 MiB, and 86.
  }
  synchronize(device_);
  clear_memory_cache(device_);
  EXPECT_EQ(calls_->blocks_held, held);
}

TEST_F(CudaDeviceTest, AKernelThatThereIsNotIsAnErrorAtOnce) {
  EXPECT_THAT(message_of<DeviceError>([&] { static_cast<void>(gpu().function("no_such_kernel")); }),
              HasSubstr("no kernel no_such_kernel"));
}

}  // namespace
}  // namespace metal_candle
