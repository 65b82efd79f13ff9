// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// RMS norm and layer norm over the last axis, and their gradients. f32 inside, rounded once.
//
// Inputs: x and dy kDenseRows, weight and bias kContiguous (f32 or the dtype of x). The forward
// operations may overwrite x (input 0); the backward ones x (input 0) or dy (the last input).
#include "metal_candle/backend/cpu/norm.h"

#include <array>
#include <cmath>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/norm.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

struct RowStatistics {
  float mean;   // 0 for RMS norm.
  float scale;  // One over the root of the mean square, of what is left after the mean.
};

template <typename T>
HWY_INLINE RowStatistics row_statistics(const NormPlan& plan, F32 d, const T* x) {
  const auto n = static_cast<std::size_t>(plan.n);
  const auto length = static_cast<float>(plan.n);
  float mean = 0;
  if (plan.layer) {
    mean = sum_row(d, n,
                   [&](std::size_t i, auto part, VecF32 acc)
                       HWY_ATTR { return hn::Add(acc, load(d, x + i, part)); }) /
           length;
  }
  const VecF32 centre = hn::Set(d, mean);
  const float squares = sum_row(d, n, [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
    const VecF32 v = hn::Sub(load(d, x + i, part, mean), centre);
    return hn::MulAdd(v, v, acc);
  });
  return {mean, 1.0f / std::sqrt(squares / length + plan.eps)};
}

// The weight in f32: as it is, or converted into `buffer`; `missing` everywhere if there is none.
const float* as_f32(const void* data, const NormPlan& plan, float missing, float* buffer) {
  const auto n = static_cast<std::size_t>(plan.n);
  if (!data) {
    std::fill_n(buffer, n, missing);
    return buffer;
  }
  if (plan.weight_dtype == DType::kF32) return static_cast<const float*>(data);
  dispatch_floating("norm", plan.weight_dtype, [&](auto zero) HWY_ATTR {
    const F32 d;
    const auto* p = static_cast<const decltype(zero)*>(data);
    for_each_vector(d, n, [&](std::size_t i, auto part) HWY_ATTR {
      store(load(d, p + i, part), d, buffer + i, part);
    });
  });
  return buffer;
}

template <bool kStream, bool kLayer, typename T>
HWY_INLINE void normalize_row(F32 d, const T* x, const T* next, T* out, std::size_t n,
                              RowStatistics s, const float* weight, const float* bias) {
  const VecF32 scale = hn::Set(d, s.scale);
  const VecF32 centre = hn::Set(d, s.mean);
  const Prefetcher<T> prefetch{next};
  for_each_vector(d, n, [&](std::size_t i, auto part) HWY_ATTR {
    prefetch(i);
    VecF32 v = load(d, x + i, part);
    if constexpr (kLayer) v = hn::Sub(v, centre);
    v = hn::Mul(v, scale);
    if constexpr (kLayer) {
      v = hn::MulAdd(v, load(d, weight + i, part), load(d, bias + i, part));
    } else {
      v = hn::Mul(v, load(d, weight + i, part));
    }
    store_or_stream<kStream>(v, d, out + i, part);
  });
}

template <bool kStream, bool kLayer, typename T>
void forward_rows(const NormPlan& plan, const T* x, T* out, const float* weight,
                  const float* bias) {
  const std::int64_t grain = tuned_row_grain(dtype_of<T>(), plan.rows, plan.n);
  parallel_for(plan.rows, grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const F32 d;
    for (std::int64_t row = begin; row < end; ++row) {
      const T* from = x + plan.x(row);
      const T* next = x + plan.x(std::min(row + 1, end - 1));
      const RowStatistics s = row_statistics(plan, d, from);
      normalize_row<kStream, kLayer>(d, from, next, out + row * plan.n,
                                     static_cast<std::size_t>(plan.n), s, weight, bias);
    }
    if constexpr (kStream) hwy::FlushStream();
  });
}

void run_norm(const NormPlan& plan, const KernelArguments& arguments) {
  auto* scratch = static_cast<float*>(arguments.scratch);
  const void* given_weight = plan.has_weight ? arguments.inputs[1] : nullptr;
  const float* weight = as_f32(given_weight, plan, 1.0f, scratch);
  const float* bias = nullptr;
  if (plan.layer) {
    bias = as_f32(plan.has_bias ? arguments.inputs[2] : nullptr, plan, 0.0f, scratch + plan.n);
  }
  const bool stream = plan.stream && arguments.inputs[0] != arguments.outputs[0];
  dispatch_floating("norm", plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(arguments.inputs[0]);
    T* out = static_cast<T*>(arguments.outputs[0]);
    if (plan.layer) {
      stream ? forward_rows<true, true>(plan, x, out, weight, bias)
             : forward_rows<false, true>(plan, x, out, weight, bias);
    } else {
      stream ? forward_rows<true, false>(plan, x, out, weight, bias)
             : forward_rows<false, false>(plan, x, out, weight, bias);
    }
  });
}

// One row's dx, and its term of dweight added to `dweight`; null ones are skipped.
template <bool kStream, typename T>
HWY_INLINE void backward_row(const NormPlan& plan, const T* x, const T* dy, const T* next_x,
                             const T* next_dy, const float* weight, const T* residual, T* dx,
                             float* dweight) {
  const F32 d;
  const auto n = static_cast<std::size_t>(plan.n);
  const auto length = static_cast<float>(plan.n);
  const RowStatistics s = row_statistics(plan, d, x);
  const VecF32 centre = hn::Set(d, s.mean);
  const VecF32 scale = hn::Set(d, s.scale);
  if (dweight) {
    for_each_vector(d, n, [&](std::size_t i, auto part) HWY_ATTR {
      const VecF32 normal = hn::Mul(hn::Sub(load(d, x + i, part), centre), scale);
      const VecF32 acc = load(d, dweight + i, part);
      store(hn::MulAdd(normal, load(d, dy + i, part), acc), d, dweight + i, part);
    });
  }
  if (!dx) return;
  // With g = weight * dy: dx = scale * (g - mean(g) - (x - mean) scale^2 mean(g (x - mean))), and
  // mean(g) is left out for RMS norm, which subtracts no mean.
  const auto g = [&](std::size_t i, auto part)
                     HWY_ATTR { return hn::Mul(load(d, weight + i, part), load(d, dy + i, part)); };
  const float dot = sum_row(d, n, [&](std::size_t i, auto part, VecF32 acc) HWY_ATTR {
    return hn::MulAdd(g(i, part), hn::Sub(load(d, x + i, part), centre), acc);
  });
  float mean_g = 0;
  if (plan.layer) {
    mean_g = sum_row(d, n,
                     [&](std::size_t i, auto part, VecF32 acc)
                         HWY_ATTR { return hn::Add(acc, g(i, part)); }) /
             length;
  }
  const Prefetcher<T> prefetch_x{next_x}, prefetch_dy{next_dy};
  const VecF32 slope = hn::Set(d, s.scale * s.scale * (dot / length));
  const VecF32 shift = hn::Set(d, mean_g);
  for_each_vector(d, n, [&](std::size_t i, auto part) HWY_ATTR {
    prefetch_x(i);
    prefetch_dy(i);
    const VecF32 centred = hn::Sub(load(d, x + i, part), centre);
    const VecF32 v = hn::NegMulAdd(centred, slope, hn::Sub(g(i, part), shift));
    VecF32 y = hn::Mul(v, scale);
    if (residual) y = hn::Add(y, load(d, residual + i, part));
    store_or_stream<kStream>(y, d, dx + i, part);
  });
}

template <bool kStream, typename T>
void backward_rows(const NormPlan& plan, const T* x, const T* dy, const float* weight,
                   const T* residual, T* dx, float* partials) {
  const std::int64_t block_rows = plan.block_rows();
  parallel_for(plan.blocks(), 1, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t block = begin; block < end; ++block) {
      float* dweight = partials ? partials + block * plan.n : nullptr;
      if (dweight) std::fill_n(dweight, plan.n, 0.0f);
      const std::int64_t last = std::min(plan.rows, (block + 1) * block_rows);
      for (std::int64_t row = block * block_rows; row < last; ++row) {
        const std::int64_t next = std::min(row + 1, last - 1);
        backward_row<kStream>(plan, x + plan.x(row), dy + plan.dy(row), x + plan.x(next),
                              dy + plan.dy(next), weight,
                              residual ? residual + row * plan.n : nullptr,
                              dx ? dx + row * plan.n : nullptr, dweight);
      }
    }
    if constexpr (kStream) hwy::FlushStream();
  });
}

// dweight is the sum of the blocks' partial sums, in order.
template <typename W>
void sum_partials(const NormPlan& plan, const float* partials, W* dweight) {
  constexpr std::int64_t kColumns = 1024;
  parallel_for(plan.n, kColumns, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const F32 d;
    for_each_vector(d, static_cast<std::size_t>(end - begin),
                    [&](std::size_t i, auto part) HWY_ATTR {
                      const float* p = partials + begin + i;
                      VecF32 sum = hn::Zero(d);
                      for (std::int64_t block = 0; block < plan.blocks(); ++block) {
                        sum = hn::Add(sum, load(d, p + block * plan.n, part));
                      }
                      store(sum, d, dweight + begin + i, part);
                    });
  });
}

void run_norm_backward(const NormPlan& plan, const KernelArguments& arguments) {
  auto* scratch = static_cast<float*>(arguments.scratch);
  const void* given_weight = plan.has_weight ? arguments.inputs[1] : nullptr;
  const void* given_dy = arguments.inputs[plan.has_weight ? 2 : 1];
  const float* weight = as_f32(given_weight, plan, 1.0f, scratch);
  void* dweight = plan.has_weight ? arguments.outputs[1] : nullptr;
  float* partials = dweight ? scratch + plan.n : nullptr;
  dispatch_floating("norm_backward", plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(arguments.inputs[0]);
    const T* dy = static_cast<const T*>(given_dy);
    const T* residual = plan.has_residual ? static_cast<const T*>(arguments.inputs[3]) : nullptr;
    T* dx = static_cast<T*>(arguments.outputs[0]);
    if (plan.stream && dx != x && dx != dy && dx != residual) {
      backward_rows<true>(plan, x, dy, weight, residual, dx, partials);
    } else {
      backward_rows<false>(plan, x, dy, weight, residual, dx, partials);
    }
  });
  if (!dweight) return;
  dispatch_floating("norm_backward", plan.weight_dtype, [&](auto zero) HWY_ATTR {
    sum_partials(plan, partials, static_cast<decltype(zero)*>(dweight));
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {

HWY_EXPORT(run_norm);
HWY_EXPORT(run_norm_backward);

NormPlan make_plan(const KernelRequest& request, bool layer, float eps, bool backward) {
  const TensorLayout& x = request.inputs[0];
  const std::size_t count = request.inputs.size();
  NormPlan plan{.layer = layer,
                .eps = eps,
                .dtype = x.dtype,
                .has_weight = backward ? count >= 3 : count >= 2,
                .has_bias = !backward && count == 3,
                .has_residual = backward && count == 4,
                .n = x.shape.back(),
                .x = RowMap(x),
                .dy = RowMap(request.inputs[backward ? std::min<std::size_t>(count - 1, 2) : 0]),
                .stream = should_stream({x.shape, contiguous_strides(x.shape), x.dtype})};
  plan.rows = num_elements(RowMap::without(x.shape, x.shape.rank() - 1));
  if (plan.has_weight) plan.weight_dtype = request.inputs[1].dtype;
  return plan;
}

std::unique_ptr<Kernel> make_forward(const KernelRequest& request, bool layer, float eps) {
  const NormPlan plan = make_plan(request, layer, eps, false);
  return make_cpu_kernel(
      [plan](const KernelArguments& arguments) {
        HWY_DYNAMIC_DISPATCH(run_norm)
        (plan, arguments);
      },
      static_cast<std::size_t>(2 * plan.n) * sizeof(float));
}

std::unique_ptr<Kernel> make_backward(const KernelRequest& request, bool layer, float eps) {
  const NormPlan plan = make_plan(request, layer, eps, true);
  return make_cpu_kernel(
      [plan](const KernelArguments& arguments) {
        HWY_DYNAMIC_DISPATCH(run_norm_backward)(plan, arguments);
      },
      static_cast<std::size_t>((1 + plan.blocks()) * plan.n) * sizeof(float));
}

}  // namespace

std::unique_ptr<Kernel> make_norm(const KernelRequest& request) {
  const Operation& operation = request.operation;
  if (const auto* o = std::get_if<op::RmsNorm>(&operation)) {
    return make_forward(request, false, o->eps);
  }
  if (const auto* o = std::get_if<op::RmsNormBackward>(&operation)) {
    return make_backward(request, false, o->eps);
  }
  if (const auto* o = std::get_if<op::LayerNorm>(&operation)) {
    return make_forward(request, true, o->eps);
  }
  return make_backward(request, true, std::get<op::LayerNormBackward>(operation).eps);
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
