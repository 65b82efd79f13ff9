// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random numbers: words of Philox turned into what is asked for, as random.h says.
#include "metal_candle/graph/ops/random.h"

#include <fmt/format.h>

#include <array>
#include <numbers>

#include "metal_candle/core/error.h"
#include "metal_candle/core/philox.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"
#include "metal_candle/graph/ops/reduce.h"
#include "metal_candle/graph/ops/sort.h"

namespace metal_candle::random {
namespace {

// Keys made by split() and fold_in() are words of streams of their own: the key with both words
// flipped by a constant, so that they have nothing in common with bits() of the same key. The
// constants are 2^32 over the golden ratio and sqrt(3) - 1, Philox's own.
constexpr std::uint32_t kSplitTweak = 0x9E3779B9u;
constexpr std::uint32_t kFoldTweak = 0xBB67AE85u;

void require_floating(const char* op, DType dtype) {
  if (!is_floating(dtype)) {
    throw DTypeError(fmt::format("{}: gives floating dtypes, not {}", op, name(dtype)));
  }
}

// u of random.h: as many bits as the dtype has in its significand.
Tensor unit(const Shape& shape, const Tensor& key, DType dtype) {
  const int significand = dtype == DType::kF16 ? 11 : dtype == DType::kBF16 ? 8 : 24;
  const Tensor integers = bits(shape, key) >> (32 - significand);
  return astype(integers, DType::kF32) * (1.0 / static_cast<double>(1 << significand));
}

// 2 * (w >> 9) + 1, an odd number below 2^24.
Tensor odd(const Shape& shape, const Tensor& key) {
  return astype(((bits(shape, key) >> 9) << 1) | 1, DType::kF32);
}

// Bounds may not make the result larger than was asked for.
Tensor require_shape(const char* op, Tensor result, const Shape& shape) {
  if (!(result.shape() == shape)) {
    throw ShapeError(fmt::format("{}: a parameter does not broadcast to {}", op, to_string(shape)));
  }
  return result;
}

bool is_scalar(const Operand& operand, double value) {
  return !operand.tensor() && operand.scalar().real == value;
}

}  // namespace

Tensor key(std::uint64_t seed, Device device) {
  const std::array<std::uint32_t, 2> words = {static_cast<std::uint32_t>(seed),
                                              static_cast<std::uint32_t>(seed >> 32)};
  return detail::make_leaf_from_host(words.data(), {Shape{2}, DType::kU32}, device);
}

Tensor key(std::uint64_t seed, std::uint32_t data, Device device) {
  const auto first_two = [](std::uint32_t low, std::uint32_t high) {
    return philox4x32({0, 0, 0, 0}, {low, high});
  };
  const auto hashed = first_two(static_cast<std::uint32_t>(seed) ^ kFoldTweak,
                                static_cast<std::uint32_t>(seed >> 32) ^ kFoldTweak);
  const auto words = first_two(hashed[0] ^ data, hashed[1] ^ data);
  return detail::make_leaf_from_host(words.data(), {Shape{2}, DType::kU32}, device);
}

Tensor split(const Tensor& key, std::int64_t count) { return bits({count, 2}, key ^ kSplitTweak); }

Tensor fold_in(const Tensor& key, const Tensor& data) {
  if (!is_integer(detail::require("fold_in", data).dtype()) || data.size() != 1) {
    throw DTypeError(fmt::format("fold_in: data must be one integer, not {}{}", name(data.dtype()),
                                 to_string(data.shape())));
  }
  // Hashed once before data comes in, so that small seeds and small data do not cancel out.
  const Tensor hashed = bits({2}, key ^ kFoldTweak);
  // Through i64 the low 32 bits are taken as they are; a cast to u32 would saturate.
  const Tensor low = astype(astype(data, DType::kI64) & std::int64_t{0xFFFFFFFF}, DType::kU32);
  return bits({2}, hashed ^ reshape(low, {}));
}

Tensor fold_in(const Tensor& key, std::uint32_t data) {
  const TensorSpec spec{Shape{}, DType::kU32};
  return fold_in(
      key, detail::make_leaf_from_host(&data, spec, detail::require("fold_in", key).device()));
}

Tensor bits(const Shape& shape, const Tensor& key) {
  return detail::make_node(op::RandomBits{}, {&key}, {shape, DType::kU32});
}

Tensor uniform(const Shape& shape, const Tensor& key, const Operand& low, const Operand& high,
               DType dtype) {
  require_floating("uniform", dtype);
  const Tensor u = unit(shape, key, dtype);
  if (is_scalar(low, 0) && is_scalar(high, 1)) return astype(u, dtype);
  const Tensor from = detail::materialize("uniform", low, DType::kF32, u.device());
  const Tensor to = detail::materialize("uniform", high, DType::kF32, u.device());
  return require_shape("uniform", astype(from + u * (to - from), dtype), shape);
}

Tensor normal(const Shape& shape, const Tensor& key, DType dtype) {
  require_floating("normal", dtype);
  const Tensor t = odd(shape, key) * 0x1p-23 - 1;
  return astype(erfinv(t) * std::numbers::sqrt2, dtype);
}

Tensor bernoulli(const Operand& p, const Shape& shape, const Tensor& key) {
  const Tensor u = unit(shape, key, DType::kF32);
  const Tensor threshold = detail::materialize("bernoulli", p, DType::kF32, u.device());
  return require_shape("bernoulli", u < threshold, shape);
}

Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, const Tensor& key,
               DType dtype) {
  const auto range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  if (low >= high || range > (std::uint64_t{1} << 31)) {
    throw ShapeError(fmt::format("randint: from {} to {} are not 1 to 2^31 integers", low, high));
  }
  if (!is_integer(dtype)) {
    throw DTypeError(fmt::format("randint: gives integers, not {}", name(dtype)));
  }
  static_cast<void>(detail::fit_scalar("randint", Scalar::from_integer(low), dtype));
  static_cast<void>(detail::fit_scalar("randint", Scalar::from_integer(high - 1), dtype));
  const Tensor wide = astype(bits(shape, key), DType::kI64);
  return astype(((wide * static_cast<std::int64_t>(range)) >> 32) + low, dtype);
}

Tensor categorical(const Tensor& logits, const Tensor& key, int axis) {
  const Tensor v = odd(detail::require("categorical", logits).shape(), key) * 0x1p-24;
  return argmax(astype(logits, DType::kF32) - log(negative(log(v))), axis);
}

Tensor draw(const Tensor& logits, const Tensor& u) {
  static_cast<void>(normalize_axis("draw", -1, detail::require("draw", logits).rank()));
  const Tensor x = detail::to_floating(logits);
  return squeeze(detail::make_node(op::Draw{}, {&x, &detail::require("draw", u)}), -1);
}

Tensor permutation(std::int64_t count, const Tensor& key) { return argsort(bits({count}, key)); }

Tensor dropout(const Tensor& x, double rate, const Tensor& key) {
  if (!(rate >= 0 && rate < 1)) {
    throw ShapeError(fmt::format("dropout: the rate {} is not in [0, 1)", rate));
  }
  Tensor wide = detail::to_floating(detail::require("dropout", x));
  if (rate == 0) return wide;
  const Tensor kept = unit(x.shape(), key, DType::kF32) >= rate;
  return where(kept, wide * (1 / (1 - rate)), 0);
}

}  // namespace metal_candle::random
