// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/core/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

constexpr DType kAll[] = {DType::kBool, DType::kU8,  DType::kI8,   DType::kI32, DType::kU32,
                          DType::kI64,  DType::kF16, DType::kBF16, DType::kF32};

TEST(DTypeTest, NamesGoThereAndBack) {
  for (const DType dtype : kAll) EXPECT_EQ(parse_dtype(name(dtype)), dtype);
  EXPECT_EQ(name(DType::kBF16), "bf16");
  EXPECT_EQ(parse_dtype("float32"), DType::kF32);
  EXPECT_EQ(parse_dtype("F32"), DType::kF32);
  EXPECT_EQ(parse_dtype("BF16"), DType::kBF16);
  EXPECT_EQ(parse_dtype("uint8"), DType::kU8);
  EXPECT_EQ(parse_dtype("BOOL"), DType::kBool);
  for (const char* text : {"", "f64", "F8_E4M3", " f32"}) {
    EXPECT_THROW((void)parse_dtype(text), DTypeError) << text;
  }
}

TEST(DTypeTest, SizesMatchTheirTypes) {
  for (const DType dtype : kAll) {
    dispatch_dtype(dtype, [&](auto zero) {
      EXPECT_EQ(sizeof(zero), size_of(dtype));
      EXPECT_EQ(dtype_of<decltype(zero)>(), dtype);
    });
  }
}

// numpy.promote_types() of NumPy 2.4 for bool and integers, with int16, which this library lacks,
// read as int32; for floating types, what the header says.
TEST(DTypeTest, PromotesAsNumPyDoes) {
  constexpr DType b = DType::kBool, u8 = DType::kU8, i8 = DType::kI8, i32 = DType::kI32,
                  u32 = DType::kU32, i64 = DType::kI64, f16 = DType::kF16, bf = DType::kBF16,
                  f32 = DType::kF32;
  constexpr DType kExpected[kNumDTypes][kNumDTypes] = {
      {b, u8, i8, i32, u32, i64, f16, bf, f32},      {u8, u8, i32, i32, u32, i64, f16, bf, f32},
      {i8, i32, i8, i32, i64, i64, f16, bf, f32},    {i32, i32, i32, i32, i64, i64, f16, bf, f32},
      {u32, u32, i64, i64, u32, i64, f16, bf, f32},  {i64, i64, i64, i64, i64, i64, f16, bf, f32},
      {f16, f16, f16, f16, f16, f16, f16, f32, f32}, {bf, bf, bf, bf, bf, bf, f32, bf, f32},
      {f32, f32, f32, f32, f32, f32, f32, f32, f32},
  };
  for (int x = 0; x < kNumDTypes; ++x) {
    for (int y = 0; y < kNumDTypes; ++y) {
      EXPECT_EQ(promote(kAll[x], kAll[y]), kExpected[x][y])
          << name(kAll[x]) << " with " << name(kAll[y]);
    }
  }
}

// The value of 16 bits from the definition of the format.
double decode(unsigned bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = static_cast<int>(bits) & ((1 << fraction_bits) - 1);
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

template <typename Half>
void check_every_pattern(int exponent_bits, int fraction_bits) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    Half half;
    half.bits = static_cast<std::uint16_t>(bits);
    const auto value = static_cast<float>(half);
    const double expected = decode(bits, exponent_bits, fraction_bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(Half(value)))) << bits;
      continue;
    }
    ASSERT_EQ(std::bit_cast<std::uint64_t>(static_cast<double>(value)),
              std::bit_cast<std::uint64_t>(expected))
        << bits;
    ASSERT_EQ(Half(value).bits, bits);
  }
}

TEST(DTypeTest, EveryHalfConvertsExactlyAndBack) {
  check_every_pattern<Float16>(5, 10);
  check_every_pattern<BFloat16>(8, 7);
}

// Between each two neighbours: below the middle goes down, above it up, the middle to even.
template <typename Half>
void check_rounding(unsigned infinity_bits) {
  for (unsigned bits = 0; bits < infinity_bits; ++bits) {
    Half low, high;
    low.bits = static_cast<std::uint16_t>(bits);
    high.bits = static_cast<std::uint16_t>(bits + 1);
    const double below = static_cast<double>(static_cast<float>(low));
    // The value that would follow the largest finite one decides what becomes infinity.
    Half previous;
    previous.bits = static_cast<std::uint16_t>(bits - 1);
    const double above = bits + 1 == infinity_bits
                             ? 2 * below - static_cast<double>(static_cast<float>(previous))
                             : static_cast<double>(static_cast<float>(high));
    const auto middle = static_cast<float>((below + above) / 2);
    const unsigned even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(Half(middle).bits, even) << bits;
    ASSERT_EQ(Half(std::nextafter(middle, 0.0f)).bits, bits) << bits;
    ASSERT_EQ(Half(std::nextafter(middle, INFINITY)).bits, bits + 1) << bits;
    ASSERT_EQ(Half(-middle).bits, even | 0x8000u) << bits;
  }
}

TEST(DTypeTest, HalvesRoundToNearestEven) {
  check_rounding<Float16>(0x7c00);
  check_rounding<BFloat16>(0x7f80);
  EXPECT_EQ(Float16(std::numeric_limits<float>::denorm_min()).bits, 0);
  EXPECT_EQ(Float16(-1e30f).bits, 0xfc00);
  EXPECT_EQ(BFloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
}

}  // namespace
}  // namespace metal_candle
