// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the CUDA backend asks of cuBLASLt, over one that computes nothing (tests/cuda_sim).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "metal_candle/backend/tuning.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/backend/cuda/cuda_sim_test.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

class CudaProductTest : public testing::CudaSimTest {
 protected:
  void SetUp() override {
    auto* const products = find<decltype(metal_candle_cuda_sim_products)>(
        "libcublasLt.so.13", "metal_candle_cuda_sim_products");
    if (products == nullptr) GTEST_SKIP() << "this is NVIDIA's library";
    products_ = &products();
    products_->least_alignment = 0;
    memory_ = zeros({4096}, DType::kF32, device_).eval();
    weight_ = zeros({32, 64}, DType::kF32, device_).eval();
  }

  /// A matrix that begins so many elements into its memory. Sizes that no other test has, so that
  /// nothing has been asked before.
  [[nodiscard]] Tensor matrix(std::int64_t rows, std::int64_t begin) const {
    return reshape(slice(memory_, {begin}, {begin + rows * 32}), {rows, 32});
  }
  /// How often it is asked for an algorithm.
  template <typename Fn>
  [[nodiscard]] int asked_by(Fn&& fn) const {
    const int before = products_->asked;
    fn();
    return products_->asked - before;
  }

  cuda_sim::Products* products_ = nullptr;
  Tensor memory_;
  Tensor weight_;
};

TEST_F(CudaProductTest, UnalignedOperandsAreAskedForWhenTheyCome) {
  const auto product = [&](std::int64_t begin) { matmul(matrix(20, begin), weight_).eval(); };
  EXPECT_EQ(asked_by([&] { product(0); }), 1);
  EXPECT_EQ(products_->alignment_run, 16u);
  EXPECT_EQ(asked_by([&] { product(4); }), 0);
  EXPECT_EQ(products_->alignment_run, 16u);
  EXPECT_EQ(asked_by([&] { product(1); }), 1);
  EXPECT_EQ(products_->alignment_run, 4u);
  // In the scratch that was planned.
  EXPECT_EQ(products_->workspace_allowed, 4096u);
  EXPECT_EQ(asked_by([&] { product(3); }), 0);
  EXPECT_EQ(products_->alignment_run, 4u);
  EXPECT_EQ(asked_by([&] { product(8); }), 0);
  EXPECT_EQ(products_->alignment_run, 16u);
}

TEST_F(CudaProductTest, ThreadsAskOnce) {
  matmul(matrix(21, 0), weight_).eval();
  const int asked = asked_by([&] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 50; ++i) matmul(matrix(21, t + 1), weight_).eval();
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_EQ(asked, 1);
}

TEST_F(CudaProductTest, NoAlgorithmForUnalignedOperandsIsOneClearError) {
  matmul(matrix(22, 0), weight_).eval();
  products_->least_alignment = 16;
  const Tensor failing = matmul(matrix(22, 1), weight_);
  EXPECT_THAT(message_of<DeviceError>([&] { failing.eval(); }),
              HasSubstr("no algorithm for 1 times [22, 32] and [32, 64], f32 at multiples of 4"));
  matmul(matrix(22, 4), weight_).eval();
  products_->least_alignment = 0;
  EXPECT_EQ(asked_by([&] { matmul(matrix(22, 1), weight_).eval(); }), 1);
}

// As the layers of a model are, and its plans for other lengths.
TEST_F(CudaProductTest, EqualProductsAreAskedForOnce) {
  const Tensor x = matrix(23, 0);
  EXPECT_EQ(asked_by([&] {
              Tensor y = x;
              for (int i = 0; i < 6; ++i)
                y = matmul(cumsum(matmul(y, weight_), 0), transpose(weight_));
              y.eval();
            }),
            2);
  EXPECT_EQ(asked_by([&] { exp(cumsum(matmul(x, weight_), 1)).eval(); }), 0);
  EXPECT_EQ(asked_by([&] { matmul(matrix(24, 0), weight_).eval(); }), 1);
}

// It tries other algorithms for the same product.
TEST_F(CudaProductTest, AnotherTuningAsksAgain) {
  const auto product = [&] { matmul(matrix(25, 0), weight_).eval(); };
  EXPECT_EQ(asked_by(product), 1);
  auto tuning = std::make_unique<backend::Tuning>();
  tuning->set(backend::Tunable::kGpuProductAlgorithm, {DType::kF32, {25, 64, 32}, /*form=*/4}, 1);
  backend::install_tuning(device_, std::move(tuning));
  EXPECT_EQ(asked_by(product), 1);
  EXPECT_EQ(asked_by(product), 0);
  backend::install_tuning(device_, std::make_unique<backend::Tuning>());
  EXPECT_EQ(asked_by(product), 0);
}

// A kernel of ours runs, and the library is asked when that cannot.
TEST_F(CudaProductTest, ProductsOfFewRowsDoNotAsk) {
  const Tensor column_major = transpose(zeros({64, 32}, DType::kF32, device_).eval());
  const int run = products_->run;
  EXPECT_EQ(asked_by([&] { matmul(matrix(2, 0), column_major).eval(); }), 0);
  EXPECT_EQ(products_->run, run);
  EXPECT_EQ(asked_by([&] { matmul(matrix(2, 1), column_major).eval(); }), 1);
  EXPECT_EQ(products_->workspace_allowed, 0u);
  EXPECT_EQ(products_->run, run + 1);
  EXPECT_EQ(asked_by([&] { matmul(matrix(2, 2), column_major).eval(); }), 0);
}

}  // namespace
}  // namespace metal_candle
