// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cross entropy of logits with class indices: one reading of the logits, whose rows are as long as
// a vocabulary, shared between threads even when there is one row.
//
// Inputs: logits kDenseRows, the others kContiguous. CrossEntropyBackward may overwrite input 0.
#include "metal_candle/backend/cpu/cross_entropy.h"

#include <string>

#include "metal_candle/backend/cpu/log_sum_exp.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/core/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/cross_entropy.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/log_sum_exp-inl.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

#ifndef METAL_CANDLE_BACKEND_CPU_CROSS_ENTROPY_ONCE_
#define METAL_CANDLE_BACKEND_CPU_CROSS_ENTROPY_ONCE_
namespace metal_candle::backend::cpu {
namespace {

constexpr std::int64_t kIgnored = -1;

// The class of a row, or kIgnored. Throws DeviceError when there is no such class.
std::int64_t read_target(const CrossEntropyPlan& plan, const void* targets, std::int64_t row) {
  const std::int64_t target = plan.target_dtype == DType::kI32
                                  ? static_cast<const std::int32_t*>(targets)[row]
                                  : static_cast<const std::int64_t*>(targets)[row];
  if (target == plan.ignore_index) return kIgnored;
  if (target < 0 || target >= plan.classes) {
    throw DeviceError("cross_entropy: target " + std::to_string(target) + " of row " +
                      std::to_string(row) + " is out of range for " + std::to_string(plan.classes) +
                      " classes");
  }
  return target;
}

}  // namespace
}  // namespace metal_candle::backend::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

void run_cross_entropy(const CrossEntropyPlan& plan, const KernelArguments& arguments) {
  dispatch_floating("cross_entropy", plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(arguments.inputs[0]);
    auto* loss = static_cast<float*>(arguments.outputs[0]);
    auto* logsumexp = static_cast<float*>(arguments.outputs[1]);
    const auto finish = [&](std::int64_t row, ShiftedSum sum) {
      if (logsumexp) logsumexp[row] = log(sum);
      const std::int64_t target = read_target(plan, arguments.inputs[1], row);
      if (!loss) return;
      // The shift is taken off first: both it and the logit may be large, their difference not.
      loss[row] =
          target == kIgnored
              ? 0.0f
              : std::log(sum.sum) + (sum.shift - static_cast<float>(x[plan.logits(row) + target]));
    };
    for_each_row_sum(x, plan.logits, plan.rows, plan.classes,
                     static_cast<ShiftedSum*>(arguments.scratch), finish);
  });
}

// (exp(x - logsumexp) - [i == target]) * dloss over `count` classes from `start` on.
template <bool kStream, typename T>
HWY_INLINE void backward_chunk(F32 d, const T* x, T* dx, std::size_t count, std::int64_t target,
                               float logsumexp, float dloss) {
  const VecF32 lse = hn::Set(d, logsumexp);
  const VecF32 scale = hn::Set(d, dloss);
  const bool here = target >= 0 && target < static_cast<std::int64_t>(count);
  // Read before the loop may overwrite it.
  const float p = here ? std::exp(static_cast<float>(x[target]) - logsumexp) : 0.0f;
  for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 e = ExpFlush(d, hn::Sub(load(d, x + i, part), lse));
    store_or_stream<kStream>(hn::Mul(e, scale), d, dx + i, part);
  });
  if constexpr (kStream) hwy::FlushStream();
  if (here) dx[target] = static_cast<T>((p - 1.0f) * dloss);
}

template <bool kStream, typename T>
void backward(const CrossEntropyPlan& plan, const KernelArguments& arguments) {
  const T* x = static_cast<const T*>(arguments.inputs[0]);
  const auto* logsumexp = static_cast<const float*>(arguments.inputs[2]);
  const auto* dloss = static_cast<const float*>(arguments.inputs[3]);
  T* dx = static_cast<T*>(arguments.outputs[0]);
  const std::int64_t n = plan.classes;
  const std::int64_t chunks = std::max<std::int64_t>(1, num_chunks(n));
  const auto run = [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t row = unit / chunks, start = unit % chunks * kChunk;
      const auto count = static_cast<std::size_t>(std::min(kChunk, n - start));
      T* to = dx + row * n + start;
      const std::int64_t target = read_target(plan, arguments.inputs[1], row);
      if (target == kIgnored) {
        std::fill_n(to, count, T{});
      } else {
        backward_chunk<kStream>(F32(), x + plan.logits(row) + start, to, count, target - start,
                                logsumexp[row], dloss[row]);
      }
    }
  };
  parallel_for(plan.rows * chunks, row_grain(std::min(n, kChunk)), run);
}

void run_cross_entropy_backward(const CrossEntropyPlan& plan, const KernelArguments& arguments) {
  dispatch_floating("cross_entropy_backward", plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    plan.stream&& arguments.outputs[0] != arguments.inputs[0] ? backward<true, T>(plan, arguments)
                                                              : backward<false, T>(plan, arguments);
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {
HWY_EXPORT(run_cross_entropy);
HWY_EXPORT(run_cross_entropy_backward);
}  // namespace

std::unique_ptr<Kernel> make_cross_entropy(const KernelRequest& request) {
  const TensorLayout& logits = request.inputs[0];
  const std::int64_t classes = logits.shape.back();
  const std::int64_t rows = num_elements(request.inputs[1].shape);
  CrossEntropyPlan plan{logits.dtype, request.inputs[1].dtype, rows, classes, 0, RowMap(logits),
                        false};
  if (const auto* o = std::get_if<op::CrossEntropy>(&request.operation)) {
    plan.ignore_index = o->ignore_index;
    return make_cpu_kernel(
        [plan](const KernelArguments& arguments) {
          HWY_DYNAMIC_DISPATCH(run_cross_entropy)(plan, arguments);
        },
        partial_bytes(rows, classes));
  }
  plan.ignore_index = std::get<op::CrossEntropyBackward>(request.operation).ignore_index;
  plan.stream = should_stream(request.outputs[0]);
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(run_cross_entropy_backward)(plan, arguments);
  });
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
