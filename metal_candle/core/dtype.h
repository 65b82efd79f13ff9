// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Element types of a tensor, their names, sizes and promotion rules.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace metal_candle {

/// The element type of a tensor. Arithmetic on f16 and bf16 is rounded once per operation, with f32
/// accumulation inside reductions and matrix products.
enum class DType : std::uint8_t { kBool, kU8, kI8, kI32, kU32, kI64, kF16, kBF16, kF32 };

inline constexpr int kNumDTypes = 9;

/// IEEE 754 binary16, stored as its bits.
struct Float16 {
  std::uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value);
  explicit operator float() const;
  friend bool operator==(Float16, Float16) = default;
};

/// The upper half of an IEEE 754 binary32 (bfloat16), stored as its bits.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    // Round to nearest even; a NaN stays a (quiet) NaN instead of rounding to infinity.
    bits = (u & 0x7fffffffu) > 0x7f800000u
               ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
               : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  friend bool operator==(BFloat16, BFloat16) = default;
};

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kBool:
    case DType::kU8:
    case DType::kI8:
      return 1;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kI32:
    case DType::kU32:
    case DType::kF32:
      return 4;
    case DType::kI64:
      return 8;
  }
  return 0;
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF32;
}
constexpr bool is_integer(DType dtype) { return dtype != DType::kBool && !is_floating(dtype); }
constexpr bool is_unsigned(DType dtype) { return dtype == DType::kU8 || dtype == DType::kU32; }

/// "f32", "bf16", "i64", "bool", ...
[[nodiscard]] std::string_view name(DType dtype);

/// The inverse of name(); also accepts the NumPy, PyTorch and safetensors spellings ("float32",
/// "F32"). Throws DTypeError for anything else.
[[nodiscard]] DType parse_dtype(std::string_view text);

/// The type in which two operands meet. Integers promote as in NumPy (i8 with u8 gives i32, u32
/// with a signed type gives i64); an integer meeting a floating type takes the floating type; f16
/// meeting bf16 gives f32.
[[nodiscard]] DType promote(DType a, DType b);

/// Maps a C++ element type to its DType: `dtype_of<float>() == DType::kF32`.
template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, bool>)
    return DType::kBool;
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return DType::kU8;
  else if constexpr (std::is_same_v<T, std::int8_t>)
    return DType::kI8;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return DType::kI32;
  else if constexpr (std::is_same_v<T, std::uint32_t>)
    return DType::kU32;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return DType::kI64;
  else if constexpr (std::is_same_v<T, Float16>)
    return DType::kF16;
  else if constexpr (std::is_same_v<T, BFloat16>)
    return DType::kBF16;
  else if constexpr (std::is_same_v<T, float>)
    return DType::kF32;
  else
    static_assert(sizeof(T) == 0, "no DType for this element type");
}

/// Calls fn(T{}) with T the C++ element type of dtype.
template <typename Fn>
decltype(auto) dispatch_dtype(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kBool:
      return fn(bool{});
    case DType::kU8:
      return fn(std::uint8_t{});
    case DType::kI8:
      return fn(std::int8_t{});
    case DType::kI32:
      return fn(std::int32_t{});
    case DType::kU32:
      return fn(std::uint32_t{});
    case DType::kI64:
      return fn(std::int64_t{});
    case DType::kF16:
      return fn(Float16{});
    case DType::kBF16:
      return fn(BFloat16{});
    case DType::kF32:
      break;
  }
  return fn(float{});
}

}  // namespace metal_candle
