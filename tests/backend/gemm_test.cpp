// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The single-threaded products on every instruction set that this processor has, against products
// in double: elsewhere only the best of them runs.
#include "metal_candle/backend/cpu/gemm.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "metal_candle/backend/cpu/bf16_gemm.h"
#include "metal_candle/backend/cpu/bf16_small_gemm.h"
#include "metal_candle/backend/cpu/small_gemm.h"

namespace metal_candle::backend::cpu {
namespace {

// A random matrix, its values as they are after rounding to `dtype`.
struct Random {
  Random(std::int64_t rows, std::int64_t columns, DType dtype, bool transposed, unsigned seed)
      : bytes(static_cast<std::size_t>(rows * columns) * size_of(dtype)),
        values(static_cast<std::size_t>(rows * columns)),
        matrix{bytes.data(), dtype, transposed ? 1 : columns, transposed ? rows : 1} {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        void* const to = const_cast<void*>(matrix.block(i, j).data);
        values[static_cast<std::size_t>(i * columns + j)] = put(normal(generator), dtype, to);
      }
    }
  }
  Random(const Random&) = delete;

  static double put(float value, DType dtype, void* to) {
    if (dtype == DType::kBF16)
      return static_cast<float>(*static_cast<BFloat16*>(to) = BFloat16(value));
    if (dtype == DType::kF16)
      return static_cast<float>(*static_cast<Float16*>(to) = Float16(value));
    return *static_cast<float*>(to) = value;
  }

  std::vector<char> bytes;  // Exactly the elements, so that a sanitizer sees what is read beyond.
  std::vector<double> values;
  Matrix matrix;
};

using Function = void (*)(const Matrix&, const Matrix&, std::int64_t, std::int64_t, std::int64_t,
                          float*, std::int64_t, bool);

void check(Function function, DType left, DType right, bool ta, bool tb, std::int64_t m,
           std::int64_t n, std::int64_t k) {
  const Random a(m, k, left, ta, 1), b(k, n, right, tb, 2);
  const std::int64_t ldc = n + 3;
  constexpr float kBefore = 0.5f;
  for (const bool accumulate : {false, true}) {
    std::vector<float> c(static_cast<std::size_t>(m * ldc), kBefore);
    function(a.matrix, b.matrix, m, n, k, c.data(), ldc, accumulate);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < ldc; ++j) {
        double expected = accumulate || j >= n ? kBefore : 0, size = 1;
        for (std::int64_t p = 0; p < k && j < n; ++p) {
          const double product = a.values[static_cast<std::size_t>(i * k + p)] *
                                 b.values[static_cast<std::size_t>(p * n + j)];
          expected += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(c[static_cast<std::size_t>(i * ldc + j)], expected, 1e-6 * size)
            << m << 'x' << k << 'x' << n << ' ' << name(left) << ' ' << name(right)
            << (ta ? " a transposed" : "") << (tb ? " b transposed" : "") << " at " << i << ", "
            << j;
      }
    }
  }
}

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

class GemmTest : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
};

TEST_P(GemmTest, FewRows) {
  for (const DType left : kDTypes) {
    for (const DType right : kDTypes) {
      for (std::int64_t m = 1; m <= kSmallGemmRows; ++m) {
        for (const std::int64_t n : {1, 9, 31, 77, 150}) {
          for (const std::int64_t k : {64, 65, 71, 128}) {
            check(small_gemm, left, right, m % 2 == 0, false, m, n, k);
            check(small_gemm, left, right, m % 2 == 0, true, m, n, k);
          }
        }
      }
    }
  }
}

TEST_P(GemmTest, ManyRows) {
  for (const DType left : kDTypes) {
    for (const DType right : kDTypes) {
      for (const bool ta : {false, true}) {
        for (const bool tb : {false, true}) {
          check(gemm_block, left, right, ta, tb, 13, 70, 33);
          check(gemm_block, left, right, ta, tb, 27, 300, 290);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, GemmTest, testing::ValuesIn([] {
                           std::vector<std::int64_t> targets;
                           std::int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
                           for (; all != 0; all &= all - 1) targets.push_back(all & -all);
                           return targets;
                         }()),
                         [](const auto& target) {
                           return std::string(hwy::TargetName(target.param));
                         });

TEST(Bf16SmallGemm, AllShapes) {
  for (std::int64_t m = 1; m <= kSmallGemmRows; ++m) {
    for (const std::int64_t n : {32, 33, 64, 65, 77, 150, 700}) {
      for (const std::int64_t k : {1, 2, 9, 64, 65, 71, 128, 301}) {
        for (const bool tb : {false, true}) {
          const Matrix b{nullptr, DType::kBF16, tb ? 1 : n, tb ? k : 1};
          if (!takes_bf16_small_gemm(b, m, 65)) GTEST_SKIP() << "no such instruction here";
          check(bf16_small_gemm, DType::kBF16, DType::kBF16, false, tb, m, n, k);
          check(bf16_small_gemm, DType::kBF16, DType::kBF16, true, tb, m, n, k);
        }
      }
    }
  }
}

TEST(Bf16Gemm, AllShapes) {
  constexpr Function gemm = [](const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n,
                               std::int64_t k, float* c, std::int64_t ldc, bool accumulate) {
    bf16_gemm(a, b, m, n, k, c, ldc, accumulate, a.data);  // As if a were the next b.
  };
  const auto check_all = [](std::int64_t m, std::int64_t n, std::int64_t k) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        check(gemm, DType::kBF16, DType::kBF16, ta, tb, m, n, k);
      }
    }
  };
  const Matrix any{nullptr, DType::kBF16, 1, 1};
  if (!takes_bf16_gemm(any, any)) GTEST_SKIP() << "no such instruction here";
  for (const std::int64_t m : {1, 2, 9, 14, 15, 31, 61}) {
    for (const std::int64_t n : {1, 15, 16, 17, 33, 70, 131}) {
      for (const std::int64_t k : {1, 2, 31, 33, 64, 95}) check_all(m, n, k);
    }
  }
  check_all(5, 40, 1025);  // More than a slice of k,
  check_all(33, 30, 2050);
  check_all(3, 300, 70);  // and more columns than are packed at once.
  check_all(300, 3, 70);
  check_all(290, 270, 40);
}

}  // namespace
}  // namespace metal_candle::backend::cpu
