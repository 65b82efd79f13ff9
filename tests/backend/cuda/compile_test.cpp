// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels that are compiled beside the work, over a driver and a compiler that do nothing
// (tests/cuda_sim).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "metal_candle/backend/cuda/cuda_device.h"
#include "metal_candle/backend/registry.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/backend/cuda/cuda_sim_test.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using backend::cuda::CudaDevice;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

class CudaCompileTest : public testing::CudaSimTest {
 protected:
  void SetUp() override {
    auto* const compiler = find<decltype(metal_candle_cuda_sim_compiler)>(
        "libnvrtc.so.13", "metal_candle_cuda_sim_compiler");
    launches_ = find<decltype(metal_candle_cuda_sim_launches)>("libcuda.so.1",
                                                               "metal_candle_cuda_sim_launches");
    if (compiler == nullptr || launches_ == nullptr) GTEST_SKIP() << "this is the driver of a GPU";
    compiler_ = &compiler();
    x_ = zeros({512}, DType::kF32, device_).eval();
    y_ = zeros({512}, DType::kF32, device_).eval();
    finish();
  }
  void TearDown() override {
    if (compiler_ == nullptr) return;
    compiler_->held = false;
    compiler_->to_fail = 0;
    compiler_->milliseconds = 0;
    finish();
  }

  std::uint64_t finish() const { return backend::backend_for(device_).finish_compiling(); }
  void wait_until_begun(int count) const {
    while (compiler_->begun < count) std::this_thread::yield();
  }
  /// Of kernels with this in their names, by fn.
  template <typename Fn>
  [[nodiscard]] int launched(const char* part_of_name, Fn&& fn) const {
    const int before = launches_(part_of_name);
    fn();
    return launches_(part_of_name) - before;
  }

  cuda_sim::Compiler* compiler_ = nullptr;
  decltype(&metal_candle_cuda_sim_launches) launches_ = nullptr;
  Tensor x_, y_;
};

TEST_F(CudaCompileTest, FirstRunsAreInterpreted) {
  const auto run = [&] { cosh(x_).eval(); };
  compiler_->held = true;
  EXPECT_EQ(launched("element_program", run), 1);
  EXPECT_EQ(launched("cosh_f32", run), 0);
  EXPECT_EQ(launched("cosh_f32", run), 0);
  compiler_->held = false;
  finish();
  EXPECT_EQ(launched("cosh_f32", [&] { EXPECT_EQ(launched("element_program", run), 0); }), 1);
}

TEST_F(CudaCompileTest, IntegersWaitForTheCompiler) {
  const Tensor n = zeros({512}, DType::kI32, device_).eval();
  const int before = compiler_->compiled;
  EXPECT_EQ(launched("element_program", [&] { abs(n).eval(); }), 0);
  EXPECT_EQ(compiler_->compiled, before + 1);
}

TEST_F(CudaCompileTest, WhatDoesNotCompileIsToldToWhoNeedsItNext) {
  compiler_->held = true;
  compiler_->to_fail = 1;
  sinh(x_).eval();
  compiler_->held = false;
  finish();
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(message_of<DeviceError>([&] { sinh(x_).eval(); }),
                AllOf(HasSubstr("sinh_f32"), HasSubstr("a mistake in it")));
  }
  tan(x_).eval();
  finish();
  EXPECT_EQ(launched("tan_f32", [&] { tan(x_).eval(); }), 1);
}

TEST_F(CudaCompileTest, DispatchesAreJoinedOnceThatIsCompiled) {
  const auto run = [&] { eval({asin(x_), asin(y_)}); };
  run();
  finish();
  compiler_->held = true;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(launched("_merged", [&] { EXPECT_EQ(launched("asin_f32", run), 2); }), 0);
  }
  compiler_->held = false;
  finish();
  EXPECT_EQ(launched("_merged", run), 1);
}

TEST_F(CudaCompileTest, ManyThreadsWhileKernelsComeOneByOne) {
  compiler_->milliseconds = 2;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 40; ++i) {
        const Tensor z = zeros({512}, DType::kF16, device_);
        eval({sin(z), cos(z), sqrt(z), square(z), exp(z), log(z)});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(CudaCompileTest, NobodyWaitsLongForAProcessToExit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        compiler_->milliseconds = 100;
        eval({sin(x_), cos(x_), tan(x_), asin(x_), acos(x_), atan(x_), sinh(x_), cosh(x_)});
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

// ---- The device by itself.
constexpr const char* kText = "// A kernel's text.\n";

TEST_F(CudaCompileTest, ATextIsCompiledOnce) {
  CudaDevice gpu(0);
  compiler_->held = true;
  const int before = compiler_->compiled;
  const auto one = gpu.compile_later("one", kText), other = gpu.compile_later("other", "//\n");
  EXPECT_EQ(gpu.compile_later("one", kText), one);
  EXPECT_EQ(one->get(), nullptr);
  compiler_->held = false;
  EXPECT_EQ(gpu.finish_compiling(), 2u);
  EXPECT_EQ(compiler_->compiled, before + 2);
  EXPECT_NE(one->get(), nullptr);
  EXPECT_NE(one->get(), other->get());
  EXPECT_EQ(&gpu.compile("one", kText), one->get());
}

TEST_F(CudaCompileTest, WhatIsOnDiskIsThereAtOnce) {
  {
    CudaDevice gpu(0);
    static_cast<void>(gpu.compile_later("one", kText));
    gpu.finish_compiling();
  }
  CudaDevice gpu(0);
  const int before = compiler_->begun;
  EXPECT_NE(gpu.compile_later("one", kText)->get(), nullptr);
  EXPECT_EQ(compiler_->begun, before);
}

TEST_F(CudaCompileTest, AFormForManyComesLater) {
  CudaDevice gpu(0);
  const backend::gpu::Function& one = gpu.compile("one", kText);
  compiler_->held = true;
  EXPECT_EQ(one.merged(), nullptr);
  compiler_->held = false;
  gpu.finish_compiling();
  EXPECT_NE(one.merged(), nullptr);
}

TEST_F(CudaCompileTest, WhoStopsWaitsForOneKernel) {
  CudaDevice gpu(0);
  compiler_->milliseconds = 20;
  const int before = compiler_->begun;
  std::vector<std::shared_ptr<const backend::gpu::PendingFunction>> all;
  for (int i = 0; i < 50; ++i) {
    const std::string name = "kernel_" + std::to_string(i);
    all.push_back(gpu.compile_later(name, "// " + name + "\n"));
  }
  wait_until_begun(before + 1);
  gpu.stop_compiling();
  EXPECT_LE(compiler_->begun, before + 3);
  EXPECT_NE(all.front()->get(), nullptr);
  EXPECT_EQ(all.back()->get(), nullptr);
  gpu.finish_compiling();
}

TEST_F(CudaCompileTest, AVariableMakesItWait) {
  setenv("METAL_CANDLE_COMPILE", "now", 1);
  CudaDevice gpu(0);
  EXPECT_NE(gpu.compile_later("one", kText)->get(), nullptr);
  setenv("METAL_CANDLE_COMPILE", "never", 1);
  EXPECT_THAT(message_of<DeviceError>([] { CudaDevice other(0); }), HasSubstr("never"));
  unsetenv("METAL_CANDLE_COMPILE");
}

}  // namespace
}  // namespace metal_candle
