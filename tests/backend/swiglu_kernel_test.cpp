// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The kernel of SwiGLU's gradients against derivatives in double.
#include <gtest/gtest.h>

#include "kernel_harness.h"

namespace metal_candle::backend::cpu::testing {
namespace {

TEST(SwiGluBackwardKernel, AllDTypes) {
  for (const DType dtype : kFloatingDTypes) {
    for (const Shape& shape : {Shape{3, 64}, Shape{2, 3, 5}, Shape{9001}, Shape{}, Shape{0, 8}}) {
      const Operand gate = Operand::random(shape, dtype, 1, 4);
      const Operand up = Operand::random(shape, dtype, 2), dy = Operand::random(shape, dtype, 3);
      std::vector<double> dgate, dup;
      for (std::int64_t i = 0; i < gate.size(); ++i) {
        const double x = gate.get(i), s = 1 / (1 + std::exp(-x));
        dgate.push_back(dy.get(i) * up.get(i) * (s + x * s * (1 - s)));
        dup.push_back(dy.get(i) * x * s);
      }
      const std::vector<TensorSpec> specs(2, {shape, dtype});
      const std::vector<Operand> inputs = {gate, up, dy};
      const auto out = run_kernel(make_swiglu_backward, op::SwiGluBackward{}, inputs, specs);
      EXPECT_TRUE(near(out[0], dgate, 2e-6)) << to_string(shape);
      EXPECT_TRUE(near(out[1], dup, 2e-6)) << to_string(shape);
      const auto second = run_kernel(make_swiglu_backward, op::SwiGluBackward{}, inputs, specs,
                                     {.needed = {false, true}});
      EXPECT_EQ(second[1].values(), out[1].values());
      const auto over =
          run_kernel(make_swiglu_backward, op::SwiGluBackward{}, inputs, specs, {.in_place = 0});
      EXPECT_EQ(over[0].values(), out[0].values());
      EXPECT_EQ(over[1].values(), out[1].values());
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
