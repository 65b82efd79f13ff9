// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See schedule.h.
#include "metal_candle/train/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "metal_candle/core/error.h"

namespace metal_candle {

std::string_view name(Decay decay) {
  switch (decay) {
    case Decay::kConstant:
      return "constant";
    case Decay::kLinear:
      return "linear";
    case Decay::kCosine:
      break;
  }
  return "cosine";
}

Decay parse_decay(std::string_view text) {
  if (text == "constant") return Decay::kConstant;
  if (text == "linear" || text == "linear_schedule") return Decay::kLinear;
  if (text == "cosine" || text == "cosine_decay") return Decay::kCosine;
  throw FormatError(fmt::format(
      "unknown learning-rate schedule '{}': there are constant, linear and cosine", text));
}

double LearningRateSchedule::operator()(std::int64_t update) const {
  if (update < warmup) {
    return initial + (peak - initial) * static_cast<double>(update) / static_cast<double>(warmup);
  }
  if (decay == Decay::kConstant) return peak;
  const bool fixed = decay_steps > 0;
  const std::int64_t length = fixed ? decay_steps : std::max<std::int64_t>(total - warmup, 1);
  const std::int64_t begin = fixed && warmup > 0 ? warmup + 1 : warmup;
  const double progress =
      std::clamp(static_cast<double>(update - begin) / static_cast<double>(length), 0.0, 1.0);
  const double left =
      decay == Decay::kLinear ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return final + (peak - final) * left;
}

}  // namespace metal_candle
