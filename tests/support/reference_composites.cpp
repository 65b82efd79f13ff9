// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Softmax, norms, rotary embeddings, linear layers and cross entropies of the reference
// interpreter. Attention has a file of its own.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/reference_kernels.h"

namespace metal_candle::testing::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// log(sum(exp(x))) of `count` elements that lie `stride` apart.
double log_sum_exp_of(const HostTensor& x, std::int64_t first, std::int64_t count,
                      std::int64_t stride) {
  double largest = -kInfinity;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, x.r(first + i * stride));
  if (std::isinf(largest)) return largest;
  double total = 0;
  for (std::int64_t i = 0; i < count; ++i) total += std::exp(x.r(first + i * stride) - largest);
  return largest + std::log(total);
}

/// The mean of f(i) over a row.
template <typename Fn>
double mean(std::int64_t count, Fn f) {
  double total = 0;
  for (std::int64_t i = 0; i < count; ++i) total += f(i);
  return total / static_cast<double>(count);
}

struct Rows {
  explicit Rows(const Shape& shape) : length(shape.back()) {
    for (int i = 0; i + 1 < shape.rank(); ++i) count *= shape[i];
  }
  std::int64_t count = 1, length;
};

HostTensor combined(Operation operation, const HostTensor& a, const HostTensor& b) {
  const HostTensor* operands[] = {&a, &b};
  const Shape shape = broadcast_shapes("reference", a.shape(), b.shape());
  return elementwise(operation, operands, {shape, a.dtype()});
}
HostTensor sum(const HostTensor& a, const HostTensor& b) {
  return combined(op::Binary{BinaryKind::kAdd}, a, b);
}

void scale_by(HostTensor& x, double factor) {
  for (double& value : x.real) value *= factor;
}

void activate(HostTensor& x, op::Activation activation) {
  if (activation == op::Activation::kNone) return;
  const UnaryKind kind = activation == op::Activation::kRelu       ? UnaryKind::kRelu
                         : activation == op::Activation::kGelu     ? UnaryKind::kGelu
                         : activation == op::Activation::kGeluTanh ? UnaryKind::kGeluTanh
                                                                   : UnaryKind::kSilu;
  const HostTensor* operand[] = {&x};
  x = elementwise(op::Unary{kind}, operand, x.spec);
}

}  // namespace

HostTensor log_sum_exp(int axis, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  const AxisView view(x.shape(), axis);
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t k = 0; k < view.inner; ++k) {
      out.r(o * view.inner + k) = log_sum_exp_of(x, view.at(o, 0, k), view.length, view.inner);
    }
  }
  return out;
}

HostTensor softmax(int axis, const HostTensor& x, bool logarithm) {
  HostTensor out(x.spec);
  const AxisView view(x.shape(), axis);
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t k = 0; k < view.inner; ++k) {
      const double lse = log_sum_exp_of(x, view.at(o, 0, k), view.length, view.inner);
      for (std::int64_t i = 0; i < view.length; ++i) {
        const double log_p = x.r(view.at(o, i, k)) - lse;
        out.r(view.at(o, i, k)) = logarithm ? log_p : std::exp(log_p);
      }
    }
  }
  return out;
}

HostTensor softmax_backward(int axis, const HostTensor& y, const HostTensor& dy) {
  HostTensor out(y.spec);
  const AxisView view(y.shape(), axis);
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t k = 0; k < view.inner; ++k) {
      double dot = 0;
      for (std::int64_t i = 0; i < view.length; ++i) {
        dot += y.r(view.at(o, i, k)) * dy.r(view.at(o, i, k));
      }
      for (std::int64_t i = 0; i < view.length; ++i) {
        const std::int64_t at = view.at(o, i, k);
        out.r(at) = y.r(at) * (dy.r(at) - dot);
      }
    }
  }
  return out;
}

HostTensor rms_norm(double eps, Inputs inputs) {
  const HostTensor& x = *inputs[0];
  HostTensor out(x.spec);
  const Rows rows(x.shape());
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const std::int64_t first = row * rows.length;
    const double ms =
        mean(rows.length, [&](std::int64_t i) { return x.r(first + i) * x.r(first + i); });
    for (std::int64_t i = 0; i < rows.length; ++i) {
      const double weight = inputs.size() > 1 ? inputs[1]->r(i) : 1;
      out.r(first + i) = x.r(first + i) / std::sqrt(ms + eps) * weight;
    }
  }
  return out;
}

Outputs rms_norm_backward(double eps, Inputs inputs) {
  const bool has_weight = inputs.size() >= 3;
  const HostTensor& x = *inputs[0];
  const HostTensor& dy = *inputs[has_weight ? 2 : 1];
  HostTensor dx(x.spec);
  HostTensor dweight(Shape{x.shape().back()}, has_weight ? inputs[1]->dtype() : DType::kF32);
  const Rows rows(x.shape());
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const std::int64_t first = row * rows.length;
    const auto g = [&](std::int64_t i) {
      return dy.r(first + i) * (has_weight ? inputs[1]->r(i) : 1);
    };
    const double ms =
        mean(rows.length, [&](std::int64_t i) { return x.r(first + i) * x.r(first + i); });
    const double r = 1 / std::sqrt(ms + eps);
    const double gx = mean(rows.length, [&](std::int64_t i) { return g(i) * x.r(first + i); });
    for (std::int64_t i = 0; i < rows.length; ++i) {
      dx.r(first + i) = r * g(i) - x.r(first + i) * r * r * r * gx;
      if (inputs.size() == 4) dx.r(first + i) += inputs[3]->r(first + i);
      dweight.r(i) += dy.r(first + i) * x.r(first + i) * r;
    }
  }
  Outputs all;
  all.push_back(std::move(dx));
  if (has_weight) all.push_back(std::move(dweight));
  return all;
}

HostTensor layer_norm(double eps, Inputs inputs) {
  const HostTensor& x = *inputs[0];
  HostTensor out(x.spec);
  const Rows rows(x.shape());
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const std::int64_t first = row * rows.length;
    const double mu = mean(rows.length, [&](std::int64_t i) { return x.r(first + i); });
    const double variance = mean(
        rows.length, [&](std::int64_t i) { return (x.r(first + i) - mu) * (x.r(first + i) - mu); });
    for (std::int64_t i = 0; i < rows.length; ++i) {
      const double weight = inputs.size() > 1 ? inputs[1]->r(i) : 1;
      const double bias = inputs.size() > 2 ? inputs[2]->r(i) : 0;
      out.r(first + i) = (x.r(first + i) - mu) / std::sqrt(variance + eps) * weight + bias;
    }
  }
  return out;
}

Outputs layer_norm_backward(double eps, Inputs inputs) {
  const bool has_weight = inputs.size() == 3;
  const HostTensor& x = *inputs[0];
  const HostTensor& dy = *inputs.back();
  HostTensor dx(x.spec);
  HostTensor dweight(Shape{x.shape().back()}, has_weight ? inputs[1]->dtype() : DType::kF32);
  const Rows rows(x.shape());
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const std::int64_t first = row * rows.length;
    const auto g = [&](std::int64_t i) {
      return dy.r(first + i) * (has_weight ? inputs[1]->r(i) : 1);
    };
    const double mu = mean(rows.length, [&](std::int64_t i) { return x.r(first + i); });
    const double variance = mean(
        rows.length, [&](std::int64_t i) { return (x.r(first + i) - mu) * (x.r(first + i) - mu); });
    const double r = 1 / std::sqrt(variance + eps);
    const auto normal = [&](std::int64_t i) { return (x.r(first + i) - mu) * r; };
    const double mean_g = mean(rows.length, g);
    const double mean_gx = mean(rows.length, [&](std::int64_t i) { return g(i) * normal(i); });
    for (std::int64_t i = 0; i < rows.length; ++i) {
      dx.r(first + i) = r * (g(i) - mean_g - normal(i) * mean_gx);
      dweight.r(i) += dy.r(first + i) * normal(i);
    }
  }
  Outputs all;
  all.push_back(std::move(dx));
  if (has_weight) all.push_back(std::move(dweight));
  return all;
}

HostTensor swiglu(Inputs inputs, const TensorSpec& spec) {
  HostTensor gate = *inputs[0];
  activate(gate, op::Activation::kSilu);
  return broadcast(combined(op::Binary{BinaryKind::kMultiply}, gate, *inputs[1]), spec);
}

Outputs swiglu_backward(Inputs inputs) {
  const HostTensor &gate = *inputs[0], &up = *inputs[1], &dy = *inputs[2];
  Outputs all(2, HostTensor(gate.spec));
  for (std::int64_t i = 0; i < gate.size(); ++i) {
    const double x = gate.r(i);
    const double s = 1 / (1 + std::exp(-x));
    all[0].r(i) = dy.r(i) * up.r(i) * (s + x * s * (1 - s));
    all[1].r(i) = dy.r(i) * x * s;
  }
  return all;
}

HostTensor rope(const op::Rope& operation, Inputs inputs) {
  const HostTensor& x = *inputs[0];
  const HostTensor& offset = *inputs[1];
  const HostTensor& frequencies = *inputs[2];
  HostTensor out = x;
  const std::int64_t width = x.shape().back();
  const std::int64_t length = x.shape()[x.shape().rank() - 2];
  const std::int64_t half = operation.dims / 2;
  for (std::int64_t row = 0; row < x.size() / std::max<std::int64_t>(width, 1); ++row) {
    const std::int64_t batch = unravel(row * width, x.shape())[0];
    const std::int64_t position = offset.n(offset.size() == 1 ? 0 : batch) + row % length;
    for (std::int64_t i = 0; i < half; ++i) {
      const std::int64_t first = row * width + (operation.interleaved ? 2 * i : i);
      const std::int64_t second = operation.interleaved ? first + 1 : first + half;
      double angle =
          static_cast<double>(position) * static_cast<double>(operation.scale) * frequencies.r(i);
      if (operation.inverse) angle = -angle;
      out.r(first) = x.r(first) * std::cos(angle) - x.r(second) * std::sin(angle);
      out.r(second) = x.r(first) * std::sin(angle) + x.r(second) * std::cos(angle);
    }
  }
  return out;
}

HostTensor lora(double scale, const HostTensor& x, const HostTensor& a, const HostTensor& b) {
  HostTensor out = matmul(matmul(x, a, x.dtype()), b, x.dtype());
  scale_by(out, scale);
  return out;
}

Outputs lora_linear(const op::LoraLinear& operation, Inputs inputs) {
  const HostTensor& x = *inputs[0];
  HostTensor out = matmul(x, *inputs[1], x.dtype());
  if (operation.has_bias) out = sum(out, *inputs[4]);
  Outputs all{sum(out, lora(static_cast<double>(operation.scale), x, *inputs[2], *inputs[3]))};
  if (operation.keeps_low) {
    all.push_back(matmul(x, *inputs[2], x.dtype()));
    scale_by(all.back(), static_cast<double>(operation.scale));
  }
  return all;
}

HostTensor linear(const op::Linear& operation, Inputs inputs, const TensorSpec& spec) {
  HostTensor out = matmul(*inputs[0], *inputs[1], spec.dtype);
  scale_by(out, static_cast<double>(operation.scale));
  std::size_t next = 2;
  if (operation.has_bias) out = sum(out, *inputs[next++]);
  activate(out, operation.activation);
  if (operation.has_residual) out = sum(out, *inputs[next]);
  return out;
}

HostTensor product_sum(const op::ProductSum& operation, Inputs inputs, const TensorSpec& spec) {
  HostTensor out = matmul(*inputs[0], *inputs[1], spec.dtype);
  for (int i = 1; i < operation.count; ++i) {
    const auto first = 2 * static_cast<std::size_t>(i);
    out = sum(out, matmul(*inputs[first], *inputs[first + 1], spec.dtype));
  }
  if (operation.has_residual) out = sum(out, *inputs.back());
  return out;
}

HostTensor norm_linear(const op::NormLinear& operation, Inputs inputs, const TensorSpec& spec) {
  const HostTensor normed = rms_norm(static_cast<double>(operation.eps), inputs.first(2));
  if (operation.gated) {
    const HostTensor gate = matmul(normed, *inputs[2], spec.dtype);
    const HostTensor up = matmul(normed, *inputs[3], spec.dtype);
    const HostTensor* const both[] = {&gate, &up};
    return swiglu(both, spec);
  }
  std::vector<const HostTensor*> operands{&normed};
  operands.insert(operands.end(), inputs.begin() + 2, inputs.end());
  return linear(operation.linear, operands, spec);
}

Outputs cross_entropy(std::int64_t ignore_index, const HostTensor& logits,
                      const HostTensor& targets) {
  Outputs all(2, HostTensor(targets.shape(), DType::kF32));
  const Rows rows(logits.shape());
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const std::int64_t first = row * rows.length;
    all[1].r(row) = log_sum_exp_of(logits, first, rows.length, 1);
    if (targets.n(row) == ignore_index) continue;
    const std::int64_t target = checked_index(targets.n(row), rows.length);
    all[0].r(row) = all[1].r(row) - logits.r(first + target);
  }
  return all;
}

HostTensor cross_entropy_backward(std::int64_t ignore_index, const HostTensor& logits,
                                  const HostTensor& targets, const HostTensor& logsumexp,
                                  const HostTensor& dloss) {
  HostTensor out(logits.spec);
  const Rows rows(logits.shape());
  for (std::int64_t row = 0; row < rows.count; ++row) {
    if (targets.n(row) == ignore_index) continue;
    const std::int64_t first = row * rows.length;
    const std::int64_t target = checked_index(targets.n(row), rows.length);
    for (std::int64_t i = 0; i < rows.length; ++i) {
      const double p = std::exp(logits.r(first + i) - logsumexp.r(row));
      out.r(first + i) = (p - (i == target ? 1 : 0)) * dloss.r(row);
    }
  }
  return out;
}

Outputs linear_cross_entropy(std::int64_t ignore_index, Inputs inputs) {
  const HostTensor logits = matmul(*inputs[0], *inputs[1], DType::kF32);
  Outputs all = cross_entropy(ignore_index, logits, *inputs[2]);
  HostTensor ones(all[0].spec);
  for (double& value : ones.real) value = 1;
  const Outputs gradients = linear_cross_entropy_backward(
      ignore_index,
      std::vector<const HostTensor*>{inputs[0], inputs[1], inputs[2], &all[1], &ones});
  all.push_back(gradients[0]);
  return all;
}

Outputs linear_cross_entropy_backward(std::int64_t ignore_index, Inputs inputs) {
  const HostTensor& x = *inputs[0];
  const HostTensor& weight = *inputs[1];
  const HostTensor logits = matmul(x, weight, DType::kF32);
  const HostTensor dlogits =
      cross_entropy_backward(ignore_index, logits, *inputs[2], *inputs[3], *inputs[4]);
  Outputs all = {HostTensor(x.spec), HostTensor(weight.spec)};
  const Rows rows(x.shape());
  const std::int64_t n = weight.shape().back();
  for (std::int64_t row = 0; row < rows.count; ++row) {
    for (std::int64_t k = 0; k < rows.length; ++k) {
      for (std::int64_t j = 0; j < n; ++j) {
        all[0].r(row * rows.length + k) += dlogits.r(row * n + j) * weight.r(k * n + j);
        all[1].r(k * n + j) += x.r(row * rows.length + k) * dlogits.r(row * n + j);
      }
    }
  }
  return all;
}

}  // namespace metal_candle::testing::reference
