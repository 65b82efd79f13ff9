// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Softmax, log-softmax and log-sum-exp along any axis, and the gradient of softmax. f32 inside.
//
// Inputs: kDenseRows, all of them. Softmax, LogSoftmax and SoftmaxBackward may overwrite input 0.
// Softmax and log-softmax of a row that is -infinity throughout, or has an infinity, are NaN.
#include <array>
#include <memory>
#include <string>

#include "metal_candle/backend/cpu/axis_plan.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/cross_entropy.h"
#include "metal_candle/backend/cpu/log_sum_exp.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_grain.h"
#include "metal_candle/backend/cpu/softmax.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/softmax.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/log_sum_exp-inl.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

// Rows up to this length keep their exponentials in the first-level cache between the passes.
constexpr std::int64_t kMaxBuffered = 8192;
// Columns handled side by side: wide enough for the prefetchers, and accumulators stay in cache.
constexpr std::int64_t kStrip = 256;

template <bool kStream, typename T>
HWY_INLINE void softmax_row(F32 d, const T* x, const T* next, T* out, std::size_t n,
                            float* HWY_RESTRICT buffer) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const Prefetcher<T> prefetch{next};
  const VecF32 max = hn::Set(d, row_max(d, x, n));
  const float sum = sum_row(d, n, [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
    prefetch(i);
    const VecF32 e = ExpFlush(d, hn::Sub(load(d, x + i, part, kLowest), max));
    hn::Store(e, d, buffer + i);
    return hn::Add(acc, e);
  });
  const VecF32 scale = hn::Set(d, 1.0f / sum);
  for_each_vector(d, n, [&](std::size_t i, auto part) HWY_ATTR {
    store_or_stream<kStream>(hn::Mul(hn::Load(d, buffer + i), scale), d, out + i, part);
  });
}

template <bool kStream, typename T>
HWY_INLINE void log_softmax_row(F32 d, const T* x, const T* next, T* out, std::size_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const Prefetcher<T> prefetch{next};
  const VecF32 max = hn::Set(d, row_max(d, x, n));
  const float sum = sum_row(d, n, [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
    prefetch(i);
    return hn::Add(acc, ExpFlush(d, hn::Sub(load(d, x + i, part, kLowest), max)));
  });
  const VecF32 log_sum = hn::Set(d, std::log(sum));
  for_each_vector(d, n, [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 v = hn::Sub(hn::Sub(load(d, x + i, part), max), log_sum);
    store_or_stream<kStream>(v, d, out + i, part);
  });
}

template <bool kStream, typename T>
void short_rows(const SoftmaxPlan& plan, const T* x, T* out) {
  const std::int64_t n = plan.axis.n;
  const std::int64_t grain = tuned_row_grain(dtype_of<T>(), plan.axis.outer, n);
  const F32 d;
  parallel_for(plan.axis.outer, grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    HWY_ALIGN float buffer[kMaxBuffered + kMaxLanes];
    for (std::int64_t row = begin; row < end; ++row) {
      const T* from = x + plan.axis.offset(0, row);
      const T* next = x + plan.axis.offset(0, std::min(row + 1, end - 1));
      if (plan.mode == SoftmaxMode::kSoftmax) {
        softmax_row<kStream>(d, from, next, out + row * n, static_cast<std::size_t>(n), buffer);
      } else {
        log_softmax_row<kStream>(d, from, next, out + row * n, static_cast<std::size_t>(n));
      }
    }
    hwy::FlushStream();
  });
}

// Rows beyond the first-level cache, which threads share: statistics of all chunks, then output.
template <typename T>
void long_rows(const SoftmaxPlan& plan, const T* x, T* out, std::byte* scratch) {
  const std::int64_t n = plan.axis.n, chunks = num_chunks(n);
  auto* totals = reinterpret_cast<ShiftedSum*>(scratch);
  auto* partials = totals + plan.axis.outer;
  const auto keep = [&](std::int64_t row, ShiftedSum s) {
    // An infinity makes the whole row NaN, as subtracting it from itself would.
    if (std::isinf(s.sum)) s.sum = std::numeric_limits<float>::quiet_NaN();
    totals[row] = s;
  };
  for_each_row_sum(x, *plan.axis.maps[0], plan.axis.outer, n, partials, keep);
  parallel_for(plan.axis.outer * chunks, 1, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const F32 d;
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t row = unit / chunks, start = unit % chunks * kChunk;
      const T* from = x + plan.axis.offset(0, row) + start;
      T* to = out + row * n + start;
      const auto count = static_cast<std::size_t>(std::min(kChunk, n - start));
      const VecF32 shift = hn::Set(d, totals[row].shift);
      if (plan.mode == SoftmaxMode::kSoftmax) {
        const VecF32 scale = hn::Set(d, 1.0f / totals[row].sum);
        for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
          const VecF32 e = ExpFlush(d, hn::Sub(load(d, from + i, part), shift));
          store(hn::Mul(e, scale), d, to + i, part);
        });
      } else {
        const VecF32 log_sum = hn::Set(d, std::log(totals[row].sum));
        for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
          store(hn::Sub(hn::Sub(load(d, from + i, part), shift), log_sum), d, to + i, part);
        });
      }
    }
  });
}

// Calls fn(outer index, first column, columns) for strips of columns, in parallel.
template <class Fn>
HWY_INLINE void for_each_strip(const AxisPlan& axis, Fn&& fn) {
  const std::int64_t strips = (axis.columns + kStrip - 1) / kStrip;
  const std::int64_t grain = row_grain(axis.n * std::min(axis.columns, kStrip));
  parallel_for(axis.outer * strips, grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t column = unit % strips * kStrip;
      fn(unit / strips, column, static_cast<std::size_t>(std::min(kStrip, axis.columns - column)));
    }
  });
}

// One strip: maxima, sums, then output.
template <typename T>
void softmax_strip(const SoftmaxPlan& plan, const T* x, T* out, std::size_t count) {
  const F32 d;
  const std::int64_t n = plan.axis.n, x_stride = plan.axis.axis_strides[0];
  HWY_ALIGN float max[kStrip + kMaxLanes];
  HWY_ALIGN float sum[kStrip + kMaxLanes];
  const bool log_sum_exp = plan.mode == SoftmaxMode::kLogSumExp;
  for_each_vector(d, count, [&](std::size_t i, auto) HWY_ATTR {
    hn::Store(hn::Set(d, -std::numeric_limits<float>::infinity()), d, max + i);
    hn::Store(hn::Zero(d), d, sum + i);
  });
  for (std::int64_t a = 0; a < n; ++a) {
    for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 v = load(d, x + a * x_stride + i, part);
      hn::Store(hn::Max(hn::Load(d, max + i), v), d, max + i);
    });
  }
  if (log_sum_exp) {
    for (std::size_t i = 0; i < count; ++i) max[i] = std::isinf(max[i]) ? 0.0f : max[i];
  }
  for (std::int64_t a = 0; a < n; ++a) {
    for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 v = hn::Sub(load(d, x + a * x_stride + i, part), hn::Load(d, max + i));
      hn::Store(hn::Add(hn::Load(d, sum + i), ExpFlush(d, v)), d, sum + i);
    });
  }
  const bool softmax = plan.mode == SoftmaxMode::kSoftmax;
  for (std::size_t i = 0; i < count; ++i) sum[i] = softmax ? 1.0f / sum[i] : std::log(sum[i]);
  if (log_sum_exp) {
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<T>(max[i] + sum[i]);
    return;
  }
  for (std::int64_t a = 0; a < n; ++a) {
    T* to = out + a * plan.axis.axis_strides[1];
    for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 v = hn::Sub(load(d, x + a * x_stride + i, part), hn::Load(d, max + i));
      const VecF32 s = hn::Load(d, sum + i);
      store(softmax ? hn::Mul(ExpFlush(d, v), s) : hn::Sub(v, s), d, to + i, part);
    });
  }
}

void run_softmax(const SoftmaxPlan& plan, const KernelArguments& arguments) {
  dispatch_floating("softmax", plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(arguments.inputs[0]);
    T* out = static_cast<T*>(arguments.outputs[0]);
    auto* scratch = static_cast<std::byte*>(arguments.scratch);
    if (!plan.axis.rows) {
      for_each_strip(plan.axis, [&](std::int64_t outer, std::int64_t column, std::size_t count) {
        softmax_strip(plan, x + plan.axis.offset(0, outer) + column,
                      out + plan.axis.offset(1, outer) + column, count);
      });
    } else if (plan.mode == SoftmaxMode::kLogSumExp) {
      for_each_row_sum(x, *plan.axis.maps[0], plan.axis.outer, plan.axis.n,
                       reinterpret_cast<ShiftedSum*>(scratch),
                       [&](std::int64_t row, ShiftedSum s) { out[row] = static_cast<T>(log(s)); });
    } else if (plan.axis.n > kMaxBuffered) {
      long_rows(plan, x, out, scratch);
    } else if (plan.stream && arguments.outputs[0] != arguments.inputs[0]) {
      short_rows<true>(plan, x, out);
    } else {
      short_rows<false>(plan, x, out);
    }
  });
}

template <bool kStream, typename T>
void backward_rows(const SoftmaxPlan& plan, const T* y, const T* dy, T* dx) {
  const std::int64_t n = plan.axis.n;
  const auto count = static_cast<std::size_t>(n);
  const F32 d;
  parallel_for(plan.axis.outer, row_grain(n), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* p = y + plan.axis.offset(0, row);
      const T* g = dy + plan.axis.offset(1, row);
      T* to = dx + row * n;
      const std::int64_t following = std::min(row + 1, end - 1);
      const Prefetcher<T> prefetch_y{y + plan.axis.offset(0, following)};
      const Prefetcher<T> prefetch_dy{dy + plan.axis.offset(1, following)};
      const float dot = sum_row(d, count, [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
        return hn::MulAdd(load(d, p + i, part), load(d, g + i, part), acc);
      });
      const VecF32 mean = hn::Set(d, dot);
      for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
        prefetch_y(i);
        prefetch_dy(i);
        const VecF32 v = hn::Mul(load(d, p + i, part), hn::Sub(load(d, g + i, part), mean));
        store_or_stream<kStream>(v, d, to + i, part);
      });
    }
    hwy::FlushStream();
  });
}

template <typename T>
void backward_strip(const AxisPlan& axis, const T* y, const T* dy, T* dx, std::size_t count) {
  const F32 d;
  HWY_ALIGN float dot[kStrip + kMaxLanes] = {};
  for (std::int64_t a = 0; a < axis.n; ++a) {
    const T* p = y + a * axis.axis_strides[0];
    const T* g = dy + a * axis.axis_strides[1];
    for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 acc = hn::Load(d, dot + i);
      hn::Store(hn::MulAdd(load(d, p + i, part), load(d, g + i, part), acc), d, dot + i);
    });
  }
  for (std::int64_t a = 0; a < axis.n; ++a) {
    const T* p = y + a * axis.axis_strides[0];
    const T* g = dy + a * axis.axis_strides[1];
    T* to = dx + a * axis.axis_strides[2];
    for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 centred = hn::Sub(load(d, g + i, part), hn::Load(d, dot + i));
      store(hn::Mul(load(d, p + i, part), centred), d, to + i, part);
    });
  }
}

void run_softmax_backward(const SoftmaxPlan& plan, const KernelArguments& arguments) {
  dispatch_floating("softmax_backward", plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    const T* y = static_cast<const T*>(arguments.inputs[0]);
    const T* dy = static_cast<const T*>(arguments.inputs[1]);
    T* dx = static_cast<T*>(arguments.outputs[0]);
    const AxisPlan& axis = plan.axis;
    const bool in_place = dx == y || dx == dy;
    if (axis.rows) {
      plan.stream && !in_place ? backward_rows<true>(plan, y, dy, dx)
                               : backward_rows<false>(plan, y, dy, dx);
      return;
    }
    for_each_strip(axis, [&](std::int64_t outer, std::int64_t column, std::size_t count) {
      backward_strip(axis, y + axis.offset(0, outer) + column, dy + axis.offset(1, outer) + column,
                     dx + axis.offset(2, outer) + column, count);
    });
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {

HWY_EXPORT(run_softmax);
HWY_EXPORT(run_softmax_backward);

std::unique_ptr<Kernel> make_forward(const KernelRequest& request, SoftmaxMode mode, int axis) {
  const TensorLayout& x = request.inputs[0];
  const bool reduces = mode == SoftmaxMode::kLogSumExp;
  const std::array operands = {x, reduces ? reduced_layout(x, axis) : request.outputs[0]};
  SoftmaxPlan plan{mode, x.dtype, plan_axis(operands, axis),
                   !reduces && should_stream(request.outputs[0])};
  std::size_t scratch = 0;
  if (plan.axis.rows) {
    scratch = partial_bytes(plan.axis.outer, plan.axis.n);
    if (!reduces) scratch += static_cast<std::size_t>(plan.axis.outer) * sizeof(ShiftedSum);
  }
  return make_cpu_kernel(
      [plan](const KernelArguments& arguments) {
        HWY_DYNAMIC_DISPATCH(run_softmax)(plan, arguments);
      },
      scratch);
}

std::unique_ptr<Kernel> make_backward(const KernelRequest& request, int axis) {
  const std::array operands = {request.inputs[0], request.inputs[1], request.outputs[0]};
  SoftmaxPlan plan{SoftmaxMode::kSoftmax, operands[0].dtype, plan_axis(operands, axis),
                   should_stream(operands[2])};
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(run_softmax_backward)(plan, arguments);
  });
}

}  // namespace

std::unique_ptr<Kernel> make_softmax(const KernelRequest& request) {
  const Operation& operation = request.operation;
  if (const auto* o = std::get_if<op::Softmax>(&operation)) {
    return make_forward(request, SoftmaxMode::kSoftmax, o->axis);
  }
  if (const auto* o = std::get_if<op::LogSoftmax>(&operation)) {
    return make_forward(request, SoftmaxMode::kLogSoftmax, o->axis);
  }
  if (const auto* o = std::get_if<op::LogSumExp>(&operation)) {
    return make_forward(request, SoftmaxMode::kLogSumExp, o->axis);
  }
  if (const auto* o = std::get_if<op::SoftmaxBackward>(&operation)) {
    return make_backward(request, o->axis);
  }
  return make_cross_entropy(request);
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
