// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// ArgReduce: the index of the first maximum or minimum along an axis, a NaN being more extreme than
// anything. Inputs: kDenseRows.
#include <array>
#include <memory>
#include <string>

#include "metal_candle/backend/cpu/axis_plan.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/reduce.h"
#include "metal_candle/backend/cpu/reduce_scalar.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/arg_reduce.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"

#ifndef METAL_CANDLE_BACKEND_CPU_ARG_REDUCE_ONCE_
#define METAL_CANDLE_BACKEND_CPU_ARG_REDUCE_ONCE_
namespace metal_candle::backend::cpu {
namespace {

struct ArgReducePlan {
  DType dtype;
  bool is_max;
  AxisPlan axis;  // Operands: x, the output.
};

// What elements of type T are compared as.
template <typename T>
using Comparable = std::conditional_t<kIsFloating<T>, float, T>;

// Whether b replaces a as the extreme found so far.
template <bool kMax, typename V>
bool beats(V b, V a) {
  if constexpr (std::is_floating_point_v<V>) {
    if (b != b) return a == a;
  }
  return kMax ? b > a : b < a;
}

template <bool kMax, typename T>
std::int32_t arg_reduce_run(const T* x, std::int64_t n, std::int64_t stride) {
  auto best = static_cast<Comparable<T>>(x[0]);
  std::int64_t index = 0;
  for (std::int64_t i = 1; i < n; ++i) {
    const auto value = static_cast<Comparable<T>>(x[i * stride]);
    if (!beats<kMax>(value, best)) continue;
    best = value;
    index = i;
  }
  return static_cast<std::int32_t>(index);
}

// Columns that are compared side by side.
constexpr std::int64_t kStrip = 256;

template <bool kMax, typename T>
void arg_reduce_strip(const AxisPlan& axis, const T* x, std::int32_t* out, std::int64_t width) {
  Comparable<T> best[kStrip];
  for (std::int64_t c = 0; c < width; ++c) {
    best[c] = static_cast<Comparable<T>>(x[c]);
    out[c] = 0;
  }
  for (std::int64_t a = 1; a < axis.n; ++a) {
    const T* p = x + a * axis.axis_strides[0];
    for (std::int64_t c = 0; c < width; ++c) {
      const auto value = static_cast<Comparable<T>>(p[c]);
      const bool better = beats<kMax>(value, best[c]);
      best[c] = better ? value : best[c];
      out[c] = better ? static_cast<std::int32_t>(a) : out[c];
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

// Finds the extreme of each block with vectors, and looks for its place only in the winning block.
template <bool kMax, typename T>
std::int32_t arg_reduce_row(const T* x, std::int64_t n) {
  constexpr std::int64_t kBlock = 512;
  constexpr float kWorst = reduce_identity < kMax ? ReduceKind::kMax : ReduceKind::kMin, float > ();
  const F32 d;
  const auto extreme = [](VecF32 a, VecF32 b)
                           HWY_ATTR { return kMax ? hn::Max(a, b) : hn::Min(a, b); };
  float best = 0;
  std::int64_t best_start = 0;
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const auto count = static_cast<std::size_t>(std::min(kBlock, n - start));
    auto nan = hn::Zero(d);
    const VecF32 v = fold_row(
        d, count, hn::Set(d, kWorst),
        [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
          const VecF32 e = load(d, x + start + i, part, kWorst);
          nan = hn::Or(nan, hn::VecFromMask(d, hn::IsNaN(e)));
          return extreme(acc, e);
        },
        extreme);
    const bool has_nan = !hn::AllFalse(d, hn::MaskFromVec(nan));
    const float value = has_nan ? std::numeric_limits<float>::quiet_NaN()
                                : hn::GetLane(kMax ? hn::MaxOfLanes(d, v) : hn::MinOfLanes(d, v));
    if (start > 0 && !beats<kMax>(value, best)) continue;
    best = value;
    best_start = start;
    if (has_nan) break;
  }
  std::int64_t i = best_start;
  for (;; ++i) {
    const auto value = static_cast<float>(x[i]);
    if (value == best || (best != best && value != value)) break;
  }
  return static_cast<std::int32_t>(i);
}

template <bool kMax, typename T>
void arg_reduce(const ArgReducePlan& plan, const T* x, std::int32_t* out) {
  const AxisPlan& axis = plan.axis;
  const std::int64_t strips = (axis.columns + kStrip - 1) / kStrip;
  const std::int64_t grain = row_grain(axis.n * std::min(axis.columns, kStrip));
  parallel_for(axis.outer * strips, grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t group = unit / strips, column = unit % strips * kStrip;
      const T* from = x + axis.offset(0, group) + column;
      std::int32_t* to = out + axis.offset(1, group) + column;
      if constexpr (kIsFloating<T>) {
        if (axis.rows) {
          *to = arg_reduce_row<kMax>(from, axis.n);
          continue;
        }
      }
      if (axis.columns > 1) {
        arg_reduce_strip<kMax>(axis, from, to, std::min(kStrip, axis.columns - column));
      } else {
        *to = arg_reduce_run<kMax>(from, axis.n, axis.axis_strides[0]);
      }
    }
  });
}

void run_arg_reduce(const ArgReducePlan& plan, const KernelArguments& arguments) {
  auto* out = static_cast<std::int32_t*>(arguments.outputs[0]);
  dispatch_dtype(plan.dtype, [&](auto zero) HWY_ATTR {
    const auto* x = static_cast<const decltype(zero)*>(arguments.inputs[0]);
    plan.is_max ? arg_reduce<true>(plan, x, out) : arg_reduce<false>(plan, x, out);
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {
HWY_EXPORT(run_arg_reduce);
}  // namespace

std::unique_ptr<Kernel> make_arg_reduce(const KernelRequest& request) {
  const auto& o = std::get<op::ArgReduce>(request.operation);
  const TensorLayout& x = request.inputs[0];
  if (x.shape[o.axis] == 0 && num_elements(request.outputs[0].shape) > 0) {
    throw ShapeError("arg_reduce: nothing to choose from along axis " + std::to_string(o.axis) +
                     " of " + to_string(x.shape));
  }
  const std::array operands = {x, reduced_layout(x, o.axis)};
  const ArgReducePlan plan{x.dtype, o.is_max, plan_axis(operands, o.axis)};
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(run_arg_reduce)(plan, arguments);
  });
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
