// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rotary positions. Linear: Chen et al., "Extending context window of large language models via
// positional interpolation", 2023. Dynamic: the base grows with the length of the sequence. Llama
// 3: as in Llama 3.1, by wavelength.
#include "metal_candle/models/rope.h"

#include <cmath>
#include <numbers>
#include <vector>

#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

std::vector<float> llama3_frequencies(const DecoderConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const auto original = static_cast<double>(scaling.original_max_position_embeddings);
  const double low_wavelength = original / scaling.low_freq_factor;
  const double high_wavelength = original / scaling.high_freq_factor;
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < config.head_dim / 2; ++i) {
    const double frequency = std::pow(
        config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    double scaled = frequency;
    if (wavelength > low_wavelength) {
      scaled = frequency / scaling.factor;
    } else if (wavelength > high_wavelength) {
      const double smooth = (original / wavelength - scaling.low_freq_factor) /
                            (scaling.high_freq_factor - scaling.low_freq_factor);
      scaled = (1 - smooth) * frequency / scaling.factor + smooth * frequency;
    }
    frequencies.push_back(static_cast<float>(scaled));
  }
  return frequencies;
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const DecoderConfig& config, Device device)
    : factor_(config.rope_scaling.factor),
      base_(config.rope_theta),
      original_positions_(config.max_position_embeddings),
      head_dim_(config.head_dim) {
  switch (config.rope_scaling.kind) {
    case RopeScaling::Kind::kLlama3:
      frequencies_ = Tensor(llama3_frequencies(config), {config.head_dim / 2}).to(device);
      return;
    case RopeScaling::Kind::kDynamic:
      dynamic_ = true;
      return;
    case RopeScaling::Kind::kLinear:
      position_scale_ = static_cast<float>(1 / factor_);
      break;
    case RopeScaling::Kind::kNone:
      break;
  }
  frequencies_ = rope_frequencies(static_cast<int>(config.head_dim), base_, device);
}

Tensor RotaryEmbedding::frequencies(const Tensor& end) const {
  if (!dynamic_) return frequencies_;
  // base' = base * (factor * length / original - (factor - 1)) ^ (d / (d - 2)), for lengths beyond
  // the original; frequency i is base' ^ (-2 i / d).
  const auto d = static_cast<double>(head_dim_);
  const auto original = static_cast<double>(original_positions_);
  const Tensor length = maximum(astype(end, DType::kF32), original);
  const Tensor growth = length * (factor_ / original) - (factor_ - 1);
  const Tensor log_base = log(growth) * (d / (d - 2)) + std::log(base_);
  const Tensor exponents = arange(0.0f, static_cast<float>(head_dim_), 2.0f) * (-1.0 / d);
  return exp(log_base * exponents);
}

Tensor RotaryEmbedding::rotate(const Tensor& x, const Tensor& offset,
                               const Tensor& frequencies) const {
  RopeOptions options;
  options.scale = position_scale_;
  options.frequencies = frequencies;
  return rope(x, offset, options);
}

}  // namespace metal_candle
