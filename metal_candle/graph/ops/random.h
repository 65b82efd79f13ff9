// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random numbers with explicit keys. A key names a stream: the same key gives the same numbers on
// every backend, in every mode, on any number of threads. Use a key for one thing; split() makes
// more of them.
//
// Everything is made from 32-bit words w of Philox4x32-10 (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011; element i as op::RandomBits says):
//   u, in [0, 1):   (w >> 8) * 2^-24 for f32, (w >> 21) * 2^-11 for f16, (w >> 24) * 2^-8 for bf16
//   v, in (0, 1):   (2 * (w >> 9) + 1) * 2^-24, f32
//   t, in (-1, 1):  (2 * (w >> 9) + 1) * 2^-23 - 1, f32
// All of these are exact, so u, v and t are the same bits everywhere. What is made from them with
// log() or erfinv() agrees as far as the backends' log() and erfinv() do.
#pragma once

#include <cstdint>

#include "metal_candle/graph/tensor.h"

namespace metal_candle::random {

/// u32 [2], evaluated: the low and the high word of seed.
[[nodiscard]] Tensor key(std::uint64_t seed, Device device = default_device());

/// fold_in(key(seed), data), evaluated: where both are known, the host computes it.
[[nodiscard]] Tensor key(std::uint64_t seed, std::uint32_t data, Device device = default_device());

/// u32 [count, 2]: keys of independent streams, as far from each other as from `key`.
[[nodiscard]] Tensor split(const Tensor& key, std::int64_t count = 2);

/// u32 [2]: the key of stream `data` (its low 32 bits) under `key`: the step of a loop, the number
/// of a layer. The tensor, integer and of one element, is the way to have a plan reused while data
/// changes; the other overload makes one.
[[nodiscard]] Tensor fold_in(const Tensor& key, const Tensor& data);
[[nodiscard]] Tensor fold_in(const Tensor& key, std::uint32_t data);

/// u32, uniform over all words.
[[nodiscard]] Tensor bits(const Shape& shape, const Tensor& key);

/// low + u * (high - low), of a floating dtype. low and high broadcast to shape. Rounding may give
/// high itself, but for the range [0, 1), which is u.
[[nodiscard]] Tensor uniform(const Shape& shape, const Tensor& key, const Operand& low = 0.0f,
                             const Operand& high = 1.0f, DType dtype = DType::kF32);

/// sqrt(2) * erfinv(t), of mean 0 and variance 1, rounded to a floating dtype. At most 5.3 from 0.
[[nodiscard]] Tensor normal(const Shape& shape, const Tensor& key, DType dtype = DType::kF32);

/// bool: true with probability p (u < p), which broadcasts to shape.
[[nodiscard]] Tensor bernoulli(const Operand& p, const Shape& shape, const Tensor& key);

/// low + (w * (high - low) >> 32): integers in [low, high). Throws ShapeError unless high - low is
/// in [1, 2^31], DTypeError unless dtype is an integer type that holds both ends.
[[nodiscard]] Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape,
                             const Tensor& key, DType dtype = DType::kI32);

/// i32, without `axis`: indices drawn with probabilities softmax(logits), by the Gumbel-max trick:
/// argmax(logits - log(-log(v))).
[[nodiscard]] Tensor categorical(const Tensor& logits, const Tensor& key, int axis = -1);

/// i32, x [..., n] -> [...]: indices drawn with probabilities softmax(logits), by inversion: the
/// first at which their running sum exceeds u, f32 [..., 1] and in [0, 1). -1 where softmax(logits)
/// is NaN. One number is drawn for a row, and logarithms are not, so this is faster than
/// categorical(). Integers become f32. Throws ShapeError for a scalar, n = 0 or a u of another
/// shape.
[[nodiscard]] Tensor draw(const Tensor& logits, const Tensor& u);

/// i32 [count]: 0 .. count - 1 shuffled: argsort of the words.
[[nodiscard]] Tensor permutation(std::int64_t count, const Tensor& key);

/// x with each element kept with probability 1 - rate (u >= rate) and then divided by it, else 0.
/// Throws ShapeError unless rate is in [0, 1).
[[nodiscard]] Tensor dropout(const Tensor& x, double rate, const Tensor& key);

}  // namespace metal_candle::random
