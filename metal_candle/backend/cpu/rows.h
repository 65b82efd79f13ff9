// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Row operations on f32 tiles, shared by attention and the fused cross entropy.
#pragma once

#include <cstdint>

#include "metal_candle/core/dtype.h"

namespace metal_candle::backend::cpu {

/// to[i] = scale * from[i], `from` being contiguous f32, bf16 or f16.
void widen_row(const void* from, DType dtype, std::int64_t count, float scale, float* to);

/// to[i] = scale * from[i], rounded to `dtype`.
void narrow_row(const float* from, std::int64_t count, float scale, DType dtype, void* to);

/// The running maximum and sum of exponentials of a row that comes in pieces.
struct RunningSoftmax {
  float max;  // -infinity before anything was seen.
  float sum = 0;
};

/// Takes in the next piece: scores become exp(score - new maximum). Returns what sums made with the
/// earlier maximum have to be multiplied by.
float softmax_piece(float* scores, std::int64_t count, RunningSoftmax& running);

/// row[i] *= factor.
void scale_row(float* row, std::int64_t count, float factor);

/// scores[i] = exp(scores[i] - logsumexp), all 0 where logsumexp is -infinity.
void probabilities(float* scores, std::int64_t count, float logsumexp);

/// d[i] = p[i] * (d[i] - delta): the gradient of scores from that of probabilities p.
void score_gradient(const float* p, std::int64_t count, float delta, float* d);

/// The sum of a[i] * b[i] for two contiguous rows of one floating dtype.
[[nodiscard]] float dot_row(const void* a, const void* b, DType dtype, std::int64_t count);

}  // namespace metal_candle::backend::cpu
