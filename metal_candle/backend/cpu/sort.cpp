// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sort, ArgSort and ArgTopK along an axis, stable, NaN last in either order. Each element becomes
// an unsigned key that orders as wanted, paired with its position: equal keys then keep their order
// without a stable algorithm.
//
// Inputs: kDenseRows. Sort may overwrite input 0.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "metal_candle/backend/cpu/axis_plan.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/reduce_scalar.h"

namespace metal_candle::backend::cpu {
namespace {

struct SortPlan {
  DType dtype;
  AxisPlan axis;  // Operands: x, the output.
  bool descending;
  std::int64_t count;  // Elements written: n, or k of ArgTopK.
};

// A key in the upper half, the position in the lower. i64 needs more room.
using Packed = std::uint64_t;
struct Wide {
  std::uint64_t key;
  std::uint32_t position;
  friend bool operator<(const Wide& a, const Wide& b) {
    return a.key != b.key ? a.key < b.key : a.position < b.position;
  }
};
template <typename T>
using Item = std::conditional_t<std::is_same_v<T, std::int64_t>, Wide, Packed>;

// A key as wide as kBits needs, ascending in the order asked for.
template <typename T>
auto sort_key(T value, bool descending) {
  if constexpr (kIsFloating<T>) {
    const auto f = static_cast<float>(value);
    if (f != f) return ~std::uint32_t{0};
    // Adding zero makes -0 equal to 0.
    const auto bits = std::bit_cast<std::uint32_t>(f + 0.0f);
    const std::uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    // No number has the key of NaN: infinity has 0xff800000, -infinity 0x007fffff.
    return descending ? ~ascending : ascending;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    const std::uint64_t ascending = static_cast<std::uint64_t>(value) ^ (std::uint64_t{1} << 63);
    return descending ? ~ascending : ascending;
  } else {
    // Signed types are shifted up, so that the least becomes 0.
    constexpr std::int64_t kShift = std::is_signed_v<T> ? INT64_C(1) << 31 : 0;
    const auto ascending = static_cast<std::uint32_t>(static_cast<std::int64_t>(value) + kShift);
    return descending ? ~ascending : ascending;
  }
}

template <typename T>
Item<T> make_item(T value, std::int64_t position, bool descending) {
  const auto p = static_cast<std::uint32_t>(position);
  if constexpr (std::is_same_v<T, std::int64_t>) {
    return {sort_key(value, descending), p};
  } else {
    return Packed{sort_key(value, descending)} << 32 | p;
  }
}
std::uint32_t position_of(Packed item) { return static_cast<std::uint32_t>(item); }
std::uint32_t position_of(const Wide& item) { return item.position; }

// Below this, comparing is faster than counting.
constexpr std::int64_t kMinRadix = 512;

// Sorts by the upper half, a byte at a time from the lowest; bytes that are all equal are skipped.
// Items come in order of position, so stability gives the order wanted.
void radix_sort(std::vector<Packed>& items, std::vector<Packed>& other) {
  std::array<std::array<std::uint32_t, 256>, 4> counts{};
  for (const Packed item : items) {
    for (std::size_t byte = 0; byte < 4; ++byte) ++counts[byte][item >> (32 + 8 * byte) & 255];
  }
  other.resize(items.size());
  for (std::size_t byte = 0; byte < 4; ++byte) {
    auto& count = counts[byte];
    const std::size_t shift = 32 + 8 * byte;
    if (count[items[0] >> shift & 255] == items.size()) continue;
    std::uint32_t start = 0;
    for (std::uint32_t& c : count) start += std::exchange(c, start);
    for (const Packed item : items) other[count[item >> shift & 255]++] = item;
    items.swap(other);
  }
}

void sort_items(std::vector<Packed>& items, std::vector<Packed>& other) {
  if (static_cast<std::int64_t>(items.size()) < kMinRadix) {
    std::sort(items.begin(), items.end());
  } else {
    radix_sort(items, other);
  }
}
void sort_items(std::vector<Wide>& items, std::vector<Wide>&) {
  std::sort(items.begin(), items.end());
}

// Whether any of a block might be larger than the smallest of those selected: a comparison without
// branches, which compilers vectorise. A NaN on either side is left to the keys.
constexpr std::int64_t kBlock = 64;
template <typename T>
bool may_enter(const T* x, std::int64_t count, std::int64_t stride, T smallest) {
  using Value = std::conditional_t<kIsFloating<T>, float, T>;
  const auto limit = static_cast<Value>(smallest);
  int any = 0;
  if (stride == 1) {
    for (std::int64_t i = 0; i < count; ++i) any |= !(static_cast<Value>(x[i]) <= limit);
  } else {
    for (std::int64_t i = 0; i < count; ++i) any |= !(static_cast<Value>(x[i * stride]) <= limit);
  }
  return any != 0;
}

// Leaves the first k items in order. Small k: a heap of the best so far, which most elements of a
// long row do not enter.
template <typename T>
void select_items(const T* x, std::int64_t n, std::int64_t stride, std::int64_t k,
                  std::vector<Item<T>>& items) {
  items.clear();
  if (k == 0) return;
  const bool use_heap = k <= n / 16;
  const std::int64_t filled = use_heap ? k : n;
  for (std::int64_t i = 0; i < filled; ++i) items.push_back(make_item(x[i * stride], i, true));
  if (!use_heap) {
    std::nth_element(items.begin(), items.begin() + (k - 1), items.end());
    items.resize(static_cast<std::size_t>(k));
    std::sort(items.begin(), items.end());
    return;
  }
  std::make_heap(items.begin(), items.end());
  for (std::int64_t start = k; start < n; start += kBlock) {
    const std::int64_t stop = std::min(n, start + kBlock);
    if (!may_enter(x + start * stride, stop - start, stride,
                   x[std::int64_t{position_of(items.front())} * stride])) {
      continue;
    }
    for (std::int64_t i = start; i < stop; ++i) {
      const Item<T> item = make_item(x[i * stride], i, true);
      if (!(item < items.front())) continue;
      std::pop_heap(items.begin(), items.end());
      items.back() = item;
      std::push_heap(items.begin(), items.end());
    }
  }
  std::sort_heap(items.begin(), items.end());
}

// Calls fn(x of the line, offset of its output, scratch) for each line along the axis, in parallel.
template <typename T, typename Fn>
void for_each_line(const SortPlan& plan, const T* x, Fn&& fn) {
  const AxisPlan& axis = plan.axis;
  parallel_for(
      axis.outer * axis.columns, row_grain(8 * axis.n), [&](std::int64_t begin, std::int64_t end) {
        std::vector<Item<T>> items, other;
        for (std::int64_t line = begin; line < end; ++line) {
          const std::int64_t group = line / axis.columns, column = line % axis.columns;
          fn(x + axis.offset(0, group) + column, axis.offset(1, group) + column, items, other);
        }
      });
}

template <typename T>
void sort_line(const SortPlan& plan, const T* x, std::vector<Item<T>>& items,
               std::vector<Item<T>>& other) {
  items.resize(static_cast<std::size_t>(plan.axis.n));
  const std::int64_t stride = plan.axis.axis_strides[0];
  for (std::int64_t i = 0; i < plan.axis.n; ++i) {
    items[static_cast<std::size_t>(i)] = make_item(x[i * stride], i, plan.descending);
  }
  sort_items(items, other);
}

template <typename T>
void run_sort(const SortPlan& plan, const T* x, T* out) {
  const std::int64_t from = plan.axis.axis_strides[0], to = plan.axis.axis_strides[1];
  for_each_line(plan, x, [&](const T* line, std::int64_t target, auto& items, auto& other) {
    sort_line(plan, line, items, other);
    // Gathered aside first, since the output may be the input.
    std::vector<T> sorted;
    sorted.reserve(items.size());
    for (const auto& item : items) sorted.push_back(line[position_of(item) * from]);
    for (std::size_t i = 0; i < items.size(); ++i) {
      out[target + static_cast<std::int64_t>(i) * to] = sorted[i];
    }
  });
}

template <typename Items>
void write_positions(const Items& items, std::int32_t* out, std::int64_t stride) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    out[static_cast<std::int64_t>(i) * stride] = static_cast<std::int32_t>(position_of(items[i]));
  }
}

template <typename T>
void run_arg_sort(const SortPlan& plan, const T* x, std::int32_t* out) {
  for_each_line(plan, x, [&](const T* line, std::int64_t target, auto& items, auto& other) {
    sort_line(plan, line, items, other);
    write_positions(items, out + target, plan.axis.axis_strides[1]);
  });
}

template <typename T>
void run_arg_top_k(const SortPlan& plan, const T* x, std::int32_t* out) {
  for_each_line(plan, x, [&](const T* line, std::int64_t target, auto& items, auto&) {
    select_items(line, plan.axis.n, plan.axis.axis_strides[0], plan.count, items);
    write_positions(items, out + target, plan.axis.axis_strides[1]);
  });
}

SortPlan make_plan(const KernelRequest& request, int axis, bool descending) {
  const TensorLayout& x = request.inputs[0];
  if (x.shape[axis] > INT32_MAX) throw ShapeError("sort: an axis longer than 2^31 - 1");
  // The output of ArgTopK is shorter along the axis; its own strides place it.
  TensorLayout out = request.outputs[0];
  const std::int64_t count = out.shape[axis];
  out.shape = x.shape;
  const std::array operands = {x, out};
  return {x.dtype, plan_axis(operands, axis), descending, count};
}

}  // namespace

std::unique_ptr<Kernel> make_sort(const KernelRequest& request) {
  const Operation& operation = request.operation;
  if (const auto* o = std::get_if<op::Sort>(&operation)) {
    return make_cpu_kernel(
        [plan = make_plan(request, o->axis, o->descending)](const KernelArguments& arguments) {
          dispatch_dtype(plan.dtype, [&](auto zero) {
            using T = decltype(zero);
            run_sort(plan, static_cast<const T*>(arguments.inputs[0]),
                     static_cast<T*>(arguments.outputs[0]));
          });
        });
  }
  const auto* sort = std::get_if<op::ArgSort>(&operation);
  const int axis = sort ? sort->axis : std::get<op::ArgTopK>(operation).axis;
  return make_cpu_kernel([plan = make_plan(request, axis, !sort || sort->descending),
                          top_k = !sort](const KernelArguments& arguments) {
    auto* out = static_cast<std::int32_t*>(arguments.outputs[0]);
    dispatch_dtype(plan.dtype, [&](auto zero) {
      const auto* x = static_cast<const decltype(zero)*>(arguments.inputs[0]);
      top_k ? run_arg_top_k(plan, x, out) : run_arg_sort(plan, x, out);
    });
  });
}

}  // namespace metal_candle::backend::cpu
