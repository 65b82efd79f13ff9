// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random graphs: matrix products and what neural networks are made of, as operations and as the
// primitives that passes recognise.
#include <cmath>

#include "tests/support/random_graph_builder.h"

namespace metal_candle::testing {
namespace {

/// Bounds of a product over k: what each operand's error makes of it.
struct ProductBounds {
  double bound, error;
};
ProductBounds product_bounds(const TameTensor& a, const TameTensor& b, std::int64_t k,
                             DType dtype) {
  const auto n = static_cast<double>(k);
  const double bound = n * a.bound * b.bound;
  return {bound, n * (a.error * (b.bound + b.error) + b.error * a.bound) +
                     (unit(dtype) + n * 1e-7) * bound};
}

}  // namespace

bool RandomGraphBuilder::product() {
  const auto a = pick_real(1);
  if (!a || a->tensor.size() == 0) return false;
  const std::int64_t k = a->shape().back();
  std::optional<TameTensor> b;
  if (random_.chance(40)) {
    b = pick([&](const TameTensor& t) {
      return t.dtype() == a->dtype() && t.rank() == 2 && t.shape()[0] == k;
    });
  }
  if (!b && a->rank() == 2 && random_.chance(40)) {
    b = TameTensor{transpose(a->tensor), a->bound, a->error};
  }
  if (!b) b = leaf({k, 1 + random_.below(9)}, a->dtype());
  if (a->tensor.size() / k * b->shape().back() > kMostElements) return false;
  const ProductBounds p = product_bounds(*a, *b, k, a->dtype());
  const double r = unit(a->dtype());
  const Tensor y = matmul(a->tensor, b->tensor);
  // Epilogues, as a user would write them.
  const double scale = p.bound > 0 ? std::exp2(-std::ceil(std::log2(p.bound))) : 1;
  const double bound = p.bound * scale, error = p.error * scale + r * bound;
  switch (random_.below(5)) {
    case 0: {
      const TameTensor bias = leaf({y.shape().back()}, a->dtype());
      return give(y * scale + bias.tensor, bound + 1, error + r * (bound + 1));
    }
    case 1: {
      const TameTensor bias = leaf({y.shape().back()}, a->dtype());
      return give(gelu_tanh(y * scale + bias.tensor), bound + 1,
                  1.13 * error + 4 * r * (bound + 1));
    }
    case 2:
      return give(relu(y * scale), bound, error);
    case 3: {
      const auto residual = pick(
          [&](const TameTensor& t) { return t.dtype() == a->dtype() && t.shape() == y.shape(); });
      if (!residual) return give(silu(y * scale), bound, 1.11 * error + 2 * r * bound);
      return give(y * scale + residual->tensor, bound + residual->bound,
                  error + residual->error + r * (bound + residual->bound));
    }
    default:
      return give(y, p.bound, p.error);
  }
}

bool RandomGraphBuilder::projection() {
  const auto x = pick_real(1);
  if (!x || x->tensor.size() == 0) return false;
  const std::int64_t k = x->shape().back(), n = 1 + random_.below(8), rank = 1 + random_.below(4);
  if (x->tensor.size() / k * n > kMostElements) return false;
  const TameTensor w = leaf({k, n}, x->dtype()), a = leaf({k, rank}, x->dtype()),
                   b = leaf({rank, n}, x->dtype()), bias = leaf({n}, x->dtype());
  const double r = unit(x->dtype());
  const ProductBounds base = product_bounds(*x, w, k, x->dtype());
  const ProductBounds down = product_bounds(*x, a, k, x->dtype());
  const ProductBounds up = product_bounds({Tensor(), down.bound, down.error}, b, rank, x->dtype());
  const double scale = 0.5;
  const double bound = base.bound + 1 + scale * up.bound;
  const double error = base.error + scale * up.error + 4 * r * bound;
  const Tensor& t = x->tensor;
  switch (random_.below(5)) {
    case 0:
      return give(lora(t, a.tensor, b.tensor, 0.5f), scale * up.bound,
                  scale * up.error + 2 * r * up.bound);
    case 1:
      return give(matmul(matmul(t, a.tensor), b.tensor) * scale, scale * up.bound,
                  scale * up.error + 2 * r * up.bound);
    case 2:
      return give(lora_linear(t, w.tensor, a.tensor, b.tensor, 0.5f, bias.tensor), bound, error);
    case 3:
      return give(matmul(t, w.tensor) + matmul(matmul(t, a.tensor), b.tensor) * scale + bias.tensor,
                  bound, error);
    default:
      return give(linear(t, w.tensor, bias.tensor), base.bound + 1,
                  base.error + 2 * r * (base.bound + 1));
  }
}

bool RandomGraphBuilder::normalize() {
  const auto x = pick_real(1);
  if (!x || x->tensor.size() == 0) return false;
  const std::int64_t d = x->shape().back();
  const double b = x->bound, e = x->error, r = unit(x->dtype()),
               root = std::sqrt(static_cast<double>(d));
  const Tensor& t = x->tensor;
  // With eps = 0.5 the slope of a norm is at most (1 + sqrt(d)) / sqrt(0.5).
  const double slope = 1.5 * (1 + root);
  switch (random_.below(5)) {
    case 0:
      return give(softmax(t, random_.below(x->rank())), 1, e + 2 * r + 1e-5 * (1 + b));
    case 1:
      return give(log_softmax(t, random_.below(x->rank())), 2 * b + 8, 2 * e + 4 * r * (2 * b + 8));
    case 2: {
      const TameTensor w = leaf({d}, x->dtype());
      return give(rms_norm(t, w.tensor, 0.5f), root, slope * e + (2 * r + 1e-5) * root);
    }
    case 3: {
      const TameTensor w = leaf({d}, x->dtype()), c = leaf({d}, x->dtype());
      return give(layer_norm(t, w.tensor, c.tensor, 0.5f), root + 1,
                  2 * slope * e + (2 * r + 1e-5 * slope) * (root + 1));
    }
    default: {
      const auto up = pick(
          [&](const TameTensor& u) { return u.dtype() == x->dtype() && u.shape() == x->shape(); });
      if (!up) return false;
      return give(swiglu(t, up->tensor), b * up->bound,
                  1.11 * e * (up->bound + up->error) + up->error * b + 4 * r * b * up->bound);
    }
  }
}

bool RandomGraphBuilder::spelled_softmax() {
  const auto x = pick_real(1);
  if (!x || x->tensor.size() == 0) return false;
  const int axis = random_.below(x->rank());
  const double b = x->bound, e = x->error, r = unit(x->dtype());
  const Tensor& t = x->tensor;
  const Tensor shifted = t - max(t, axis, true);
  if (random_.chance(30)) {
    return give(shifted - log(sum(exp(shifted), axis, true)), 2 * b + 8,
                2 * e + 8 * r * (2 * b + 8));
  }
  const Tensor exponentials = exp(shifted);
  return give(exponentials / sum(exponentials, axis, true), 1, e + 8 * r * (1 + 2 * b));
}

bool RandomGraphBuilder::spelled_norm() {
  const auto x = pick_real(1);
  if (!x || x->tensor.size() == 0) return false;
  const std::int64_t d = x->shape().back();
  const double b = x->bound, e = x->error, r = unit(x->dtype()),
               root = std::sqrt(static_cast<double>(d)), slope = 1.5 * (1 + root);
  const TameTensor w = leaf({d}, x->dtype());
  const Tensor& t = x->tensor;
  // What is squared, summed and divided by is rounded as well.
  const double rounding_error = 8 * r * (1 + b * b) * root;
  switch (random_.below(3)) {
    case 0:
      return give(t * rsqrt(mean(square(t), -1, true) + 0.5) * w.tensor, root,
                  slope * e + rounding_error);
    case 1:
      return give(t / sqrt(mean(t * t, -1, true) + 0.5), root, slope * e + rounding_error);
    default: {
      const Tensor centred = t - mean(t, -1, true);
      const Tensor y = centred / sqrt(mean(square(centred), -1, true) + 0.5) * w.tensor;
      return give(y + w.tensor, root + 1, 2 * slope * (e + 2 * r * b) + 4 * rounding_error);
    }
  }
}

bool RandomGraphBuilder::attend() {
  const DType dtype = random_float();
  const std::int64_t batch = 1 + random_.below(2), heads = 2, key_heads = 1 + random_.below(2),
                     lq = 1 + random_.below(5), lk = lq + random_.below(4), d = 4;
  const TameTensor q = leaf({batch, heads, lq, d}, dtype),
                   k = leaf({batch, key_heads, lk, d}, dtype),
                   v = leaf({batch, key_heads, lk, d}, dtype);
  AttentionOptions options;
  options.causal = random_.chance(50);
  if (options.causal && random_.chance(30)) options.window = 2;
  const double error = 2 * unit(dtype) + 2e-5;
  if (random_.chance(60) || key_heads != heads) {
    if (random_.chance(30)) options.mask = leaf({lq, lk}, DType::kBool).tensor;
    if (random_.chance(30)) options.key_length = Tensor(static_cast<std::int32_t>(lk - 1));
    if (!options.key_length.empty() && lk - 1 < lq) options.key_length = Tensor();
    return give(scaled_dot_product_attention(q.tensor, k.tensor, v.tensor, options), 1, error);
  }
  // The same in primitives; a bias stands for the mask.
  const TameTensor bias = leaf({lq, lk}, dtype);
  const Tensor scores = matmul(q.tensor, swapaxes(k.tensor, -1, -2)) * 0.5 + bias.tensor;
  return give(matmul(softmax(scores, -1), v.tensor), 1, 32 * unit(dtype));
}

bool RandomGraphBuilder::loss() {
  const auto x = pick_real(1);
  if (!x || x->tensor.size() == 0 || x->rank() > 3) return false;
  Shape rows = x->shape();
  const std::int64_t n = rows.back();
  rows.erase(rows.rank() - 1);
  const double b = x->bound, e = x->error, count = static_cast<double>(num_elements(rows));
  CrossEntropyOptions options;
  options.reduction = random_.chance(50) ? Reduction::kNone : Reduction::kMean;
  if (random_.chance(50)) {
    const Tensor targets = remainder(index_leaf(rows, n).tensor, n);
    return give(cross_entropy(x->tensor, targets, options), 2 * b + 5,
                2 * e + 1e-6 * (8 + count) * (2 * b + 5));
  }
  const std::int64_t classes = 2 + random_.below(30);
  const TameTensor w = leaf({n, classes}, x->dtype());
  const ProductBounds p = product_bounds(*x, w, n, DType::kF32);
  const Tensor targets = remainder(index_leaf(rows, classes).tensor, classes);
  const ProductBounds rounded = product_bounds(*x, w, n, x->dtype());
  if (random_.chance(50)) {
    // The CPU keeps logits that nobody sees in f32.
    const double error = default_device().type == DeviceType::kCpu ? p.error : rounded.error;
    return give(linear_cross_entropy(x->tensor, w.tensor, targets, options), 2 * p.bound + 5,
                2 * error + 1e-6 * (8 + count) * (2 * p.bound + 5));
  }
  return give(cross_entropy(matmul(x->tensor, w.tensor), targets, options), 2 * p.bound + 5,
              2 * rounded.error + 1e-6 * (8 + count) * (2 * p.bound + 5));
}

bool RandomGraphBuilder::position() {
  if (random_.chance(30)) {
    const Tensor key = random::key(random_.next() % 1000);
    return give(random::uniform(random_shape(), key), 1, 0);
  }
  const auto x = pick([](const TameTensor& t) {
    return t.is_real() && t.rank() >= 2 && t.shape().back() % 2 == 0 && t.tensor.size() > 0;
  });
  if (!x) return false;
  RopeOptions options;
  options.interleaved = random_.chance(50);
  return give(rope(x->tensor, Tensor(random_.below(20)), options), 1.5 * x->bound,
              1.5 * x->error + (4e-6 + 2 * unit(x->dtype())) * x->bound);
}

}  // namespace metal_candle::testing
