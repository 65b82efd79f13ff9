// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What is prepared in the background as a process begins, over libraries that compute nothing.
#include <gtest/gtest.h>

#include "metal_candle/backend/cuda/cuda_device.h"
#include "tests/backend/cuda/cuda_sim_test.h"

namespace metal_candle {
namespace {

using backend::cuda::CudaDevice;

class CudaWarmUpTest : public testing::CudaSimTest {
 protected:
  void SetUp() override {
    auto* const calls =
        find<decltype(metal_candle_cuda_sim_calls)>("libcuda.so.1", "metal_candle_cuda_sim_calls");
    auto* const products = find<decltype(metal_candle_cuda_sim_products)>(
        "libcublasLt.so.13", "metal_candle_cuda_sim_products");
    if (calls == nullptr || products == nullptr) GTEST_SKIP() << "this is the driver of a GPU";
    calls_ = &calls();
    products_ = &products();
  }
  void TearDown() override {
    if (products_ != nullptr) products_->least_alignment = 0;
  }

  cuda_sim::Calls* calls_ = nullptr;
  cuda_sim::Products* products_ = nullptr;
};

TEST_F(CudaWarmUpTest, LoadsKernelsAndRunsProducts) {
  CudaDevice gpu(0);
  static_cast<void>(gpu.tuning());  // Asks the backend of that device, which loads some kernels.
  const int loaded = calls_->kernels_loaded, run = products_->run, held = calls_->blocks_held;
  gpu.warm_up();
  gpu.finish_compiling();
  EXPECT_EQ(calls_->kernels_loaded - loaded, 2);  // All that this driver says there are.
  EXPECT_GE(products_->run - run, 15);
  EXPECT_EQ(calls_->blocks_held, held);
}

TEST_F(CudaWarmUpTest, WhatTheLibraryHasNotIsLeftToWhoeverNeedsIt) {
  CudaDevice gpu(0);
  const int run = products_->run, held = calls_->blocks_held;
  products_->least_alignment = 1 << 20;
  gpu.warm_up();
  gpu.finish_compiling();
  EXPECT_EQ(products_->run, run);
  EXPECT_EQ(calls_->blocks_held, held);
}

TEST_F(CudaWarmUpTest, EndsWithTheDevice) {
  for (int i = 0; i < 20; ++i) {
    CudaDevice gpu(0);
    gpu.warm_up();
  }
}

}  // namespace
}  // namespace metal_candle
