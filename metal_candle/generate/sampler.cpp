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

// Scores below the threshold [batch, 1] become impossible.
Tensor keep_from(const Tensor& scores, const Tensor& threshold) {
  return where(scores >= threshold, scores, -kInfinity);
}

// Element 0 of the last axis counts from the end if negative.
Tensor last(const Tensor& x) { return x.slice({{}, {x.dim(1) - 1}}); }

// weights [batch, n], not negative and not all 0 -> i32 [batch]: indices with probabilities
// weights / sum(weights), for u [batch, 1] uniform in [0, 1): the first at which the running sum
// exceeds u * sum. Running sums are sequential, and so are long ones slow: the block is found by
// the sums of blocks first.
Tensor choose(const Tensor& weights, const Tensor& u) {
  constexpr std::int64_t kBlock = 256;
  const std::int64_t batch = weights.dim(0), n = weights.dim(1);
  const std::int64_t count = (n + kBlock - 1) / kBlock;
  const Tensor padded = pad(weights, {0, 0}, {0, count * kBlock - n}, 0.0f);
  const Tensor blocks = reshape(padded, {batch, count, kBlock});
  const Tensor sums = cumsum(sum(blocks, -1), 1);
  const Tensor target = u * last(sums);
  const Tensor block = argmax(astype(sums > target, DType::kI32), 1, /*keepdims=*/true);
  const Tensor before = where(block > 0, take_along_axis(sums, maximum(block - 1, 0), 1), 0.0f);
  const Tensor rows = broadcast_to(expand_dims(block, 2), {batch, 1, kBlock});
  const Tensor within = cumsum(squeeze(take_along_axis(blocks, rows, 1), 1), 1);
  // The two kinds of sums round differently; what is left must not lie beyond the block.
  const Tensor rest = minimum(target - before, last(within) * (1 - 0x1p-23));
  const Tensor index = argmax(astype(within > rest, DType::kI32), 1, /*keepdims=*/true);
  return squeeze(block * kBlock + index, 1);
}

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
    : options_(options), vocab_(vocab), key_(random::key(options.seed, device)) {
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
  state.recent = Tensor(recent, {1, context}).to(key_.device());
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
    x = keep_from(x, last(topk(x, options_.top_k, 1).values));
  }
  if (options_.top_p < 1) x = keep_from(x, top_p_threshold(x, options_.top_p));
  if (options_.min_p > 0) x = keep_from(x, max(x, 1, true) + std::log(options_.min_p));
  return x;
}

Tensor Sampler::next(const Tensor& logits, State& state) const {
  Tensor token;
  if (options_.temperature == 0) {
    // The dtype does not change the order, so without a penalty there is nothing to compute.
    token = argmax(state.recent.empty() ? logits : scores(logits, state), 1);
  } else {
    const Tensor x = scores(logits, state);
    const Tensor u = random::uniform({x.dim(0), 1}, random::fold_in(key_, state.step));
    token = choose(exp(x - max(x, 1, true)), u);
  }
  token = where(isnan(max(logits, 1)), -1, token);
  ++state.step;
  if (!state.recent.empty()) {
    const Tensor rest = state.recent.slice({{}, {1}});
    state.recent = concatenate({rest, expand_dims(token, 1)}, 1);
  }
  return token;
}

}  // namespace metal_candle
