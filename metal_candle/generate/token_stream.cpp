// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Prefill and decoding.
#include "metal_candle/generate/token_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

// Capacities of caches are multiples of this: of few different ones, so that plans are reused.
constexpr std::int64_t kCapacityStep = 256;

std::int64_t round_up(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

// How long a chunk of n tokens is made: one of four lengths between powers of two, so that there
// are few plans and little padding.
std::int64_t padded_length(std::int64_t n) {
  const auto power = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(n)));
  return round_up(n, std::max<std::int64_t>(16, power / 4));
}

// Whether rotary frequencies depend on where a chunk ends. The prompt is then one chunk without
// padding, and what was computed for another one is of no use.
bool needs_exact_chunks(const DecoderConfig& config) {
  return config.rope_scaling.kind == RopeScaling::Kind::kDynamic;
}

std::int64_t common_prefix(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

TokenStream::TokenStream(Decoder model) : model_(std::move(model)) {}

void TokenStream::set_model(Decoder model) {
  model_ = std::move(model);
  reset();
}

void TokenStream::reset() {
  cache_ = {};
  cached_.clear();
  pending_ = {};
  count_ = limit_ = 0;
}

void TokenStream::check(const Request& request) const {
  const DecoderConfig& config = model_.config();
  const auto length = static_cast<std::int64_t>(request.prompt.size());
  if (length == 0) throw Error("generate: the prompt has no tokens");
  if (length > config.context_length()) {
    throw Error(fmt::format(
        "generate: the prompt has {} tokens, but the model's context holds {}: shorten it", length,
        config.context_length()));
  }
  for (const std::int32_t token : request.prompt) {
    if (token < 0 || token >= config.vocab_size) {
      throw Error(fmt::format("generate: the prompt has token {}, but the model's vocabulary {}",
                              token, config.vocab_size));
    }
  }
  if (request.max_tokens < 1) {
    throw Error(fmt::format("generate: max_tokens is {}, not positive", request.max_tokens));
  }
  if (request.prefill_chunk < 1) {
    throw Error(fmt::format("generate: prefill_chunk is {}, not positive", request.prefill_chunk));
  }
}

bool TokenStream::start(const Request& request) {
  check(request);
  const auto vocab = model_.config().vocab_size;
  const auto length = static_cast<std::int64_t>(request.prompt.size());
  // The last token has no position of its own: it is not fed back.
  const std::int64_t room = model_.config().context_length() - length + 1;
  limited_by_context_ = room < request.max_tokens;
  limit_ = std::min(room, request.max_tokens);
  count_ = 0;
  prompt_tokens_ = length;
  sampler_.emplace(request.sampling, vocab, model_.device());
  sampling_ = sampler_->start(request.prompt, length + limit_);
  try {
    return prefill(request);
  } catch (...) {
    reset();
    throw;
  }
}

// A cache of at least this capacity that holds what the old one did.
void TokenStream::reserve(std::int64_t capacity) {
  const std::int64_t old = this->capacity();
  if (capacity <= old) return;
  // Twice as much, so that a conversation grows it a few times only.
  const std::int64_t grown = round_up(std::max(capacity, 2 * old), kCapacityStep);
  KvCache larger = KvCache::make(model_.config(), 1, grown, model_.dtype(), model_.device());
  if (!cached_.empty()) {
    for (std::size_t i = 0; i < larger.layers.size(); ++i) {
      KvCache::Layer& layer = larger.layers[i];
      layer.keys = slice_update(layer.keys, cache_.layers[i].keys, {0, 0, 0, 0});
      layer.values = slice_update(layer.values, cache_.layers[i].values, {0, 0, 0, 0});
    }
    eval(larger.tensors());
  }
  cache_ = std::move(larger);
}

bool TokenStream::prefill(const Request& request) {
  const std::span<const std::int32_t> prompt = request.prompt;
  const auto length = static_cast<std::int64_t>(prompt.size());
  const bool exact = needs_exact_chunks(model_.config());
  // The last token is always fed, for its logits.
  reused_ = exact ? 0 : std::min(common_prefix(cached_, prompt), length - 1);
  const std::int64_t chunk = exact ? length : request.prefill_chunk;
  const auto on_device = [&](std::int64_t n) {
    return Tensor(static_cast<std::int32_t>(n)).to(model_.device());
  };
  const auto padded = [&](std::int64_t n) { return exact ? n : padded_length(n); };
  const std::int64_t last = reused_ + (length - reused_ - 1) / chunk * chunk;
  reserve(std::max(length + limit_, last + padded(length - last)));
  cached_.resize(static_cast<std::size_t>(reused_));
  cache_.length = on_device(reused_);
  for (std::int64_t begin = reused_; begin < length; begin += chunk) {
    if (request.cancellation.stop_requested()) return false;
    const std::int64_t n = std::min(chunk, length - begin);
    const auto part = prompt.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n));
    std::vector<std::int32_t> tokens(part.begin(), part.end());
    tokens.resize(static_cast<std::size_t>(padded(n)), 0);
    ForwardOptions options;
    options.cache = &cache_;
    const Tensor hidden =
        model_.hidden_states(Tensor(tokens, {1, padded(n)}).to(model_.device()), options);
    // What the padding left in the cache is overwritten before anything can see it.
    cache_.length = on_device(begin + n);
    cached_.insert(cached_.end(), part.begin(), part.end());
    if (begin == last) {
      const Tensor row = on_device(n - 1);
      pending_ = choose_token(dynamic_slice(hidden, row, {1}, {1, 1, hidden.dim(2)}));
      queue(pending_);
    } else {
      eval(cache_.tensors());
    }
  }
  return true;
}

// hidden [1, 1, hidden] -> i32 [1]
Tensor TokenStream::choose_token(const Tensor& hidden) {
  const Tensor logits = model_.logits(hidden);
  return sampler_->next(reshape(logits, {1, logits.dim(2)}), sampling_);
}

void TokenStream::queue(const Tensor& token) const {
  std::vector<Tensor> outputs = cache_.tensors();
  outputs.push_back(token);
  if (!sampling_.recent.empty()) outputs.push_back(sampling_.recent);
  static_cast<void>(eval_async(outputs));
}

std::int32_t TokenStream::next() {
  if (!more()) throw Error("generate: the sequence has ended");
  try {
    const Tensor token = std::move(pending_);
    const bool another = count_ + 1 < limit_;
    if (another) {
      ForwardOptions options;
      options.cache = &cache_;
      pending_ = choose_token(model_.hidden_states(reshape(token, {1, 1}), options));
      queue(pending_);
    }
    const auto id = token.item<std::int32_t>();
    if (id < 0) {
      throw Error(
          fmt::format("generate: the logits after {} tokens are not numbers; the weights may be "
                      "damaged, or too "
                      "large for {}",
                      prompt_tokens_ + count_, name(model_.dtype())));
    }
    ++count_;
    if (another) cached_.push_back(id);
    return id;
  } catch (...) {
    reset();
    throw;
  }
}

}  // namespace metal_candle
