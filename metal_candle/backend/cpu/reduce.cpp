// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reduce: floating sums, products, maxima and minima as vectors of f32; integers, bool and the
// logical reductions through reduce_scalar.h.
//
// Inputs: Reduce kAny, ArgReduce and Cumulative kDenseRows. Cumulative may overwrite input 0.
#include "metal_candle/backend/cpu/reduce.h"

#include <string>

#include "metal_candle/backend/cpu/reduce_scalar.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/reduce.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

template <ReduceKind kKind>
HWY_INLINE VecF32 join_vectors(VecF32 a, VecF32 b) {
  if constexpr (kKind == ReduceKind::kSum) {
    return hn::Add(a, b);
  } else if constexpr (kKind == ReduceKind::kProd) {
    return hn::Mul(a, b);
  } else {
    // What Max and Min do with a NaN depends on the processor.
    const VecF32 extreme = kKind == ReduceKind::kMax ? hn::Max(a, b) : hn::Min(a, b);
    return hn::IfThenElse(hn::IsNaN(a), a, hn::IfThenElse(hn::IsNaN(b), b, extreme));
  }
}

// A policy for run_reduce(), see reduce.h.
template <ReduceKind kKind, typename T>
struct VectorReduce : ScalarReduce<kKind, T> {
  using Scalar = ScalarReduce<kKind, T>;
  static constexpr float kIdentity = reduce_identity<kKind, float>();

  static float fold_run(const T* p, std::int64_t count, std::int64_t stride) {
    // Accumulators that run for longer lose more to rounding than halving costs in time.
    const F32 d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const std::int64_t block = 256 * lanes;
    if (stride != 1 || count < lanes) {
      return Scalar::fold_run(p, count, stride);
    }
    if (count > block) {
      const std::int64_t half = count / 2 / block * block + (count < 2 * block ? block : 0);
      return Scalar::join(fold_run(p, half, 1), fold_run(p + half, count - half, 1));
    }
    const VecF32 v = fold_row(
        d, static_cast<std::size_t>(count), hn::Set(d, kIdentity),
        [&](std::size_t i, auto part, VecF32 acc)
            HWY_ATTR { return join_vectors<kKind>(acc, load(d, p + i, part, kIdentity)); },
        [](VecF32 a, VecF32 b) HWY_ATTR { return join_vectors<kKind>(a, b); });
    HWY_ALIGN float values[kMaxLanes];
    hn::Store(v, d, values);
    // In halves, for the same reason as in join_all().
    for (std::size_t half = hn::Lanes(d) / 2; half > 0; half /= 2) {
      for (std::size_t i = 0; i < half; ++i) values[i] = Scalar::join(values[i], values[i + half]);
    }
    return values[0];
  }
  static void add_row(float* acc, const T* p, std::int64_t columns) {
    const F32 d;
    if (columns < static_cast<std::int64_t>(hn::Lanes(d))) return Scalar::add_row(acc, p, columns);
    for_each_vector(d, static_cast<std::size_t>(columns), [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 v = join_vectors<kKind>(load(d, acc + i, part), load(d, p + i, part));
      store(v, d, acc + i, part);
    });
  }
  static void add_four_rows(float* acc, const T* p0, const T* p1, const T* p2, const T* p3,
                            std::int64_t columns) {
    const F32 d;
    if (columns < static_cast<std::int64_t>(hn::Lanes(d))) {
      return Scalar::add_four_rows(acc, p0, p1, p2, p3, columns);
    }
    for_each_vector(d, static_cast<std::size_t>(columns), [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 a = join_vectors<kKind>(load(d, p0 + i, part), load(d, p1 + i, part));
      const VecF32 b = join_vectors<kKind>(load(d, p2 + i, part), load(d, p3 + i, part));
      const VecF32 v = join_vectors<kKind>(load(d, acc + i, part), join_vectors<kKind>(a, b));
      store(v, d, acc + i, part);
    });
  }
};

template <ReduceKind kKind>
void reduce_floating(const ReducePlan& plan, const ReduceSource& source, void* out,
                     void* partials) {
  dispatch_floating("reduce", plan.dtype, [&](auto zero) {
    run_reduce<VectorReduce<kKind, decltype(zero)>>(plan, source, out, partials);
  });
}

void run_floating(const ReducePlan& plan, const ReduceSource& source, void* out, void* partials) {
  switch (plan.kind) {
    case ReduceKind::kSum:
      return reduce_floating<ReduceKind::kSum>(plan, source, out, partials);
    case ReduceKind::kProd:
      return reduce_floating<ReduceKind::kProd>(plan, source, out, partials);
    case ReduceKind::kMax:
      return reduce_floating<ReduceKind::kMax>(plan, source, out, partials);
    default:
      return reduce_floating<ReduceKind::kMin>(plan, source, out, partials);
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {

HWY_EXPORT(run_floating);

template <ReduceKind kKind>
void run_scalar(const ReducePlan& plan, const ReduceSource& source, void* out, void* partials) {
  dispatch_dtype(plan.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr bool kLogical = kKind == ReduceKind::kAny || kKind == ReduceKind::kAll;
    if constexpr (kLogical || !kIsFloating<T>) {
      run_reduce<ScalarReduce<kKind, T>>(plan, source, out, partials);
    }
  });
}

void run_integer(const ReducePlan& plan, const ReduceSource& source, void* out, void* partials) {
  switch (plan.kind) {
    case ReduceKind::kSum:
      return run_scalar<ReduceKind::kSum>(plan, source, out, partials);
    case ReduceKind::kProd:
      return run_scalar<ReduceKind::kProd>(plan, source, out, partials);
    case ReduceKind::kMax:
      return run_scalar<ReduceKind::kMax>(plan, source, out, partials);
    case ReduceKind::kMin:
      return run_scalar<ReduceKind::kMin>(plan, source, out, partials);
    case ReduceKind::kAny:
      return run_scalar<ReduceKind::kAny>(plan, source, out, partials);
    case ReduceKind::kAll:
      return run_scalar<ReduceKind::kAll>(plan, source, out, partials);
  }
}

bool is_logical(ReduceKind kind) { return kind == ReduceKind::kAny || kind == ReduceKind::kAll; }

void split_work(ReducePlan& plan) {
  if (plan.is_empty()) return;
  if (plan.by_columns) {
    constexpr std::int64_t kMaxUnits = 64;
    plan.unit_rows = std::max(kReduceBlock, (plan.rows + kMaxUnits - 1) / kMaxUnits);
  } else if (plan.row_length > kReduceChunk) {
    plan.pieces = (plan.row_length + kReduceChunk - 1) / kReduceChunk;
    plan.units = plan.pieces * plan.rows;
    return;
  } else {
    plan.unit_rows = std::max<std::int64_t>(1, kReduceChunk / plan.row_length);
  }
  plan.unit_rows = std::min(plan.unit_rows, plan.rows);
  plan.units = (plan.rows + plan.unit_rows - 1) / plan.unit_rows;
}

}  // namespace

ReducePlan plan_reduce(const TensorLayout& x, const op::Reduce& op) {
  Dims kept, kept_strides, reduced, reduced_strides;
  for (int axis = 0; axis < x.shape.rank(); ++axis) {
    const bool is_reduced = std::find(op.axes.begin(), op.axes.end(), axis) != op.axes.end();
    (is_reduced ? reduced : kept).push_back(x.shape[axis]);
    (is_reduced ? reduced_strides : kept_strides).push_back(x.strides[axis]);
  }
  ReducePlan plan{
      .kind = op.kind, .dtype = x.dtype, .kept = RowMap({}, {}), .reduced = RowMap({}, {})};
  if (num_elements(reduced) > 0) plan.base = order_by_stride(reduced, reduced_strides);
  collapse_axes(kept, {&kept_strides, 1});
  collapse_axes(reduced, {&reduced_strides, 1});
  const bool dense_rows = !reduced.empty() && reduced_strides.back() == 1;
  plan.by_columns = !dense_rows && !kept.empty() && kept_strides.back() == 1;
  if (plan.by_columns) {
    plan.columns = kept.back();
    kept_strides = RowMap::without(kept_strides, kept.rank() - 1);
    kept = RowMap::without(kept, kept.rank() - 1);
  } else if (!reduced.empty()) {
    plan.row_length = reduced.back();
    plan.row_stride = reduced_strides.back();
    reduced_strides = RowMap::without(reduced_strides, reduced.rank() - 1);
    reduced = RowMap::without(reduced, reduced.rank() - 1);
  }
  plan.outer = num_elements(kept);
  plan.rows = num_elements(reduced);
  plan.kept = RowMap(kept, kept_strides);
  plan.reduced = RowMap(reduced, reduced_strides);
  split_work(plan);
  return plan;
}

void require_reduced_dtype(const ReducePlan& plan, DType output) {
  const DType expected = is_logical(plan.kind) ? DType::kBool : plan.dtype;
  if (output == expected) return;
  throw DTypeError(std::string("reduce_") + std::string(name(plan.kind)) + ": " +
                   std::string(name(plan.dtype)) + " is reduced to " + std::string(name(expected)) +
                   ", not " + std::string(name(output)));
}

std::size_t partial_bytes(const ReducePlan& plan) {
  if (plan.units <= 1) return 0;
  const std::int64_t partials = plan.outer * plan.columns * plan.units;
  return static_cast<std::size_t>(partials) * std::max(sizeof(float), size_of(plan.dtype));
}

void reduce(const ReducePlan& plan, const ReduceSource& source, void* out, void* partials) {
  if (is_floating(plan.dtype) && !is_logical(plan.kind)) {
    HWY_DYNAMIC_DISPATCH(run_floating)(plan, source, out, partials);
  } else {
    run_integer(plan, source, out, partials);
  }
}

std::unique_ptr<Kernel> make_reduce(const KernelRequest& request) {
  if (std::holds_alternative<op::ArgReduce>(request.operation)) return make_arg_reduce(request);
  const auto* op = std::get_if<op::Reduce>(&request.operation);
  if (!op) return make_cumulative(request);
  const ReducePlan plan = plan_reduce(request.inputs[0], *op);
  require_reduced_dtype(plan, request.outputs[0].dtype);
  return make_cpu_kernel(
      [plan](const KernelArguments& arguments) {
        reduce(plan, {.x = arguments.inputs[0]}, arguments.outputs[0], arguments.scratch);
      },
      partial_bytes(plan));
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
