// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// ScatterAdd and ScatterAddAlongAxis. Threads share out what is written, never what is read, and
// each element adds its updates up in order of position: the result does not depend on the number
// of threads. f16 and bf16 add up in f32 and round once.
//
// Inputs: kContiguous, all of them. The output may overwrite x (input 0).
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/index.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/reduce_scalar.h"
#include "metal_candle/backend/cpu/row_map.h"

namespace metal_candle::backend::cpu {
namespace {

constexpr std::int64_t kStrip = 256;  // Columns a thread takes at a time.

struct ScatterPlan {
  DType dtype;
  AxisView x;
  std::int64_t count;  // Indices along the axis.
  Indices indices;
};

// A sum of what T adds up in.
template <typename T>
struct Accumulate {
  using Type = std::conditional_t<kIsFloating<T>, float, T>;
  static Type add(Type a, T b) { return reduce_two<ReduceKind::kSum>(a, static_cast<Type>(b)); }
};

void copy_base(const void* x, void* out, std::int64_t bytes) {
  if (x == out) return;
  constexpr std::int64_t kBytes = 65536;
  parallel_for(bytes, kBytes, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(static_cast<std::byte*>(out) + begin, static_cast<const std::byte*>(x) + begin,
                static_cast<std::size_t>(end - begin));
  });
}

// Updates by the row that they go to: those of group g, in order of position, are
// positions[starts[g]] up to positions[starts[g + 1]].
struct Groups {
  std::vector<std::int64_t> rows, starts, positions;
};

Groups group_updates(const ScatterPlan& plan, const void* indices) {
  std::vector<std::pair<std::int64_t, std::int64_t>> order;
  order.reserve(static_cast<std::size_t>(plan.count));
  for (std::int64_t i = 0; i < plan.count; ++i)
    order.emplace_back(plan.indices.read(indices, i), i);
  std::sort(order.begin(), order.end());
  Groups groups;
  groups.positions.reserve(order.size());
  for (const auto& [row, position] : order) {
    if (groups.rows.empty() || groups.rows.back() != row) {
      groups.rows.push_back(row);
      groups.starts.push_back(static_cast<std::int64_t>(groups.positions.size()));
    }
    groups.positions.push_back(position);
  }
  groups.starts.push_back(plan.count);
  return groups;
}

// Adds one group's updates to `width` columns of its row. `updates` begins at those columns.
template <typename T>
void add_group(const Groups& groups, std::size_t group, std::int64_t inner, const T* updates,
               T* out, std::int64_t width) {
  using A = Accumulate<T>;
  typename A::Type acc[kStrip];
  for (std::int64_t c = 0; c < width; ++c) acc[c] = static_cast<typename A::Type>(out[c]);
  for (std::int64_t i = groups.starts[group]; i < groups.starts[group + 1]; ++i) {
    const T* update = updates + groups.positions[static_cast<std::size_t>(i)] * inner;
    for (std::int64_t c = 0; c < width; ++c) acc[c] = A::add(acc[c], update[c]);
  }
  for (std::int64_t c = 0; c < width; ++c) out[c] = static_cast<T>(acc[c]);
}

template <typename T>
void scatter_add(const ScatterPlan& plan, const KernelArguments& arguments) {
  const auto* updates = static_cast<const T*>(arguments.inputs[2]);
  T* out = static_cast<T*>(arguments.outputs[0]);
  const Groups groups = group_updates(plan, arguments.inputs[1]);
  const AxisView& x = plan.x;
  copy_base(arguments.inputs[0], out,
            x.outer * x.length * x.inner * static_cast<std::int64_t>(sizeof(T)));
  const auto rows = static_cast<std::int64_t>(groups.rows.size());
  if (rows == 0) return;
  const std::int64_t strips = (x.inner + kStrip - 1) / kStrip;
  const std::int64_t work = plan.count * std::min(x.inner, kStrip) / rows;
  parallel_for(x.outer * rows * strips, row_grain(work), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t column = unit % strips * kStrip;
      const auto group = static_cast<std::size_t>(unit / strips % rows);
      const std::int64_t outer = unit / strips / rows;
      add_group(groups, group, x.inner, updates + outer * plan.count * x.inner + column,
                out + (outer * x.length + groups.rows[group]) * x.inner + column,
                std::min(kStrip, x.inner - column));
    }
  });
}

// The updates of one line along the axis, whose elements are `inner` apart. `first` is the position
// of its first index.
template <typename T>
void add_line(const ScatterPlan& plan, const void* indices, std::int64_t first, const T* updates,
              T* out, std::vector<float>& sums) {
  using A = Accumulate<T>;
  const std::int64_t inner = plan.x.inner;
  const bool rounds = kIsFloating<T> && sizeof(T) < sizeof(float) && plan.count > 1;
  if (!rounds) {
    for (std::int64_t i = 0; i < plan.count; ++i) {
      T& target = out[plan.indices.read(indices, first + i * inner) * inner];
      target = static_cast<T>(A::add(static_cast<typename A::Type>(target), updates[i * inner]));
    }
    return;
  }
  sums.resize(static_cast<std::size_t>(plan.x.length));
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] = static_cast<float>(out[static_cast<std::int64_t>(i) * inner]);
  }
  for (std::int64_t i = 0; i < plan.count; ++i) {
    const std::int64_t index = plan.indices.read(indices, first + i * inner);
    sums[static_cast<std::size_t>(index)] += static_cast<float>(updates[i * inner]);
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    out[static_cast<std::int64_t>(i) * inner] = static_cast<T>(sums[i]);
  }
}

template <typename T>
void scatter_add_along_axis(const ScatterPlan& plan, const KernelArguments& arguments) {
  const auto* updates = static_cast<const T*>(arguments.inputs[2]);
  T* out = static_cast<T*>(arguments.outputs[0]);
  const AxisView& x = plan.x;
  copy_base(arguments.inputs[0], out,
            x.outer * x.length * x.inner * static_cast<std::int64_t>(sizeof(T)));
  parallel_for(x.outer * x.inner, row_grain(4 * plan.count),
               [&](std::int64_t begin, std::int64_t end) {
                 std::vector<float> sums;
                 for (std::int64_t line = begin; line < end; ++line) {
                   const std::int64_t outer = line / x.inner, column = line % x.inner;
                   const std::int64_t first = outer * plan.count * x.inner + column;
                   add_line(plan, arguments.inputs[1], first, updates + first,
                            out + outer * x.length * x.inner + column, sums);
                 }
               });
}

}  // namespace

std::unique_ptr<Kernel> make_scatter(const KernelRequest& request) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& indices = request.inputs[1];
  if (const auto* o = std::get_if<op::ScatterAdd>(&request.operation)) {
    const AxisView view(x.shape, o->axis);
    const ScatterPlan plan{x.dtype, view, num_elements(indices.shape),
                           Indices("scatter_add", indices.dtype, view.length)};
    return make_cpu_kernel([plan](const KernelArguments& arguments) {
      dispatch_dtype(plan.dtype, [&](auto zero) { scatter_add<decltype(zero)>(plan, arguments); });
    });
  }
  const int axis = std::get<op::ScatterAddAlongAxis>(request.operation).axis;
  const AxisView view(x.shape, axis);
  const ScatterPlan plan{x.dtype, view, indices.shape[axis],
                         Indices("scatter_add_along_axis", indices.dtype, view.length)};
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    dispatch_dtype(plan.dtype,
                   [&](auto zero) { scatter_add_along_axis<decltype(zero)>(plan, arguments); });
  });
}

}  // namespace metal_candle::backend::cpu
