// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Evaluates and differentiates something small, so that the installed headers compile and the
// kernels, oneDNN's among them, link and run.
#include <metal_candle/metal_candle.h>

#include <cstdio>
#include <vector>

namespace mc = metal_candle;

int main() {
  const mc::Tensor a({1.0f, 2.0f, 3.0f, 4.0f}, {2, 2});
  const std::vector<float> product = mc::matmul(a, a).to_vector<float>();
  const auto gradient = mc::grad([](const mc::Tensor& x) { return mc::sum(x * x); })(a);
  const bool good = product == std::vector<float>{7, 10, 15, 22} &&
                    gradient.to_vector<float>() == std::vector<float>{2, 4, 6, 8};
  std::puts(good ? "as expected" : "wrong numbers");
  return good ? 0 : 1;
}
