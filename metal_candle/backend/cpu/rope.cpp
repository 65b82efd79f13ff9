// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding. Sines and cosines are computed once for a block of positions and used
// for every head.
//
// Inputs: x kDenseRows, offset and frequencies kContiguous. The output may overwrite x (input 0).
#include "metal_candle/backend/cpu/rope.h"

#include <array>
#include <cstring>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/rope.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

// Positions whose table and, of one head, rows fit in the first-level cache together.
constexpr std::int64_t kBlock = 16;

// cosines[i] and sines[i] of position * scale * frequencies[i].
void fill_table(const RopePlan& plan, std::int64_t position, const float* frequencies,
                float* cosines, float* sines) {
  const F32 d;
  const auto half = static_cast<std::size_t>(plan.op.dims / 2);
  // Rounded in the order of the decomposition, since large angles magnify a difference.
  const VecF32 scaled = hn::Set(d, static_cast<float>(position) * plan.op.scale);
  const VecF32 sign = hn::Set(d, plan.op.inverse ? -1.0f : 1.0f);
  for_each_vector(d, half, [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 angle = hn::Mul(scaled, load(d, frequencies + i, part));
    store(Cos(d, angle), d, cosines + i, part);
    store(hn::Mul(Sin(d, angle), sign), d, sines + i, part);
  });
  if (!plan.op.interleaved) return;
  // One entry an element: cosine twice, sine with the sign it is added with. From the back, since
  // the entries spread.
  for (std::size_t i = half; i-- > 0;) {
    const float c = cosines[i], s = sines[i];
    cosines[2 * i] = cosines[2 * i + 1] = c;
    sines[2 * i] = -s;
    sines[2 * i + 1] = s;
  }
}

template <typename T>
HWY_INLINE void rotate_halves(F32 d, const T* x, T* out, std::size_t half, const float* cosines,
                              const float* sines) {
  for_each_vector(d, half, [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 a = load(d, x + i, part);
    const VecF32 b = load(d, x + half + i, part);
    const VecF32 c = load(d, cosines + i, part);
    const VecF32 s = load(d, sines + i, part);
    store(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, out + i, part);
    store(hn::MulAdd(a, s, hn::Mul(b, c)), d, out + half + i, part);
  });
}

template <typename T>
HWY_INLINE void rotate_pairs(F32 d, const T* x, T* out, std::size_t dims, const float* cosines,
                             const float* sines) {
#if HWY_TARGET == HWY_SCALAR
  // A vector of one lane holds no pair.
  (void)d;
  for (std::size_t i = 0; i < dims; i += 2) {
    const auto a = static_cast<float>(x[i]), b = static_cast<float>(x[i + 1]);
    out[i] = static_cast<T>(a * cosines[i] + b * sines[i]);
    out[i + 1] = static_cast<T>(b * cosines[i + 1] + a * sines[i + 1]);
  }
#else
  for_each_vector(d, dims, [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 v = load(d, x + i, part);
    const VecF32 swapped = hn::Reverse2(d, v);
    const VecF32 turned = hn::Mul(swapped, load(d, sines + i, part));
    store(hn::MulAdd(v, load(d, cosines + i, part), turned), d, out + i, part);
  });
#endif
}

template <typename T>
HWY_INLINE void rope_row(const RopePlan& plan, const T* x, T* out, const float* cosines,
                         const float* sines) {
  const auto dims = static_cast<std::size_t>(plan.op.dims);
  if (plan.op.interleaved) {
    rotate_pairs(F32(), x, out, dims, cosines, sines);
  } else {
    rotate_halves(F32(), x, out, dims / 2, cosines, sines);
  }
  if (x != out) {
    std::memcpy(out + dims, x + dims, (static_cast<std::size_t>(plan.n) - dims) * sizeof(T));
  }
}

// Positions [first, last) of one group.
template <typename T>
void rope_block(const RopePlan& plan, std::int64_t group, std::int64_t first, std::int64_t last,
                std::int64_t offset, const float* frequencies, const T* x, T* out, float* table) {
  const auto stride = static_cast<std::int64_t>(plan.op.dims);
  float* sines = table + (last - first) * stride;
  for (std::int64_t p = first; p < last; ++p) {
    fill_table(plan, offset + p, frequencies, table + (p - first) * stride,
               sines + (p - first) * stride);
  }
  for (std::int64_t head = 0; head < plan.group_size; ++head) {
    const std::int64_t row = (group * plan.group_size + head) * plan.length;
    for (std::int64_t p = first; p < last; ++p) {
      rope_row(plan, x + plan.x(row + p), out + (row + p) * plan.n, table + (p - first) * stride,
               sines + (p - first) * stride);
    }
  }
}

void run_rope(const RopePlan& plan, const KernelArguments& arguments) {
  const auto* offsets = static_cast<const std::int32_t*>(arguments.inputs[1]);
  const auto* frequencies = static_cast<const float*>(arguments.inputs[2]);
  dispatch_floating("rope", plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(arguments.inputs[0]);
    T* out = static_cast<T*>(arguments.outputs[0]);
    const std::int64_t blocks = (plan.length + kBlock - 1) / kBlock;
    const std::int64_t work = plan.group_size * std::min(plan.length, kBlock) * plan.n;
    parallel_for(plan.groups * blocks, row_grain(work),
                 [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                   const std::int64_t positions = std::min(plan.length, kBlock);
                   std::vector<float> table(static_cast<std::size_t>(2 * positions * plan.op.dims));
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     const std::int64_t group = unit / blocks, first = unit % blocks * kBlock;
                     rope_block(plan, group, first, std::min(plan.length, first + kBlock),
                                std::int64_t{offsets[plan.offset_per_group ? group : 0]},
                                frequencies, x, out, table.data());
                   }
                 });
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {
HWY_EXPORT(run_rope);
}  // namespace

std::unique_ptr<Kernel> make_rope(const KernelRequest& request) {
  const TensorLayout& x = request.inputs[0];
  const int rank = x.shape.rank();
  Shape leading = RowMap::without(RowMap::without(x.shape, rank - 1), rank - 2);
  const std::int64_t count = num_elements(leading);
  const bool per_group = request.inputs[1].shape.rank() == 1 && rank > 2;
  const std::int64_t groups = per_group ? x.shape[0] : 1;
  const RopePlan plan{.op = std::get<op::Rope>(request.operation),
                      .dtype = x.dtype,
                      .length = x.shape[rank - 2],
                      .n = x.shape[rank - 1],
                      .groups = groups,
                      .group_size = groups > 0 ? count / groups : 0,
                      .offset_per_group = per_group,
                      .x = RowMap(x)};
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(run_rope)(plan, arguments);
  });
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
