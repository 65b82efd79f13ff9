// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Scaled-dot-product attention and its gradient in the reference interpreter, one query at a time.
#include <cmath>
#include <limits>

#include "tests/support/reference_kernels.h"

namespace metal_candle::testing::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Names the dimensions and finds the scores of one query.
class Scores {
 public:
  Scores(const op::Attention& operation, const HostTensor& query, const HostTensor& key,
         const HostTensor* mask, const HostTensor* key_length)
      : operation_(operation),
        query_(query),
        key_(key),
        mask_(mask),
        key_length_(key_length),
        batch(query.shape()[0]),
        heads(query.shape()[1]),
        queries(query.shape()[2]),
        width(query.shape()[3]),
        key_heads(key.shape()[1]),
        keys(key.shape()[2]) {}

  /// Row of q (and of the output) for one query.
  [[nodiscard]] std::int64_t query_row(std::int64_t b, std::int64_t h, std::int64_t i) const {
    return (b * heads + h) * queries + i;
  }
  /// Row of k and v for one key seen by head h.
  [[nodiscard]] std::int64_t key_row(std::int64_t b, std::int64_t h, std::int64_t j) const {
    return (b * key_heads + h / (heads / key_heads)) * keys + j;
  }

  /// Scores of all keys; -infinity where the query does not see the key.
  [[nodiscard]] std::vector<double> of(std::int64_t b, std::int64_t h, std::int64_t i) const {
    std::vector<double> scores(static_cast<std::size_t>(keys), -kInfinity);
    const std::int64_t length =
        key_length_ ? key_length_->n(key_length_->size() == 1 ? 0 : b) : keys;
    const std::int64_t position = length - queries + i;
    for (std::int64_t j = 0; j < length; ++j) {
      if (operation_.causal && j > position) continue;
      if (operation_.causal && operation_.window > 0 && j <= position - operation_.window) continue;
      double score = 0;
      for (std::int64_t d = 0; d < width; ++d) {
        score += query_.r(query_row(b, h, i) * width + d) * key_.r(key_row(b, h, j) * width + d);
      }
      score *= static_cast<double>(operation_.scale);
      if (mask_) {
        const std::int64_t at = broadcast_position(Dims{b, h, i, j}, mask_->shape());
        if (mask_->is_real()) {
          score += mask_->r(at);
        } else if (mask_->n(at) == 0) {
          continue;
        }
      }
      scores[static_cast<std::size_t>(j)] = score;
    }
    return scores;
  }

 private:
  const op::Attention& operation_;
  const HostTensor& query_;
  const HostTensor& key_;
  const HostTensor* mask_;
  const HostTensor* key_length_;

 public:
  std::int64_t batch, heads, queries, width, key_heads, keys;
};

double log_sum_exp_of(const std::vector<double>& scores) {
  double largest = -kInfinity;
  for (const double score : scores) largest = std::max(largest, score);
  if (std::isinf(largest)) return largest;
  double total = 0;
  for (const double score : scores) total += std::exp(score - largest);
  return largest + std::log(total);
}

double probability(double score, double logsumexp) {
  return std::isinf(score) && score < 0 ? 0 : std::exp(score - logsumexp);
}

template <typename Fn>
void for_each_query(const Scores& scores, Fn fn) {
  for (std::int64_t b = 0; b < scores.batch; ++b) {
    for (std::int64_t h = 0; h < scores.heads; ++h) {
      for (std::int64_t i = 0; i < scores.queries; ++i) fn(b, h, i);
    }
  }
}

}  // namespace

Outputs attention(const op::Attention& operation, Inputs inputs) {
  const HostTensor& query = *inputs[0];
  const HostTensor& value = *inputs[2];
  std::size_t next = 3;
  const HostTensor* mask = operation.has_mask ? inputs[next++] : nullptr;
  const HostTensor* key_length = operation.has_key_length ? inputs[next] : nullptr;
  const Scores scores(operation, query, *inputs[1], mask, key_length);
  const std::int64_t width = value.shape()[3];
  HostTensor out(Shape{scores.batch, scores.heads, scores.queries, width}, query.dtype());
  HostTensor logsumexp(Shape{scores.batch, scores.heads, scores.queries}, DType::kF32);
  for_each_query(scores, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    const std::vector<double> row = scores.of(b, h, i);
    const std::int64_t at = scores.query_row(b, h, i);
    logsumexp.r(at) = log_sum_exp_of(row);
    for (std::int64_t j = 0; j < scores.keys; ++j) {
      const double p = probability(row[static_cast<std::size_t>(j)], logsumexp.r(at));
      for (std::int64_t d = 0; d < width && p != 0; ++d) {
        out.r(at * width + d) += p * value.r(scores.key_row(b, h, j) * width + d);
      }
    }
  });
  Outputs all;
  all.push_back(std::move(out));
  all.push_back(std::move(logsumexp));
  return all;
}

Outputs cached_attention(const op::CachedAttention& operation, Inputs inputs) {
  const HostTensor &offset = *inputs[5], &frequencies = *inputs[6];
  const auto rotated = [&](const HostTensor& x) {
    const HostTensor* const operands[] = {&x, &offset, &frequencies};
    return rope(operation.rope, operands);
  };
  const auto updated = [&](const HostTensor& cache, const HostTensor& rows) {
    const Dims start = dynamic_start({2}, offset, cache.shape(), rows.shape());
    return slice_update(start, Dims(start.size(), 1), cache, rows);
  };
  const HostTensor q = rotated(*inputs[0]);
  HostTensor keys = updated(*inputs[3], rotated(*inputs[1]));
  HostTensor values = updated(*inputs[4], *inputs[2]);
  const HostTensor* const operands[] = {&q, &keys, &values, inputs[7]};
  Outputs all;
  all.push_back(std::move(attention(operation.attention, operands)[0]));
  all.push_back(std::move(keys));
  all.push_back(std::move(values));
  return all;
}

Outputs attention_backward(const op::AttentionBackward& operation, Inputs inputs) {
  const HostTensor &query = *inputs[0], &key = *inputs[1], &value = *inputs[2];
  const HostTensor &out = *inputs[3], &logsumexp = *inputs[4], &dout = *inputs[5];
  std::size_t next = 6;
  const HostTensor* mask = operation.forward.has_mask ? inputs[next++] : nullptr;
  const HostTensor* key_length = operation.forward.has_key_length ? inputs[next] : nullptr;
  const Scores scores(operation.forward, query, key, mask, key_length);
  const std::int64_t width = scores.width, value_width = value.shape()[3];
  const auto scale = static_cast<double>(operation.forward.scale);
  HostTensor dquery(query.spec), dkey(key.spec), dvalue(value.spec);
  for_each_query(scores, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    const std::vector<double> row = scores.of(b, h, i);
    const std::int64_t at = scores.query_row(b, h, i);
    double delta = 0;
    for (std::int64_t d = 0; d < value_width; ++d) {
      delta += dout.r(at * value_width + d) * out.r(at * value_width + d);
    }
    for (std::int64_t j = 0; j < scores.keys; ++j) {
      const double p = probability(row[static_cast<std::size_t>(j)], logsumexp.r(at));
      if (p == 0) continue;
      const std::int64_t to = scores.key_row(b, h, j);
      double dp = 0;
      for (std::int64_t d = 0; d < value_width; ++d) {
        dp += dout.r(at * value_width + d) * value.r(to * value_width + d);
        dvalue.r(to * value_width + d) += p * dout.r(at * value_width + d);
      }
      const double ds = scale * p * (dp - delta);
      for (std::int64_t d = 0; d < width; ++d) {
        dquery.r(at * width + d) += ds * key.r(to * width + d);
        dkey.r(to * width + d) += ds * query.r(at * width + d);
      }
    }
  });
  Outputs all;
  all.push_back(std::move(dquery));
  all.push_back(std::move(dkey));
  all.push_back(std::move(dvalue));
  return all;
}

}  // namespace metal_candle::testing::reference
