// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What neural networks are made of, each as one operation with a kernel of its own. f16 and bf16
// operands are computed in f32 and rounded once. Integers become f32. Activations are in
// elementwise.h, linear layers in linalg.h.
#pragma once

#include <cstdint>
#include <optional>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

[[nodiscard]] Tensor softmax(const Tensor& x, int axis = -1);
[[nodiscard]] Tensor log_softmax(const Tensor& x, int axis = -1);

/// x / sqrt(mean(x^2) + eps) * weight over the last axis. weight [d] is cast to the dtype of x;
/// none if empty.
[[nodiscard]] Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, float eps = 1e-5f);
/// (x - mean) / sqrt(variance + eps) * weight + bias over the last axis. weight and bias [d] are
/// cast to the dtype of x; none if empty.
[[nodiscard]] Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                                float eps = 1e-5f);

/// silu(gate) * up. Shapes broadcast.
[[nodiscard]] Tensor swiglu(const Tensor& gate, const Tensor& up);

/// Rotary position embedding (Su et al., "RoFormer", 2021).
struct RopeOptions {
  int dims = 0;              // How many of the last axis are rotated; 0 for all. Even.
  bool interleaved = false;  // Pairs are (2i, 2i + 1) instead of (i, i + dims / 2).
  float scale = 1;           // Of positions: linear scaling by n is 1 / n.
  double base = 10000;       // Of the default frequencies.
  Tensor frequencies = {};   // f32 [dims / 2]; rope_frequencies(dims, base) if empty.
};
/// Rotates pairs in the last axis of x [..., length, d] by (offset + position) * scale *
/// frequencies[i]. offset: integer [], or [batch] with one for each element of the first axis.
[[nodiscard]] Tensor rope(const Tensor& x, const Tensor& offset, const RopeOptions& options = {});
/// The same with an offset that is made a tensor, so plans are reused when it changes.
[[nodiscard]] Tensor rope(const Tensor& x, std::int64_t offset, const RopeOptions& options = {});
/// f32 [dims / 2], evaluated: base^(-2i / dims). Hold on to it rather than have rope() make it.
[[nodiscard]] Tensor rope_frequencies(int dims, double base = 10000,
                                      Device device = default_device());

struct AttentionOptions {
  std::optional<float> scale = {};  // 1 / sqrt(d) if none.
  bool causal = false;              // Query i of lq, at position n - lq + i, sees keys up to there.
  int window = 0;                   // With causal: only the last `window` of those; 0 for all.
  // bool (true: seen) or floating (added to scores); broadcast to [b, h, lq, lk].
  Tensor mask = {};
  // Integer [] or [b]: n, how many of the lk keys exist; all if empty.
  Tensor key_length = {};
};
/// softmax(scale * q @ k^T + mask) @ v: q [b, h, lq, d], k [b, hkv, lk, d], v [b, hkv, lk, dv] ->
/// [b, h, lq, dv]. h is a multiple of hkv: each key head serves h / hkv query heads. A query that
/// sees no key gives 0. q, k and v have one floating dtype. Throws ShapeError, DTypeError.
[[nodiscard]] Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                                  const AttentionOptions& options = {});

enum class Reduction : std::uint8_t { kNone, kMean, kSum };
struct CrossEntropyOptions {
  std::int64_t ignore_index = -100;        // Targets equal to it have loss 0.
  Reduction reduction = Reduction::kMean;  // kMean: over targets that are not ignored; 0 if none.
};
/// logsumexp(logits) - logits[target]: logits [..., n], targets integer [...] -> f32 [] or, not
/// reduced, [...].
[[nodiscard]] Tensor cross_entropy(const Tensor& logits, const Tensor& targets,
                                   const CrossEntropyOptions& options = {});
/// cross_entropy(x [..., k] @ weight [k, n], targets [...]) without ever holding all logits,
/// forward or backward. x and weight have one floating dtype.
[[nodiscard]] Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight,
                                          const Tensor& targets,
                                          const CrossEntropyOptions& options = {});

}  // namespace metal_candle
