// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Learning-rate schedules: pure functions of the number of the update.
#pragma once

#include <cstdint>
#include <string_view>

namespace metal_candle {

/// How the learning rate goes from its peak to its final value after warm-up.
enum class Decay : std::uint8_t { kConstant, kLinear, kCosine };

/// "constant", "linear", "cosine".
[[nodiscard]] std::string_view name(Decay decay);
/// The inverse; also takes the names of mlx-lm's schedules ("linear_schedule", "cosine_decay").
/// Throws FormatError listing the names.
[[nodiscard]] Decay parse_decay(std::string_view text);

/// Updates 0 .. warmup - 1 rise linearly from initial to peak (which update `warmup` has); from
/// there to update `total` the rate decays to `final`, which it keeps. So the first of `warmup`
/// updates has the initial rate, as in mlx-lm and in transformers.
///
/// With decay_steps the decay takes so many updates instead, whatever the total, and begins where
/// mlx-lm's does: at the first update or, after a warm-up, at update warmup + 1.
struct LearningRateSchedule {
  double peak = 1e-5;
  Decay decay = Decay::kConstant;
  std::int64_t warmup = 0;
  std::int64_t total = 0;        // Updates, those of the warm-up included.
  std::int64_t decay_steps = 0;  // 0: what is left of the total after the warm-up.
  double initial = 0;
  double final = 0;  // Not of kConstant, which stays at the peak.

  /// The rate of an update, counted from 0.
  [[nodiscard]] double operator()(std::int64_t update) const;
};

}  // namespace metal_candle
