// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Names, promotion and half-precision conversion of element types.
#include "metal_candle/core/dtype.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

struct DTypeNames {
  DType dtype;
  std::string_view name;
  // NumPy's and PyTorch's, safetensors', and C's where it is in use.
  std::array<std::string_view, 3> aliases;
};

constexpr std::array<DTypeNames, kNumDTypes> kNames = {{
    {DType::kBool, "bool", {"bool_", "BOOL", "boolean"}},
    {DType::kU8, "u8", {"uint8", "U8", "byte"}},
    {DType::kI8, "i8", {"int8", "I8", "char"}},
    {DType::kI32, "i32", {"int32", "I32", "int"}},
    {DType::kU32, "u32", {"uint32", "U32", "uint"}},
    {DType::kI64, "i64", {"int64", "I64", "long"}},
    {DType::kF16, "f16", {"float16", "F16", "half"}},
    {DType::kBF16, "bf16", {"bfloat16", "BF16", "bfloat"}},
    {DType::kF32, "f32", {"float32", "F32", "float"}},
}};

}  // namespace

// Both conversions are exact in every rounding case and independent of the processor's modes.
Float16::Float16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x1ffu);  // A quiet NaN with what fits of the payload.
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;  // 65520 and above round to infinity.
  } else if (magnitude >= 0x38800000u) {
    // Normal: rebias the exponent from 127 to 15, then round the 13 dropped bits to nearest even.
    const std::uint32_t rebased = magnitude - ((127u - 15u) << 23);
    half = (rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13;
  } else if (magnitude > 0x33000000u) {
    // Subnormal: the significand in units of 2^-24, to nearest even. Above 2^-25 only, since that
    // tie goes to zero.
    const std::uint32_t shift = 126u - (magnitude >> 23);
    const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t halfway = (1u << (shift - 1)) - 1u;
    half = (significand + halfway + ((significand >> shift) & 1u)) >> shift;
  }
  bits = static_cast<std::uint16_t>(sign | half);
}

Float16::operator float() const {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {
    const std::uint32_t quiet = magnitude > 0x7c00u ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | ((magnitude & 0x3ffu) << 13));
  }
  if (magnitude >= 0x400u) {
    return std::bit_cast<float>(sign | ((magnitude << 13) + ((127u - 15u) << 23)));
  }
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
}

std::string_view name(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  return index < kNames.size() ? kNames[index].name : "unknown";
}

DType parse_dtype(std::string_view text) {
  for (const DTypeNames& entry : kNames) {
    if (text == entry.name ||
        std::find(entry.aliases.begin(), entry.aliases.end(), text) != entry.aliases.end()) {
      return entry.dtype;
    }
  }
  throw DTypeError(fmt::format(
      "'{}' is not an element type: expected bool, u8, i8, i32, u32, i64, f16, bf16 or f32", text));
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_floating(a) && is_floating(b)) return DType::kF32;  // Also f16 with bf16.
  if (is_floating(a)) return a;
  if (is_floating(b)) return b;
  if (a == DType::kBool) return b;
  if (b == DType::kBool) return a;
  if (is_unsigned(a) == is_unsigned(b)) return size_of(a) > size_of(b) ? a : b;
  const DType unsigned_type = is_unsigned(a) ? a : b;
  const DType signed_type = is_unsigned(a) ? b : a;
  if (size_of(signed_type) > size_of(unsigned_type)) return signed_type;
  // The next signed type that holds both; there is no 16-bit one here.
  return unsigned_type == DType::kU8 ? DType::kI32 : DType::kI64;
}

}  // namespace metal_candle
