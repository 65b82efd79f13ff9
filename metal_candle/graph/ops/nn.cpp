// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Softmax, norms, rotary embeddings, attention and cross entropies.
#include "metal_candle/graph/ops/nn.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"
#include "metal_candle/graph/ops/reduce.h"

namespace metal_candle {
namespace {

using detail::make_node;

Tensor reduce_loss(const Tensor& loss, const Tensor& targets, const CrossEntropyOptions& options) {
  switch (options.reduction) {
    case Reduction::kNone:
      return loss;
    case Reduction::kSum:
      return sum(loss);
    case Reduction::kMean:
      break;
  }
  const Tensor counted = sum(astype(targets != options.ignore_index, DType::kF32));
  return sum(loss) / maximum(counted, 1);
}

}  // namespace

Tensor softmax(const Tensor& x, int axis) {
  const int normal = normalize_axis("softmax", axis, detail::require("softmax", x).rank());
  const Tensor floating = detail::to_floating(x);
  return make_node(op::Softmax{normal}, {&floating});
}

Tensor log_softmax(const Tensor& x, int axis) {
  const int normal = normalize_axis("log_softmax", axis, detail::require("log_softmax", x).rank());
  const Tensor floating = detail::to_floating(x);
  return make_node(op::LogSoftmax{normal}, {&floating});
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  const Tensor floating = detail::to_floating(detail::require("rms_norm", x));
  if (weight.empty()) return make_node(op::RmsNorm{eps}, {&floating});
  const Tensor scale = detail::cast_to(weight, floating.dtype());
  return make_node(op::RmsNorm{eps}, {&floating, &scale});
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  const Tensor floating = detail::to_floating(detail::require("layer_norm", x));
  const DType dtype = floating.dtype();
  if (weight.empty()) {
    Tensor result = make_node(op::LayerNorm{eps}, {&floating});
    if (bias.empty()) return result;
    const Tensor shift = detail::cast_to(bias, dtype);
    const Tensor unit = full({x.shape().back()}, 1, dtype, x.device());
    return make_node(op::LayerNorm{eps}, {&floating, &unit, &shift});
  }
  const Tensor scale = detail::cast_to(weight, dtype);
  if (bias.empty()) return make_node(op::LayerNorm{eps}, {&floating, &scale});
  const Tensor shift = detail::cast_to(bias, dtype);
  return make_node(op::LayerNorm{eps}, {&floating, &scale, &shift});
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  const DType meeting = detail::meeting_dtype("swiglu", gate, up);
  const DType dtype = is_floating(meeting) ? meeting : DType::kF32;
  const Tensor a = detail::cast_to(gate, dtype);
  const Tensor b = detail::cast_to(up, dtype);
  return make_node(op::SwiGlu{}, {&a, &b});
}

Tensor rope(const Tensor& x, const Tensor& offset, const RopeOptions& options) {
  const Tensor floating = detail::to_floating(detail::require("rope", x));
  if (x.rank() < 2) {
    throw ShapeError(fmt::format("rope: takes [..., length, d]: {}", to_string(x.shape())));
  }
  const int dims = options.dims == 0 ? static_cast<int>(x.shape().back()) : options.dims;
  const Tensor start = detail::cast_to(detail::to_indices("rope", offset), DType::kI32);
  const Tensor frequencies = options.frequencies.empty()
                                 ? rope_frequencies(dims, options.base, x.device())
                                 : detail::to_floating(options.frequencies);
  return make_node(op::Rope{dims, options.interleaved, false, options.scale},
                   {&floating, &start, &frequencies});
}

Tensor rope(const Tensor& x, std::int64_t offset, const RopeOptions& options) {
  const auto start = static_cast<std::int32_t>(offset);
  const TensorSpec spec{Shape{}, DType::kI32};
  return rope(x, detail::make_leaf_from_host(&start, spec, detail::require("rope", x).device()),
              options);
}

Tensor rope_frequencies(int dims, double base, Device device) {
  if (dims <= 0 || dims % 2 != 0) {
    throw ShapeError(fmt::format("rope_frequencies: {} dimensions are not even", dims));
  }
  std::vector<float> values(static_cast<std::size_t>(dims / 2));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(std::pow(base, -2.0 * static_cast<double>(i) / dims));
  }
  return detail::make_leaf_from_host(values.data(), {Shape{dims / 2}, DType::kF32}, device);
}

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  const Shape& shape = detail::require("attention", q).shape();
  // Without a width every score is 0 and the scale does not matter.
  const double width = shape.empty() || shape.back() == 0 ? 1 : static_cast<double>(shape.back());
  const float scale = options.scale.value_or(static_cast<float>(1 / std::sqrt(width)));
  const bool has_mask = !options.mask.empty();
  const bool has_key_length = !options.key_length.empty();
  const op::Attention operation{scale, options.causal, options.window, has_mask, has_key_length};
  Tensor key_length;
  const Tensor* inputs[5] = {&q, &k, &v};
  std::size_t count = 3;
  if (has_mask) inputs[count++] = &options.mask;
  if (has_key_length) {
    key_length = detail::cast_to(detail::to_indices("attention", options.key_length), DType::kI32);
    inputs[count++] = &key_length;
  }
  return detail::first_output(operation, std::span<const Tensor* const>(inputs, count));
}

Tensor cross_entropy(const Tensor& logits, const Tensor& targets,
                     const CrossEntropyOptions& options) {
  const Tensor floating = detail::to_floating(detail::require("cross_entropy", logits));
  const Tensor indices = detail::to_indices("cross_entropy", targets);
  const op::CrossEntropy operation{options.ignore_index};
  return reduce_loss(detail::first_output(operation, {&floating, &indices}), indices, options);
}

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            const CrossEntropyOptions& options) {
  const Tensor indices = detail::to_indices("linear_cross_entropy", targets);
  const op::LinearCrossEntropy operation{options.ignore_index};
  if (detail::require("linear_cross_entropy", x).rank() == 1) {
    const Tensor row = expand_dims(x, 0);
    const Tensor target = reshape(indices, {1});
    const Tensor loss = detail::first_output(operation, {&row, &weight, &target});
    return reduce_loss(squeeze(loss), target, options);
  }
  return reduce_loss(detail::first_output(operation, {&x, &weight, &indices}), indices, options);
}

}  // namespace metal_candle
