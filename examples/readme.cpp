// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The README's example: linear regression by gradient descent.

// [readme]
#include <cstdio>

#include "metal_candle/metal_candle.h"

namespace mc = metal_candle;

int main() {
  const mc::Tensor keys = mc::random::split(mc::random::key(0), 2);
  const mc::Tensor x = mc::random::normal({64, 8}, keys[0]);
  const mc::Tensor y = mc::matmul(x, mc::random::normal({8, 4}, keys[1]));
  mc::eval(x, y);  // Until here nothing was computed.
  const auto step = mc::value_and_grad(
      [&](const mc::Tensor& w) { return mc::mean(mc::square(mc::matmul(x, w) - y)); });
  mc::Tensor w = mc::zeros({8, 4});
  for (int i = 1; i <= 100; ++i) {
    const auto [loss, gradient] = step(w);
    w = w - 0.5f * gradient;
    mc::eval(loss, w);  // One graph a step; its plan is made once and then found again.
    if (i % 20 == 0) std::printf("step %d: loss %.6f\n", i, loss.item<float>());
  }
}
// [/readme]
