// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions, scans, sorting and the matrix product of the reference interpreter.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "tests/support/reference_kernels.h"

namespace metal_candle::testing::reference {
namespace {

double combine(ReduceKind kind, double a, double b) {
  switch (kind) {
    case ReduceKind::kSum:
      return a + b;
    case ReduceKind::kProd:
      return a * b;
    case ReduceKind::kMax:
      return std::isnan(a) || std::isnan(b) ? a + b : std::max(a, b);
    case ReduceKind::kMin:
      return std::isnan(a) || std::isnan(b) ? a + b : std::min(a, b);
    case ReduceKind::kAny:
      return a != 0 || b != 0 ? 1 : 0;
    case ReduceKind::kAll:
      return a != 0 && b != 0 ? 1 : 0;
  }
  return 0;
}

std::int64_t combine(ReduceKind kind, std::int64_t a, std::int64_t b) {
  const auto ua = static_cast<std::uint64_t>(a);
  const auto ub = static_cast<std::uint64_t>(b);
  switch (kind) {
    case ReduceKind::kSum:
      return static_cast<std::int64_t>(ua + ub);
    case ReduceKind::kProd:
      return static_cast<std::int64_t>(ua * ub);
    case ReduceKind::kMax:
      return std::max(a, b);
    case ReduceKind::kMin:
      return std::min(a, b);
    case ReduceKind::kAny:
      return a != 0 || b != 0 ? 1 : 0;
    case ReduceKind::kAll:
      return a != 0 && b != 0 ? 1 : 0;
  }
  return 0;
}

template <typename T>
T identity(ReduceKind kind) {
  using Limits = std::numeric_limits<T>;
  switch (kind) {
    case ReduceKind::kProd:
    case ReduceKind::kAll:
      return 1;
    case ReduceKind::kMax:
      return Limits::has_infinity ? -Limits::infinity() : Limits::min();
    case ReduceKind::kMin:
      return Limits::has_infinity ? Limits::infinity() : Limits::max();
    default:
      return 0;
  }
}

/// The element in the result's kind: any() and all() of floats are bool, and a sum of bool counts.
template <typename T>
T element(const HostTensor& x, std::int64_t i) {
  if constexpr (std::is_same_v<T, double>) {
    return x.r(i);
  } else {
    return x.is_real() ? std::int64_t{x.r(i) != 0} : x.n(i);
  }
}

template <typename T>
std::vector<T> reduce_elements(const op::Reduce& operation, const HostTensor& x,
                               std::size_t count) {
  std::vector<T> result(count, identity<T>(operation.kind));
  Shape kept = x.shape();
  for (const std::int64_t axis : operation.axes) kept[static_cast<int>(axis)] = 1;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    Dims index = unravel(i, x.shape());
    for (const std::int64_t axis : operation.axes) index[static_cast<int>(axis)] = 0;
    T& total = result[static_cast<std::size_t>(ravel(index, kept))];
    total = combine(operation.kind, total, element<T>(x, i));
  }
  return result;
}

/// Whether a comes before b in the order asked for; NaN is last in both.
bool comes_before(const HostTensor& x, std::int64_t a, std::int64_t b, bool descending) {
  if (!x.is_real()) return descending ? x.n(a) > x.n(b) : x.n(a) < x.n(b);
  const double va = x.r(a), vb = x.r(b);
  if (std::isnan(va) || std::isnan(vb)) return !std::isnan(va) && std::isnan(vb);
  return descending ? va > vb : va < vb;
}

/// Whether a is more extreme than b; NaN is extreme.
bool beats(const HostTensor& x, std::int64_t a, std::int64_t b, bool is_max) {
  if (!x.is_real()) return is_max ? x.n(a) > x.n(b) : x.n(a) < x.n(b);
  const double va = x.r(a), vb = x.r(b);
  if (std::isnan(va) || std::isnan(vb)) return std::isnan(va) && !std::isnan(vb);
  return is_max ? va > vb : va < vb;
}

}  // namespace

AxisView::AxisView(const Shape& shape, int axis) : length(shape[axis]) {
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
}

HostTensor reduce(const op::Reduce& operation, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  const auto count = static_cast<std::size_t>(out.size());
  if (out.is_real()) {
    out.real = reduce_elements<double>(operation, x, count);
  } else {
    out.integer = reduce_elements<std::int64_t>(operation, x, count);
    for (std::int64_t& value : out.integer) value = wrap_to(value, spec.dtype);
  }
  return out;
}

HostTensor arg_reduce(const op::ArgReduce& operation, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  const AxisView view(x.shape(), operation.axis);
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t k = 0; k < view.inner; ++k) {
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < view.length; ++i) {
        if (beats(x, view.at(o, i, k), view.at(o, best, k), operation.is_max)) best = i;
      }
      out.n(o * view.inner + k) = best;
    }
  }
  return out;
}

HostTensor cumulative(const op::Cumulative& operation, const HostTensor& x,
                      const TensorSpec& spec) {
  HostTensor out(spec);
  const AxisView view(x.shape(), operation.axis);
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t k = 0; k < view.inner; ++k) {
      for (std::int64_t step = 0; step < view.length; ++step) {
        const std::int64_t i = operation.reverse ? view.length - 1 - step : step;
        const std::int64_t here = view.at(o, i, k);
        const std::int64_t before = view.at(o, operation.reverse ? i + 1 : i - 1, k);
        if (out.is_real()) {
          out.r(here) = step == 0 ? x.r(here) : combine(operation.kind, out.r(before), x.r(here));
        } else {
          out.n(here) = step == 0 ? x.n(here) : combine(operation.kind, out.n(before), x.n(here));
          out.n(here) = wrap_to(out.n(here), spec.dtype);
        }
      }
    }
  }
  return out;
}

HostTensor argsort(int axis, bool descending, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  const AxisView view(x.shape(), axis);
  const AxisView kept(spec.shape, axis);
  std::vector<std::int64_t> order(static_cast<std::size_t>(view.length));
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t k = 0; k < view.inner; ++k) {
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return comes_before(x, view.at(o, a, k), view.at(o, b, k), descending);
      });
      for (std::int64_t i = 0; i < kept.length; ++i) {
        out.n(kept.at(o, i, k)) = order[static_cast<std::size_t>(i)];
      }
    }
  }
  return out;
}

HostTensor top_p_threshold(double p, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  const std::int64_t n = x.shape().back();
  for (std::int64_t row = 0; row < out.size(); ++row) {
    const auto begin = x.real.begin() + static_cast<std::ptrdiff_t>(row * n);
    std::vector<double> sorted(begin, begin + static_cast<std::ptrdiff_t>(n));
    double total = 0;
    const double largest = *std::max_element(sorted.begin(), sorted.end());
    for (const double value : sorted) total += std::exp(value - largest);
    out.r(row) = std::numeric_limits<double>::infinity();
    if (std::isnan(total)) continue;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double before = 0;
    for (const double value : sorted) {
      if (before / total >= p) break;
      out.r(row) = value;
      before += std::exp(value - largest);
    }
  }
  return out;
}

HostTensor draw(const HostTensor& x, const HostTensor& u, const TensorSpec& spec) {
  HostTensor out(spec);
  const std::int64_t n = x.shape().back();
  for (std::int64_t row = 0; row < out.size(); ++row) {
    const auto begin = x.real.begin() + static_cast<std::ptrdiff_t>(row * n);
    std::vector<double> weights(begin, begin + static_cast<std::ptrdiff_t>(n));
    const double largest = *std::max_element(weights.begin(), weights.end());
    double total = 0;
    for (double& weight : weights) total += weight = std::exp(weight - largest);
    out.n(row) = -1;
    double sum = 0;
    for (std::int64_t i = 0; i < n && !std::isnan(total); ++i) {
      const double weight = weights[static_cast<std::size_t>(i)];
      if (weight > 0) out.n(row) = i;
      sum += weight;
      if (sum > u.r(row) * total) break;
    }
  }
  return out;
}

HostTensor matmul(const HostTensor& a, const HostTensor& b, DType dtype) {
  const Shape& sa = a.shape();
  const Shape& sb = b.shape();
  const std::int64_t m = sa[sa.rank() - 2], depth = sa.back(), n = sb.back();
  Shape batch_a = sa, batch_b = sb;
  for (int i = 0; i < 2; ++i) {
    batch_a.erase(batch_a.rank() - 1);
    batch_b.erase(batch_b.rank() - 1);
  }
  Shape shape = broadcast_shapes("matmul", batch_a, batch_b);
  const Shape batch = shape;
  shape.push_back(m);
  shape.push_back(n);
  HostTensor out(shape, dtype);
  for (std::int64_t position = 0; position < num_elements(batch); ++position) {
    const Dims index = unravel(position, batch);
    const std::int64_t first_a = broadcast_position(index, batch_a) * m * depth;
    const std::int64_t first_b = broadcast_position(index, batch_b) * depth * n;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const std::int64_t at = (position * m + i) * n + j;
        double total = 0;
        std::uint64_t integer_total = 0;  // Unsigned, where overflow wraps.
        for (std::int64_t k = 0; k < depth; ++k) {
          const std::int64_t in_a = first_a + i * depth + k;
          const std::int64_t in_b = first_b + k * n + j;
          if (out.is_real()) {
            total += a.r(in_a) * b.r(in_b);
          } else {
            integer_total +=
                static_cast<std::uint64_t>(a.n(in_a)) * static_cast<std::uint64_t>(b.n(in_b));
          }
        }
        if (out.is_real()) {
          out.r(at) = total;
        } else {
          out.n(at) = wrap_to(static_cast<std::int64_t>(integer_total), dtype);
        }
      }
    }
  }
  return out;
}

}  // namespace metal_candle::testing::reference
