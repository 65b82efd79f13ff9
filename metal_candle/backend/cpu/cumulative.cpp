// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cumulative: running sums, products, maxima and minima along an axis. Floating values accumulate
// in double and round once an element. Inputs: kDenseRows; the output may overwrite input 0.
#include <array>
#include <memory>

#include "metal_candle/backend/cpu/axis_plan.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/reduce.h"
#include "metal_candle/backend/cpu/reduce_scalar.h"

namespace metal_candle::backend::cpu {
namespace {

// Columns that run side by side.
constexpr std::int64_t kStrip = 256;

struct CumulativePlan {
  DType dtype;
  AxisPlan axis;  // Operands: x, the output.
  bool reverse;
};

template <ReduceKind kKind, typename T>
void scan_strip(const CumulativePlan& plan, const T* x, T* out, std::int64_t count) {
  using Running = std::conditional_t<kIsFloating<T>, double, T>;
  using Read = std::conditional_t<kIsFloating<T>, float, T>;
  Running totals[kStrip];
  std::fill_n(totals, count, reduce_identity<kKind, Running>());
  for (std::int64_t step = 0; step < plan.axis.n; ++step) {
    const std::int64_t a = plan.reverse ? plan.axis.n - 1 - step : step;
    const T* from = x + a * plan.axis.axis_strides[0];
    T* to = out + a * plan.axis.axis_strides[1];
    for (std::int64_t c = 0; c < count; ++c) {
      totals[c] = reduce_two<kKind>(totals[c], static_cast<Running>(static_cast<Read>(from[c])));
      to[c] = static_cast<T>(static_cast<Read>(totals[c]));
    }
  }
}

template <ReduceKind kKind, typename T>
void scan(const CumulativePlan& plan, const KernelArguments& arguments) {
  const AxisPlan& axis = plan.axis;
  const T* x = static_cast<const T*>(arguments.inputs[0]);
  T* out = static_cast<T*>(arguments.outputs[0]);
  const std::int64_t strips = (axis.columns + kStrip - 1) / kStrip;
  const std::int64_t grain = row_grain(axis.n * std::min(axis.columns, kStrip));
  parallel_for(axis.outer * strips, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t group = unit / strips, column = unit % strips * kStrip;
      scan_strip<kKind>(plan, x + axis.offset(0, group) + column,
                        out + axis.offset(1, group) + column,
                        std::min(kStrip, axis.columns - column));
    }
  });
}

template <ReduceKind kKind>
std::unique_ptr<Kernel> make(const CumulativePlan& plan) {
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    dispatch_dtype(plan.dtype, [&](auto zero) { scan<kKind, decltype(zero)>(plan, arguments); });
  });
}

}  // namespace

std::unique_ptr<Kernel> make_cumulative(const KernelRequest& request) {
  const auto& o = std::get<op::Cumulative>(request.operation);
  const std::array operands = {request.inputs[0], request.outputs[0]};
  const CumulativePlan plan{operands[0].dtype, plan_axis(operands, o.axis), o.reverse};
  switch (o.kind) {
    case ReduceKind::kSum:
      return make<ReduceKind::kSum>(plan);
    case ReduceKind::kProd:
      return make<ReduceKind::kProd>(plan);
    case ReduceKind::kMax:
      return make<ReduceKind::kMax>(plan);
    case ReduceKind::kMin:
      return make<ReduceKind::kMin>(plan);
    default:
      throw DTypeError("cumulative: any and all have no running form");
  }
}

}  // namespace metal_candle::backend::cpu
