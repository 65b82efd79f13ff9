// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Penalty, filters and the draw.
#include "metal_candle/generate/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void require(bool in_range, const char* option, double value, const char* range) {
  if (!in_range) throw Error(fmt::format("sampling: {} is {}, not {}", option, value, range));
}

// Scores of which `out` is true become impossible. NaN is not comparable with anything, so it stays
// if `out` says what is less than something.
Tensor without(const Tensor& scores, const Tensor& out) { return where(out, -kInfinity, scores); }

}  // namespace

void SamplingOptions::validate() const {
  require(std::isfinite(temperature) && temperature >= 0, "temperature", temperature,
          "0 or a positive number");
  require(top_k >= 0, "top_k", static_cast<double>(top_k), "0 or positive");
  require(top_p > 0 && top_p <= 1, "top_p", top_p, "in (0, 1]");
  require(min_p >= 0 && min_p <= 1, "min_p", min_p, "in [0, 1]");
  require(std::isfinite(repetition_penalty) && repetition_penalty > 0, "repetition_penalty",
          repetition_penalty, "a positive number");
  require(repetition_context >= 0, "repetition_context", static_cast<double>(repetition_context),
          "0 or positive");
}

Sampler::Sampler(const SamplingOptions& options, std::int64_t vocab, Device device)
    : options_(options), vocab_(vocab), device_(device) {
  options.validate();
}

Sampler::State Sampler::start(std::span<const std::int32_t> prompt, std::int64_t max_length) const {
  State state;
  if (options_.repetition_penalty == 1) return state;
  const std::int64_t context =
      options_.repetition_context == 0 ? max_length : options_.repetition_context;
  const auto length = static_cast<std::size_t>(context);
  std::vector<std::int32_t> recent(length, static_cast<std::int32_t>(vocab_));
  const std::size_t seen = std::min(prompt.size(), length);
  std::copy(prompt.end() - static_cast<std::ptrdiff_t>(seen), prompt.end(),
            recent.end() - static_cast<std::ptrdiff_t>(seen));
  state.recent = Tensor(recent, {1, context}).to(device_);
  return state;
}

Tensor Sampler::scores(const Tensor& logits, const State& state) const {
  Tensor x = astype(logits, DType::kF32);
  if (options_.repetition_penalty != 1) {
    // One place more, for tokens that are not there.
    const Tensor nowhere = zeros({x.dim(0), vocab_ + 1}, DType::kI32, x.device());
    const Tensor counts = scatter_add_along_axis(nowhere, state.recent, ones_like(state.recent), 1);
    const Tensor seen = counts.slice({{}, {0, vocab_}}) > 0;
    const float penalty = options_.repetition_penalty;
    x = where(seen, where(x < 0, x * penalty, x / penalty), x);
  }
  if (options_.temperature == 0) return x;
  if (options_.temperature != 1) x = x / options_.temperature;
  if (options_.top_k > 0 && options_.top_k < vocab_) {
    const Tensor best = topk(x, options_.top_k, 1).values;
    x = without(x, x < best.slice({{}, {options_.top_k - 1}}));
  }
  // Both say what is left of x, which is then written once: the largest passes every filter.
  Tensor out;
  if (options_.top_p < 1) out = x < top_p_threshold(x, options_.top_p);
  if (options_.min_p > 0) {
    const Tensor unlikely = x - max(x, 1, true) < std::log(options_.min_p);
    out = out.empty() ? unlikely : out | unlikely;
  }
  return out.empty() ? x : without(x, out);
}

Tensor Sampler::next(const Tensor& logits, State& state) const {
  Tensor token;
  if (options_.temperature == 0) {
    // The dtype does not change the order, so without a penalty there is nothing to compute.
    token = argmax(state.recent.empty() ? logits : scores(logits, state), 1);
    token = where(isnan(max(logits, 1)), -1, token);
  } else {
    const Tensor key = random::key(options_.seed, state.step, device_);
    const Tensor x = scores(logits, state);
    token = random::draw(x, random::uniform({x.dim(0), 1}, key));
  }
  ++state.step;
  if (!state.recent.empty()) {
    const Tensor rest = state.recent.slice({{}, {1}});
    state.recent = concatenate({rest, expand_dims(token, 1)}, 1);
  }
  return token;
}

}  // namespace metal_candle
