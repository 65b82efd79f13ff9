// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random graphs: reductions, running reductions and sorts.
#include <cmath>

#include "tests/support/random_graph_builder.h"

namespace metal_candle::testing {

bool RandomGraphBuilder::reduce() {
  const auto a = pick_any();
  if (!a || a->rank() == 0 || a->tensor.size() == 0) return false;
  const Tensor& x = a->tensor;
  Axes axes;
  for (int axis = 0; axis < a->rank(); ++axis) {
    if (random_.chance(50)) axes.push_back(axis);
  }
  if (axes.empty()) axes.push_back(a->rank() - 1);
  double count = 1;
  for (const std::int64_t axis : axes)
    count *= static_cast<double>(a->shape()[static_cast<int>(axis)]);
  const bool keepdims = random_.chance(40);
  const double b = a->bound, e = a->error, r = unit(a->dtype());
  if (!a->is_real()) {
    switch (random_.below(5)) {
      case 0:
        return give(any(x, axes, keepdims), 1, 0);
      case 1:
        return give(all(x, axes, keepdims), 1, 0);
      case 2:
        return count * b < 1e6 && give(sum(x, axes, keepdims), count * b, 0);
      case 3:
        return a->is_whole() && give(max(x, axes, keepdims), b, 0);
      default:
        return a->is_whole() && give(min(x, axes, keepdims), b, 0);
    }
  }
  switch (random_.below(8)) {
    case 0:
    case 1:
      return give(sum(x, axes, keepdims), count * b, count * (e + 2 * r * b));
    case 2:
      return give(mean(x, axes, keepdims), b, e + 2 * r * b);
    case 3:
      return give(max(x, axes, keepdims), b, e);
    case 4:
      return give(min(x, axes, keepdims), b, e);
    case 5:
      return give(logsumexp(x, axes, keepdims), b + std::log(count),
                  e + 4 * r * (b + std::log(count) + 1));
    case 6:
      return give(variance(x, axes, keepdims), b * b,
                  4 * (b + e) * (e + 4 * r * b) + 4 * r * b * b);
    default:
      return count <= 4 && b <= 2 &&
             give(prod(x, axes, keepdims), std::max(1.0, std::pow(b, count)),
                  count * std::pow(std::max(1.0, b + e), count) * (e + r));
  }
}

bool RandomGraphBuilder::running() {
  const auto a =
      pick([](const TameTensor& t) { return t.rank() >= 1 && !(t.dtype() == DType::kBool); });
  if (!a) return false;
  const int axis = random_.below(a->rank());
  const auto count = static_cast<double>(a->shape()[axis]);
  const bool reverse = random_.chance(40);
  if (a->is_whole() && count * a->bound > 1e6) return false;
  switch (random_.below(3)) {
    case 0:
      return give(cummax(a->tensor, axis, reverse), a->bound, a->error);
    case 1:
      return give(cummin(a->tensor, axis, reverse), a->bound, a->error);
    default:
      return give(cumsum(a->tensor, axis, reverse), count * a->bound,
                  count * (a->error + 2 * unit(a->dtype()) * count * a->bound));
  }
}

bool RandomGraphBuilder::sorting() {
  const auto a = pick([](const TameTensor& t) { return t.rank() >= 1 && t.tensor.size() > 0; });
  if (!a) return false;
  const int axis = random_.below(a->rank());
  const bool descending = random_.chance(50);
  // Sorting does not spread errors; the order itself needs exact values.
  switch (a->exact() ? random_.below(5) : random_.below(2)) {
    case 0:
      return give(sort(a->tensor, axis, descending), a->bound, a->error);
    case 1: {
      const std::int64_t k = 1 + random_.below(a->shape()[axis]);
      return give(topk(a->tensor, k, axis).values, a->bound, a->error);
    }
    case 2:
      return give(argsort(a->tensor, axis, descending), static_cast<double>(a->shape()[axis]), 0);
    case 3:
      return give(argmax(a->tensor, axis, random_.chance(50)),
                  static_cast<double>(a->shape()[axis]), 0);
    default:
      return give(argmin(a->tensor, axis), static_cast<double>(a->shape()[axis]), 0);
  }
}

}  // namespace metal_candle::testing
