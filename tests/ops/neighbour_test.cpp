// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// nextafter() and signbit() against the bits of numbers: all there are in half precision.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::testing {
namespace {

// The bits of the neighbour, by counting: a number's magnitude is an integer of its bits. `target`
// has its value.
template <typename Bits>
Bits next_bits(Bits x, bool up) {
  constexpr Bits kSign = static_cast<Bits>(Bits{1} << (8 * sizeof(Bits) - 1));
  const auto magnitude = static_cast<Bits>(x & ~kSign);
  if (magnitude == 0) return up ? Bits{1} : static_cast<Bits>(kSign | 1);
  const bool outward = ((x & kSign) == 0) == up;
  return static_cast<Bits>(outward ? x + 1 : x - 1);
}

template <typename Half>
Half expected_next(Half x, float target) {
  const auto value = static_cast<float>(x);
  if (std::isnan(value) || std::isnan(target)) return Half(NAN);
  if (value == target) return Half(target);
  return std::bit_cast<Half>(next_bits(std::bit_cast<std::uint16_t>(x), target > value));
}

template <typename Half>
void check_all_halves() {
  std::vector<Half> all;
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits)
    all.push_back(std::bit_cast<Half>(static_cast<std::uint16_t>(bits)));
  const Tensor x(all, {static_cast<std::int64_t>(all.size())});
  for (const float target : {INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, -2.5f, NAN}) {
    const auto next = nextafter(x, Tensor({Half(target)})).template to_vector<Half>();
    int failures = 0;
    for (std::size_t i = 0; i < all.size() && failures < 5; ++i) {
      const Half expected = expected_next(all[i], target);
      if (std::isnan(static_cast<float>(expected)) && std::isnan(static_cast<float>(next[i])))
        continue;
      if (next[i] == expected) continue;
      ++failures;
      ADD_FAILURE() << std::hex << all[i].bits << " towards " << target << ": " << next[i].bits
                    << " for " << expected.bits;
    }
  }
  const auto negative = signbit(x).to_vector<bool>();
  for (std::size_t i = 0; i < all.size(); ++i) {
    // A GPU does not keep the sign of a NaN.
    if (std::isnan(static_cast<float>(all[i]))) continue;
    ASSERT_EQ(negative[i], all[i].bits >= 0x8000u) << i;
  }
}

class NeighbourTest : public ::testing::TestWithParam<ExecutionMode> {};

TEST_P(NeighbourTest, OfEveryHalf) {
  const ScopedExecutionMode mode(GetParam());
  check_all_halves<Float16>();
  check_all_halves<BFloat16>();
}

TEST_P(NeighbourTest, OfSingles) {
  const ScopedExecutionMode mode(GetParam());
  std::vector<float> x, target;
  const auto add = [&](float a, float b) {
    x.push_back(a);
    target.push_back(b);
  };
  std::uint32_t bits = 12345;
  const auto any = [&bits] { return std::bit_cast<float>(bits = bits * 1664525u + 1013904223u); };
  for (int i = 0; i < 100000; ++i) {
    const float a = any();
    add(a, any());
  }
  // Around each power of two, the subnormal ones and the end included.
  for (std::uint32_t exponent = 0; exponent <= 255; ++exponent) {
    for (std::uint32_t j = 0; j < 7; ++j) {
      const std::uint32_t near = (exponent << 23) + j - 3;
      for (const float b : {INFINITY, -INFINITY, 0.0f})
        for (const std::uint32_t sign : {0u, 0x80000000u})
          add(std::bit_cast<float>(near ^ sign), b);
    }
  }
  for (std::uint32_t bit = 0; bit < 23; ++bit) {
    const auto subnormal = std::bit_cast<float>(std::uint32_t{1} << bit);
    add(subnormal, 1);
    add(subnormal, -1);
  }
  const auto count = static_cast<std::int64_t>(x.size());
  const auto next = nextafter(Tensor(x, {count}), Tensor(target, {count})).to_vector<float>();
  int failures = 0;
  for (std::size_t i = 0; i < x.size() && failures < 5; ++i) {
    const float expected = std::nextafterf(x[i], target[i]);
    if (std::isnan(expected) && std::isnan(next[i])) continue;
    if (std::bit_cast<std::uint32_t>(expected) == std::bit_cast<std::uint32_t>(next[i])) continue;
    ++failures;
    ADD_FAILURE() << std::hexfloat << x[i] << " towards " << target[i] << ": " << next[i] << " for "
                  << expected;
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, NeighbourTest,
                         ::testing::Values(ExecutionMode::kEager, ExecutionMode::kAsync),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(Neighbours, PromoteAndBroadcastLikeOtherFunctions) {
  const Tensor x({1, 2, 3});
  EXPECT_EQ(nextafter(x, 0).dtype(), DType::kF32);
  EXPECT_EQ(nextafter(1.0, Tensor({BFloat16(2)})).dtype(), DType::kBF16);
  EXPECT_EQ(nextafter(ones({2, 1}), x).shape(), (Shape{2, 3}));
  EXPECT_EQ(signbit(x).dtype(), DType::kBool);
  EXPECT_EQ(signbit(Tensor({-1, 0, 1})).to_vector<bool>(), (std::vector<bool>{true, false, false}));
  EXPECT_THROW((void)nextafter(ones({2}), ones({3})), ShapeError);
  EXPECT_TRUE(positive(x).same_node(x));
  EXPECT_THROW((void)positive(x < 2), DTypeError);
  const auto sum_of_next = [](const Tensor& y) { return sum(nextafter(y, 10.0)); };
  EXPECT_EQ(grad(sum_of_next)(Tensor({1.0f, 2.0f})).to_vector<float>(), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace metal_candle::testing
