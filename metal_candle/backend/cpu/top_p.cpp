// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// TopPThreshold: selection by weight. Elements fall into buckets by how far they are below the
// largest; the bucket in which the threshold lies is divided again, until few elements are left to
// be sorted. Most rows need two rounds, of which the second is short.
//
// Inputs: kContiguous.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/reduce_scalar.h"
#include "metal_candle/backend/cpu/row_map.h"
#include "metal_candle/backend/cpu/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/top_p.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/log_sum_exp-inl.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

#ifndef METAL_CANDLE_BACKEND_CPU_TOP_P_ONCE_
#define METAL_CANDLE_BACKEND_CPU_TOP_P_ONCE_
namespace metal_candle::backend::cpu {
namespace {

struct TopPPlan {
  DType dtype;
  float p;
  std::int64_t rows, n;
};

// Enough that the bucket of the threshold holds few of the elements, and few enough for the first
// level cache.
constexpr int kBuckets = 1024;
// Fewer elements than this are sorted.
constexpr std::int64_t kFew = 256;
// Elements further below the largest have no weight: e^-80 is nothing beside 1, even a billion
// times.
constexpr float kDepth = 80;

// Distances below `high` into buckets. Greater distances never get a lower bucket, however they are
// rounded.
struct Buckets {
  float high, scale;
  Buckets(float high_end, float low_end)
      : high(high_end), scale(kBuckets / std::max(high_end - low_end, 1e-30f)) {}
};

using Weights = std::array<double, kBuckets>;

// The bucket with the last element of weight that has less than `target` before it, and what lies
// before that bucket.
struct Crossing {
  int bucket = 0;
  double before = 0;
};
Crossing find_crossing(const Weights& weights, double before, double target) {
  Crossing crossing{0, before};
  for (int b = 0; b < kBuckets && before < target; ++b) {
    const double weight = weights[static_cast<std::size_t>(b)];
    if (weight > 0) crossing = {b, before};
    before += weight;
  }
  return crossing;
}

// The last of a few elements, sorted here, that has less than `target` before it.
float last_before(float* x, std::int64_t n, float max, double before, double target) {
  std::sort(x, x + n, std::greater<>());
  float last = x[0];
  for (std::int64_t i = 0; i < n && before < target; ++i) {
    last = x[i];
    before += static_cast<double>(std::exp(x[i] - max));
  }
  return last;
}

}  // namespace
}  // namespace metal_candle::backend::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

using I32 = hn::RebindToSigned<F32>;

HWY_INLINE hn::Vec<I32> bucket_of(VecF32 x, const Buckets& buckets) {
  const F32 d;
  const I32 di;
  const VecF32 distance = hn::Sub(hn::Set(d, buckets.high), x);
  const VecF32 place = hn::Min(hn::Mul(distance, hn::Set(d, buckets.scale)),
                               hn::Set(d, static_cast<float>(kBuckets - 1)));
  return hn::Max(hn::ConvertTo(di, place), hn::Zero(di));  // A NaN goes anywhere.
}

// The sum of exp(x - max) of each bucket. What is below `floor` has no weight.
template <typename T>
HWY_INLINE void weigh(const T* x, std::int64_t n, float max, float floor, const Buckets& buckets,
                      Weights& weights) {
  const F32 d;
  HWY_ALIGN float lanes[kMaxLanes];
  HWY_ALIGN std::int32_t places[kMaxLanes];
  weights.fill(0);
  for_each_vector(d, static_cast<std::size_t>(n), [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 v = load(d, x + i, part, kLowest);
    const auto weight = ExpFlush(d, hn::Sub(v, hn::Set(d, max)));
    // Not less than, so that a NaN is seen.
    hn::Store(hn::IfThenZeroElse(hn::Lt(v, hn::Set(d, floor)), weight), d, lanes);
    hn::Store(bucket_of(v, buckets), I32(), places);
    for (std::size_t lane = 0; lane < hn::Lanes(d); ++lane) {
      weights[static_cast<std::size_t>(places[lane])] += static_cast<double>(lanes[lane]);
    }
  });
}

// Writes the elements of a bucket from `floor` on to `to`, which may be x. Returns how many.
template <typename T>
HWY_INLINE std::int64_t gather(const T* x, std::int64_t n, float floor, const Buckets& buckets,
                               int bucket, float* to) {
  const F32 d;
  HWY_ALIGN float lanes[kMaxLanes];
  std::int64_t count = 0;
  for_each_vector(d, static_cast<std::size_t>(n), [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 v = load(d, x + i, part, kLowest);
    const auto here = hn::RebindMask(d, hn::Eq(bucket_of(v, buckets), hn::Set(I32(), bucket)));
    const auto found = hn::And(here, hn::Ge(v, hn::Set(d, floor)));
    if (hn::AllFalse(d, found)) return;
    hn::Store(hn::IfThenElse(found, v, hn::Set(d, kLowest)), d, lanes);
    for (std::size_t lane = 0; lane < hn::Lanes(d); ++lane) {
      if (lanes[lane] >= floor) to[count++] = lanes[lane];
    }
  });
  return count;
}

// `candidates` has room for the row.
template <typename T>
float threshold(const T* x, std::int64_t n, double p, float* candidates) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float max = row_max(F32(), x, static_cast<std::size_t>(n));
  if (!std::isfinite(max)) return kInfinity;
  const float floor = max - kDepth;
  Weights weights;
  Buckets buckets(max, floor);
  weigh(x, n, max, floor, buckets, weights);
  const double target = p * std::accumulate(weights.begin(), weights.end(), 0.0);
  if (!std::isfinite(target)) return kInfinity;
  Crossing crossing = find_crossing(weights, 0, target);
  std::int64_t count = gather(x, n, floor, buckets, crossing.bucket, candidates);
  while (count > kFew) {
    const auto [low, high] = std::minmax_element(candidates, candidates + count);
    if (*low == *high) return *high;
    buckets = Buckets(*high, *low);
    weigh(candidates, count, max, floor, buckets, weights);
    crossing = find_crossing(weights, crossing.before, target);
    const std::int64_t left =
        gather(candidates, count, floor, buckets, crossing.bucket, candidates);
    if (left == count) break;  // They differ too little to be divided.
    count = left;
  }
  return last_before(candidates, count, max, crossing.before, target);
}

template <typename T>
void run(const TopPPlan& plan, const T* x, T* out) {
  parallel_for(plan.rows, row_grain(plan.n), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    Workspace workspace;
    auto* candidates = workspace.take<float>(plan.n);
    for (std::int64_t row = begin; row < end; ++row) {
      out[row] = static_cast<T>(
          threshold(x + row * plan.n, plan.n, static_cast<double>(plan.p), candidates));
    }
  });
}

void run_top_p(const TopPPlan& plan, const KernelArguments& arguments) {
  dispatch_dtype(plan.dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    if constexpr (kIsFloating<T>) {
      run(plan, static_cast<const T*>(arguments.inputs[0]), static_cast<T*>(arguments.outputs[0]));
    }
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {
HWY_EXPORT(run_top_p);
}  // namespace

std::unique_ptr<Kernel> make_top_p(const KernelRequest& request) {
  const TensorLayout& x = request.inputs[0];
  const std::int64_t rows = num_elements(request.outputs[0].shape);
  const TopPPlan plan{x.dtype, std::get<op::TopPThreshold>(request.operation).p, rows,
                      x.shape.back()};
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(run_top_p)(plan, arguments);
  });
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
