// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random graphs: moving elements about, by position and by index.
#include <numeric>

#include "tests/support/random_graph_builder.h"

namespace metal_candle::testing {

bool RandomGraphBuilder::rearrange() {
  const auto a = pick_any();
  if (!a) return false;
  const Tensor& x = a->tensor;
  const int rank = a->rank();
  const auto result = [&](const Tensor& y) { return give(y, a->bound, a->error); };
  const auto axis = [&] { return random_.below(2 * rank) - rank; };
  switch (random_.below(8)) {
    case 0: {
      Axes axes;
      for (int i = 0; i < rank; ++i) axes.insert(random_.below(i + 1), i);
      return rank >= 2 && result(transpose(x, axes));
    }
    case 1:
      return x.size() > 0 && result(reshape(x, {-1}));
    case 2: {
      const std::int64_t n = x.size();
      for (const std::int64_t rows : {4, 3, 2, 8}) {
        if (n > 0 && n % rows == 0) return result(reshape(x, {rows, n / rows}));
      }
      return false;
    }
    case 3:
      return rank >= 1 && result(flip(x, axis()));
    case 4:
      return rank <= 3 && result(expand_dims(x, random_.below(rank + 1)));
    case 5:
      return result(squeeze(x));
    case 6:
      return rank >= 2 && result(swapaxes(x, axis(), axis()));
    default:
      return rank >= 1 && result(roll(x, random_.below(5) - 2, axis()));
  }
}

bool RandomGraphBuilder::resize() {
  const auto a = pick_any();
  if (!a || a->rank() == 0) return false;
  const Tensor& x = a->tensor;
  const int rank = a->rank();
  const int axis = random_.below(rank);
  const std::int64_t length = x.dim(axis);
  const auto result = [&](const Tensor& y) { return give(y, a->bound, a->error); };
  switch (random_.below(8)) {
    case 0: {  // A range with a step, either way.
      if (length < 2) return false;
      std::vector<Range> ranges(static_cast<std::size_t>(rank));
      const std::int64_t start = random_.below(length);
      const bool backwards = random_.chance(30);
      ranges[static_cast<std::size_t>(axis)] =
          backwards ? Range{start, Range::kEnd, -1 - random_.below(2)}
                    : Range{start, Range::kEnd, 1 + random_.below(3)};
      return result(x.slice(ranges));
    }
    case 1: {
      if (length < 2) return false;
      std::vector<Range> ranges(static_cast<std::size_t>(rank));
      ranges[static_cast<std::size_t>(axis)] = {0, 1 + random_.below(length - 1)};
      return result(x.slice(ranges));
    }
    case 2: {
      if (2 * x.size() > kMostElements) return false;
      Shape shape = x.shape();
      shape.insert(0, 1 + random_.below(3));
      return rank <= 3 && result(broadcast_to(x, shape));
    }
    case 3: {
      Dims low(static_cast<std::size_t>(rank), 0), high = low;
      low[axis] = random_.below(3);
      high[axis] = random_.below(3);
      return x.size() < kMostElements / 4 &&
             give(pad(x, low, high, 1), std::max(a->bound, 1.0), a->error);
    }
    case 4:
      return 2 * x.size() < kMostElements && result(repeat(x, 2, axis));
    case 5: {
      Dims counts(static_cast<std::size_t>(rank), 1);
      counts[axis] = 2;
      return 2 * x.size() < kMostElements && result(tile(x, counts));
    }
    case 6: {
      if (rank < 2 || x.dtype() == DType::kBool) return false;
      const int diagonal = random_.below(3) - 1;
      return result(random_.chance(50) ? tril(x, diagonal) : triu(x, diagonal));
    }
    default: {
      if (length == 0 || length % 2 != 0) return false;
      bool given = false;
      for (const Tensor& part : split(x, 2, axis)) given = result(part) || given;
      return given;
    }
  }
}

bool RandomGraphBuilder::join() {
  const auto a = pick_any();
  if (!a || a->rank() == 0) return false;
  const int axis = random_.below(a->rank());
  const auto b = pick([&](const TameTensor& t) {
    if (t.dtype() != a->dtype() || t.rank() != a->rank()) return false;
    for (int i = 0; i < t.rank(); ++i) {
      if (i != axis && t.shape()[i] != a->shape()[i]) return false;
    }
    return true;
  });
  if (!b || a->tensor.size() + b->tensor.size() > kMostElements) return false;
  const double bound = std::max(a->bound, b->bound), error = std::max(a->error, b->error);
  if (a->shape() == b->shape() && a->rank() <= 3 && random_.chance(30)) {
    return give(stack({a->tensor, b->tensor}, axis), bound, error);
  }
  if (random_.chance(30)) {
    return give(concatenate({a->tensor, b->tensor, a->tensor}, axis), bound, error);
  }
  return give(concatenate({a->tensor, b->tensor}, axis), bound, error);
}

bool RandomGraphBuilder::read_by_index() {
  const auto a = pick_any();
  if (!a || a->rank() == 0) return false;
  const int axis = random_.below(a->rank());
  const std::int64_t length = a->shape()[axis];
  if (length == 0) return false;
  switch (random_.below(4)) {
    case 0: {
      const TameTensor i = index_leaf({1 + random_.below(4)}, length);
      return give(take(a->tensor, i.tensor, axis), a->bound, a->error);
    }
    case 1: {  // Indices that are themselves computed.
      const auto n = pick([](const TameTensor& t) {
        return (t.dtype() == DType::kI32 || t.dtype() == DType::kI64) && t.tensor.size() <= 20;
      });
      if (!n || n->tensor.size() * a->tensor.size() > kMostElements) return false;
      if (n->rank() + a->rank() > 5) return false;
      return give(take(a->tensor, remainder(n->tensor, length), axis), a->bound, a->error);
    }
    case 2: {
      Shape shape = a->shape();
      shape[axis] = 1 + random_.below(5);
      const TameTensor i = index_leaf(shape, length);
      return give(take_along_axis(a->tensor, i.tensor, axis), a->bound, a->error);
    }
    default: {
      Shape lengths = a->shape();
      lengths[axis] = 1 + random_.below(length);
      const TameTensor start = index_leaf({1}, length);
      return give(dynamic_slice(a->tensor, start.tensor, {axis}, lengths), a->bound, a->error);
    }
  }
}

bool RandomGraphBuilder::write_by_index() {
  const auto a = pick_any();
  if (!a || a->rank() == 0 || a->dtype() == DType::kBool) return false;
  const int axis = random_.below(a->rank());
  const std::int64_t length = a->shape()[axis];
  if (length == 0) return false;
  const std::int64_t block = 1 + random_.below(length);
  Shape shape = a->shape();
  shape[axis] = block;
  const TameTensor u = leaf(shape, a->dtype());
  const double bound = std::max(a->bound, u.bound);
  switch (random_.below(4)) {
    case 0: {
      Dims starts(shape.size(), 0);
      starts[axis] = random_.below(length - block + 1);
      return give(slice_update(a->tensor, u.tensor, starts), bound, a->error);
    }
    case 1: {
      const TameTensor start = index_leaf({1}, length);
      return give(dynamic_slice_update(a->tensor, u.tensor, start.tensor, {axis}), bound, a->error);
    }
    case 2: {
      const TameTensor i = index_leaf({block}, length);
      const double total = a->bound + static_cast<double>(block) * u.bound;
      if (a->is_whole() && total > 120) return false;
      return give(scatter_add(a->tensor, i.tensor, u.tensor, axis), total,
                  a->error + static_cast<double>(block) * unit(a->dtype()) * total);
    }
    default: {
      const TameTensor i = index_leaf(shape, length);
      const double total = a->bound + static_cast<double>(block) * u.bound;
      if (a->is_whole() && total > 120) return false;
      return give(scatter_add_along_axis(a->tensor, i.tensor, u.tensor, axis), total,
                  a->error + static_cast<double>(block) * unit(a->dtype()) * total);
    }
  }
}

}  // namespace metal_candle::testing
