// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products.
#include "metal_candle/graph/ops/linalg.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"

namespace metal_candle {
namespace {

using detail::make_node;

[[noreturn]] void throw_shapes(const char* op, const char* what, const Tensor& a, const Tensor& b) {
  throw ShapeError(
      fmt::format("{}: {}: {} @ {}", op, what, to_string(a.shape()), to_string(b.shape())));
}

// Checked here, so that the error shows the vectors as they were given.
void require_product(const char* op, const Tensor& a, const Tensor& b) {
  if (detail::require(op, a).rank() == 0 || detail::require(op, b).rank() == 0) {
    throw_shapes(op, "operands need at least one dimension", a, b);
  }
  const Shape& right = b.shape();
  if (a.shape().back() != right[right.rank() == 1 ? 0 : right.rank() - 2]) {
    throw_shapes(op, "inner dimensions differ", a, b);
  }
}

// Runs fn on x with at least two dimensions; what a vector gains it loses again.
template <typename Fn>
Tensor with_rows(const char* op, const Tensor& x, Fn fn) {
  if (detail::require(op, x).rank() != 1) return fn(x);
  return squeeze(fn(expand_dims(x, 0)), -2);
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  require_product("matmul", a, b);
  if (a.dtype() == b.dtype() && size_of(a.dtype()) > 1 && a.rank() > 1 && b.rank() > 1) {
    return make_node(op::Matmul{}, {&a, &b});
  }
  const DType dtype = promote(a.dtype(), b.dtype());
  Tensor left = detail::to_accumulator(astype(a, dtype));
  Tensor right = detail::to_accumulator(astype(b, dtype));
  if (a.rank() == 1) left = expand_dims(left, 0);
  if (b.rank() == 1) right = expand_dims(right, 1);
  Tensor product = make_node(op::Matmul{}, {&left, &right});
  if (b.rank() == 1) product = squeeze(product, -1);
  if (a.rank() == 1) product = squeeze(product, b.rank() == 1 ? -1 : -2);
  return product;
}

Tensor outer(const Tensor& a, const Tensor& b) {
  return expand_dims(flatten(detail::require("outer", a)), 1) *
         flatten(detail::require("outer", b));
}

Tensor inner(const Tensor& a, const Tensor& b) {
  if (detail::require("inner", a).rank() == 0 || detail::require("inner", b).rank() == 0) {
    return a * b;
  }
  const std::int64_t k = a.shape().back();
  if (k != b.shape().back()) throw_shapes("inner", "last dimensions differ", a, b);
  Shape shape;
  std::int64_t rows = 1, columns = 1;
  for (int i = 0; i + 1 < a.rank(); ++i) shape.push_back(a.shape()[i]), rows *= a.shape()[i];
  for (int i = 0; i + 1 < b.rank(); ++i) shape.push_back(b.shape()[i]), columns *= b.shape()[i];
  return reshape(matmul(reshape(a, {rows, k}), transpose(reshape(b, {columns, k}))), shape);
}

Tensor dot(const Tensor& a, const Tensor& b) {
  if (detail::require("dot", a).rank() != 1 || detail::require("dot", b).rank() != 1 ||
      a.size() != b.size()) {
    throw_shapes("dot", "operands are not vectors of one length", a, b);
  }
  return matmul(a, b);
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  require_product("linear", x, weight);
  if (bias.empty()) return matmul(x, weight);
  const bool has_columns = weight.rank() > 1;
  if (bias.rank() != 1 || !has_columns || bias.shape()[0] != weight.shape().back()) {
    throw ShapeError(fmt::format("linear: a bias of {} does not fit {} @ {}",
                                 to_string(bias.shape()), to_string(x.shape()),
                                 to_string(weight.shape())));
  }
  const DType dtype = x.dtype();
  if (!is_floating(dtype) || weight.dtype() != dtype || bias.dtype() != dtype) {
    return matmul(x, weight) + bias;
  }
  // One operation, which rounds f16 and bf16 once: after the bias.
  return linear_epilogue(x, weight, {.bias = bias});
}

Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, float alpha, float beta) {
  require_product("addmm", a, b);
  const Tensor product = matmul(a, b);
  const Shape shape =
      broadcast_shapes("addmm", detail::require("addmm", c).shape(), product.shape());
  if (!(shape == product.shape())) {
    throw ShapeError(fmt::format("addmm: {} does not broadcast to the product {} of {} @ {}",
                                 to_string(c.shape()), to_string(product.shape()),
                                 to_string(a.shape()), to_string(b.shape())));
  }
  return (beta == 1 ? c : c * beta) + (alpha == 1 ? product : product * alpha);
}

Tensor lora(const Tensor& x, const Tensor& a, const Tensor& b, float scale) {
  return with_rows("lora", x, [&](const Tensor& rows) {
    return make_node(op::Lora{scale}, {&rows, &a, &b});
  });
}

Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& a, const Tensor& b,
                   float scale, const Tensor& bias) {
  return with_rows("lora_linear", x, [&](const Tensor& rows) {
    return bias.empty() ? make_node(op::LoraLinear{scale, false}, {&rows, &weight, &a, &b})
                        : make_node(op::LoraLinear{scale, true}, {&rows, &weight, &a, &b, &bias});
  });
}

Tensor linear_epilogue(const Tensor& x, const Tensor& weight, const LinearEpilogue& epilogue) {
  const bool has_bias = !epilogue.bias.empty();
  const bool has_residual = !epilogue.residual.empty();
  const op::Linear operation{epilogue.activation, has_bias, has_residual, epilogue.scale};
  return with_rows("linear", x, [&](const Tensor& rows) {
    Tensor residual = epilogue.residual;
    if (has_residual && x.rank() == 1) residual = expand_dims(residual, -2);
    const Tensor* inputs[4] = {&rows, &weight};
    std::size_t count = 2;
    if (has_bias) inputs[count++] = &epilogue.bias;
    if (has_residual) inputs[count++] = &residual;
    return make_node(operation, std::span<const Tensor* const>(inputs, count), {}, x.device());
  });
}

}  // namespace metal_candle
