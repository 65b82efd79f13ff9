// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Two kernels: rows of b are added up, eight at a time, into c, which stays in L1; or columns of b
// that are contiguous are multiplied with the rows of a, a few of each at a time.
#include "metal_candle/backend/cpu/small_gemm.h"

#include <algorithm>

#include "metal_candle/backend/cpu/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/small_gemm.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
// Rows of b in flight: as many streams as hardware prefetchers follow, and eight products for each
// load and store of c.
constexpr std::int64_t kUnroll = 8;
// Elements of c worked on at once take half of L1.
constexpr std::int64_t kStripElements = 4096;
// and of a c that is worked on whole no more than all of it.
constexpr std::int64_t kMostElements = 8192;

// ---- b in rows ----------------------------------------------------------------------------------

// c[0, m)[0, n) += a[0, m)[0, kUnroll) @ kUnroll rows of b.
template <typename T>
HWY_ATTR void AddRows(const float* a, std::int64_t lda, std::int64_t m, const T* b,
                      std::int64_t stride, std::int64_t n, Ahead ahead, float* c,
                      std::int64_t ldc) {
  const F32 d;
  const auto step = [&](std::int64_t j, auto part) HWY_ATTR {
    const T* const p = b + j;
    const VecF32 b0 = load(d, p, part), b1 = load(d, p + stride, part);
    const VecF32 b2 = load(d, p + 2 * stride, part), b3 = load(d, p + 3 * stride, part);
    const VecF32 b4 = load(d, p + 4 * stride, part), b5 = load(d, p + 5 * stride, part);
    const VecF32 b6 = load(d, p + 6 * stride, part), b7 = load(d, p + 7 * stride, part);
    if (ahead != Ahead::kNothing && j * std::int64_t{sizeof(T)} % 64 == 0) {
      const bool in_order = ahead == Ahead::kInOrder;
      const T* const next = b + kUnroll * stride + (in_order ? j * kUnroll : j);
      const std::int64_t apart = in_order ? 64 / std::int64_t{sizeof(T)} : stride;
      for (std::int64_t u = 0; u < kUnroll; ++u) __builtin_prefetch(next + u * apart, 0, 2);
    }
    for (std::int64_t i = 0; i < m; ++i) {
      const float* const x = a + i * lda;
      float* const y = c + i * ldc + j;
      VecF32 sum = load(d, y, part);
      sum = hn::MulAdd(hn::Set(d, x[0]), b0, sum);
      sum = hn::MulAdd(hn::Set(d, x[1]), b1, sum);
      sum = hn::MulAdd(hn::Set(d, x[2]), b2, sum);
      sum = hn::MulAdd(hn::Set(d, x[3]), b3, sum);
      sum = hn::MulAdd(hn::Set(d, x[4]), b4, sum);
      sum = hn::MulAdd(hn::Set(d, x[5]), b5, sum);
      sum = hn::MulAdd(hn::Set(d, x[6]), b6, sum);
      sum = hn::MulAdd(hn::Set(d, x[7]), b7, sum);
      store(sum, d, y, part);
    }
  };
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) step(j, Whole{});
  if (j < n) step(j, Part{static_cast<std::size_t>(n - j)});
}

// The same with one row.
template <typename T>
HWY_ATTR void AddRow(const float* a, std::int64_t lda, std::int64_t m, const T* b, std::int64_t n,
                     float* c, std::int64_t ldc) {
  const F32 d;
  const auto step = [&](std::int64_t j, auto part) HWY_ATTR {
    const VecF32 b0 = load(d, b + j, part);
    for (std::int64_t i = 0; i < m; ++i) {
      float* const y = c + i * ldc + j;
      store(hn::MulAdd(hn::Set(d, a[i * lda]), b0, load(d, y, part)), d, y, part);
    }
  };
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) step(j, Whole{});
  if (j < n) step(j, Part{static_cast<std::size_t>(n - j)});
}

// One vector of columns, the sums of which stay in registers. Eight run at once, because one alone
// would wait for each product before the next. Of rows [0, whole) a whole vector may be read.
template <typename T, class P>
HWY_ATTR void NarrowColumn(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                           std::int64_t m, std::int64_t k, std::int64_t whole, P part, float* c,
                           std::int64_t ldc) {
  const F32 d;
  for (std::int64_t i = 0; i < m; ++i) {
    const float* const x = a + i * lda;
    VecF32 s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    const auto add = [&](VecF32& sum, std::int64_t p, auto how) HWY_ATTR {
      sum = hn::MulAdd(hn::Set(d, x[p]), load(d, b + p * stride, how), sum);
    };
    std::int64_t p = 0;
    for (; p + kUnroll <= whole; p += kUnroll) {
      add(s0, p, Whole{}), add(s1, p + 1, Whole{}), add(s2, p + 2, Whole{});
      add(s3, p + 3, Whole{}), add(s4, p + 4, Whole{}), add(s5, p + 5, Whole{});
      add(s6, p + 6, Whole{}), add(s7, p + 7, Whole{});
    }
    for (; p < k; ++p) add(s0, p, part);
    const VecF32 low = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
    const VecF32 sum = hn::Add(low, hn::Add(hn::Add(s4, s5), hn::Add(s6, s7)));
    store(hn::Add(sum, load(d, c + i * ldc, part)), d, c + i * ldc, part);
  }
}

template <typename T>
HWY_ATTR void NarrowRows(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                         std::int64_t m, std::int64_t n, std::int64_t k, float* c,
                         std::int64_t ldc) {
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    NarrowColumn(a, lda, b + j, stride, m, k, k, Whole{}, c + j, ldc);
  }
  if (j == n) return;
  // Past the end of a row the next one follows, if they are dense: all but the last few rows.
  const std::int64_t last = k * n - j - kLanes;
  const std::int64_t whole = stride == n && last >= 0 ? last / n + 1 : 0;
  const Part part{static_cast<std::size_t>(n - j)};
  NarrowColumn(a, lda, b + j, stride, m, k, whole, part, c + j, ldc);
}

template <typename T>
HWY_ATTR void ByRows(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                     std::int64_t m, std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  // Rows of b are best read whole, in the order in which they lie, unless c is too large for that.
  const bool whole = n * m <= kMostElements;
  const std::int64_t strip = whole ? n : kStripElements / m;
  for (std::int64_t j = 0; j < n; j += strip) {
    const std::int64_t columns = std::min(strip, n - j);
    std::int64_t p = 0;
    for (; p + kUnroll <= k; p += kUnroll) {
      const Ahead ahead = p + 2 * kUnroll > k    ? Ahead::kNothing
                          : whole && stride == n ? Ahead::kInOrder
                                                 : Ahead::kInStrip;
      AddRows(a + p, lda, m, b + p * stride + j, stride, columns, ahead, c + j, ldc);
    }
    for (; p < k; ++p) AddRow(a + p, lda, m, b + p * stride + j, columns, c + j, ldc);
  }
}

// ---- b in columns -------------------------------------------------------------------------------

// Several columns read side by side are too many streams for a hardware prefetcher, which also
// stops where a column ends. So the next columns are asked for in the order in which they lie, this
// far ahead of their turn, into L2.
constexpr std::int64_t kBytesAhead = 8192;

// Two vectors of each of a and b. For bf16, which is the upper half of f32, they are the even and
// the odd elements: no lane moves. The copy of a is in that order then.
template <typename T>
struct VectorPair {
  VecF32 first, second;
};
template <typename T>
HWY_INLINE VectorPair<T> LoadPair(F32 d, const T* p) {
  return {load(d, p, Whole{}), load(d, p + kLanes, Whole{})};
}
HWY_INLINE VectorPair<BFloat16> LoadPair(F32 d, const BFloat16* p) {
  const hn::RebindToUnsigned<F32> du;
  const auto both = hn::LoadU(du, reinterpret_cast<const std::uint32_t*>(p));
  return {hn::BitCast(d, hn::ShiftLeft<16>(both)),
          hn::BitCast(d, hn::And(both, hn::Set(du, 0xffff0000u)))};
}

// The sums of four vectors, in the first lanes.
HWY_INLINE void AddSums(F32 d, VecF32 v0, VecF32 v1, VecF32 v2, VecF32 v3, float* c) {
#if HWY_TARGET == HWY_SCALAR
  c[0] += hn::GetLane(v0), c[1] += hn::GetLane(v1), c[2] += hn::GetLane(v2),
      c[3] += hn::GetLane(v3);
  static_cast<void>(d);
#else
  TransposeBlocks(d, v0, v1, v2, v3);
  const auto sum = SumOfBlocks(d, hn::Add(hn::Add(v0, v1), hn::Add(v2, v3)));
  const hn::CappedTag<float, 4> block;
  hn::StoreU(hn::Add(sum, hn::LoadU(block, c)), block, c);
#endif
}

// c[0, R)[0, C) += a[0, R) . C columns of b.
template <int R, int C, typename T>
HWY_ATTR void Dots(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                   std::int64_t k, float* c, std::int64_t ldc) {
  constexpr std::int64_t kAhead = kBytesAhead / std::int64_t{sizeof(T)};
  constexpr std::int64_t kLine = 64 / std::int64_t{sizeof(T)};
  const F32 d;
  VecF32 sum[R * C];
#pragma GCC unroll 16
  for (int q = 0; q < R * C; ++q) sum[q] = hn::Zero(d);
  const auto step = [&](std::int64_t p, const T* from, std::int64_t from_stride) HWY_ATTR {
    VecF32 x[R], y[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      x[r] = hn::LoadU(d, a + r * lda + p);
      y[r] = hn::LoadU(d, a + r * lda + p + kLanes);
    }
#pragma GCC unroll 8
    for (int q = 0; q < C; ++q) {
      const VectorPair<T> w = LoadPair(d, from + q * from_stride);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        sum[r * C + q] = hn::MulAdd(x[r], w.first, sum[r * C + q]);
        sum[r * C + q] = hn::MulAdd(y[r], w.second, sum[r * C + q]);
      }
    }
  };
  std::int64_t p = 0;
  for (; p + 2 * kLanes <= k; p += 2 * kLanes) {
    const T* const next = b + C * (stride + p) + kAhead;
    for (std::int64_t e = 0; e < C * 2 * kLanes; e += kLine) __builtin_prefetch(next + e, 0, 2);
    step(p, b + p, stride);
  }
  if (p < k) {
    // The copy of a ends with zeros too.
    HWY_ALIGN T rest[C * 2 * kLanes];
    for (int q = 0; q < C; ++q) {
      T* const to = rest + q * 2 * kLanes;
      std::fill_n(std::copy(b + q * stride + p, b + q * stride + k, to), p + 2 * kLanes - k, T{});
    }
    step(p, rest, 2 * kLanes);
  }
  static_assert(C == 1 || C % 4 == 0);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const VecF32* const s = sum + r * C;
    float* const row = c + r * ldc;
    if constexpr (C == 1) row[0] += hn::GetLane(hn::SumOfLanes(d, s[0]));
    if constexpr (C >= 4) AddSums(d, s[0], s[1], s[2], s[3], row);
    if constexpr (C >= 8) AddSums(d, s[4], s[5], s[6], s[7], row + 4);
  }
}

// Columns at once, and rows: as many sums as the registers hold, so that the multipliers never wait
// for the one before.
constexpr int kDotRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;

template <int R, typename T>
HWY_ATTR void DotRows(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                      std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  constexpr int kAtOnce = R * 8 <= kDotRows * 4 ? 8 : 4;
  std::int64_t j = 0;
  for (; j + kAtOnce <= n; j += kAtOnce) {
    Dots<R, kAtOnce>(a, lda, b + j * stride, stride, k, c + j, ldc);
  }
  for (; j < n; ++j) Dots<R, 1>(a, lda, b + j * stride, stride, k, c + j, ldc);
}

template <typename T>
HWY_ATTR void ByColumns(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                        std::int64_t m, std::int64_t n, std::int64_t k, float* c,
                        std::int64_t ldc) {
  // A few columns stay in L1 while every row is multiplied with them.
  constexpr std::int64_t kColumnsAtOnce = 8;
  for (std::int64_t j = 0; j < n; j += kColumnsAtOnce) {
    const std::int64_t columns = std::min(kColumnsAtOnce, n - j);
    const T* const bj = b + j * stride;
    std::int64_t i = 0;
    for (; i + kDotRows <= m; i += kDotRows) {
      DotRows<kDotRows>(a + i * lda, lda, bj, stride, columns, k, c + i * ldc + j, ldc);
    }
    float* const rest = c + i * ldc + j;
    if constexpr (kDotRows == 4) {
      if (m - i == 3) DotRows<3>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
      if (m - i == 2) DotRows<2>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
    }
    if (m - i == 1) DotRows<1>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
  }
}

// ---- Both ---------------------------------------------------------------------------------------

// Every two vectors become their elements 0, 2, 4, ... and then 1, 3, 5, ... Of one lane they do
// already.
HWY_ATTR void SplitPairs([[maybe_unused]] float* row, [[maybe_unused]] std::int64_t length) {
#if HWY_TARGET != HWY_SCALAR
  const F32 d;
  for (std::int64_t p = 0; p < length; p += 2 * kLanes) {
    const VecF32 low = hn::LoadU(d, row + p), high = hn::LoadU(d, row + p + kLanes);
    hn::StoreU(hn::ConcatEven(d, high, low), d, row + p);
    hn::StoreU(hn::ConcatOdd(d, high, low), d, row + p + kLanes);
  }
#endif
}

// Rows of a as f32, `ld` apart, with zeros behind their k elements.
template <typename T>
HWY_ATTR void ToFloatRows(const Matrix& a, std::int64_t m, std::int64_t k, float* to,
                          std::int64_t ld, bool split_pairs) {
  const F32 d;
  for (std::int64_t i = 0; i < m; ++i) {
    const T* const row = static_cast<const T*>(a.data) + i * a.row_stride;
    float* const out = to + i * ld;
    std::int64_t p = 0;
    if (a.column_stride == 1) {
      for (; p + kLanes <= k; p += kLanes) hn::StoreU(load(d, row + p, Whole{}), d, out + p);
    }
    for (; p < k; ++p) out[p] = static_cast<float>(row[p * a.column_stride]);
    std::fill(out + k, out + ld, 0.0f);
    if (split_pairs) SplitPairs(out, ld);
  }
}

template <typename T>
HWY_ATTR void Multiply(const float* a, std::int64_t lda, const Matrix& b, std::int64_t m,
                       std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  const T* const data = static_cast<const T*>(b.data);
  // The sums of a row stay in registers, but each row reads b again.
  const bool narrow = m == 1 ? n <= 4 * kLanes : n < 2 * kLanes;
  if (b.column_stride == 1 && narrow) {
    NarrowRows(a, lda, data, b.row_stride, m, n, k, c, ldc);
  } else if (b.column_stride == 1) {
    ByRows(a, lda, data, b.row_stride, m, n, k, c, ldc);
  } else {
    ByColumns(a, lda, data, b.column_stride, m, n, k, c, ldc);
  }
}

HWY_ATTR void SmallGemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n,
                        std::int64_t k, float* c, std::int64_t ldc, bool accumulate) {
  Workspace workspace;
  const float* left = static_cast<const float*>(a.data);
  std::int64_t lda = a.row_stride;
  const bool by_columns = b.column_stride != 1;
  const bool split_pairs = by_columns && b.dtype == DType::kBF16;
  const bool pads = by_columns && k % (2 * kLanes) != 0;
  if (a.dtype != DType::kF32 || a.column_stride != 1 || split_pairs || pads) {
    lda = (k + 31) / 32 * 32;
    float* const copy = workspace.take<float>(m * lda);
    switch (a.dtype) {
      case DType::kBF16:
        ToFloatRows<BFloat16>(a, m, k, copy, lda, split_pairs);
        break;
      case DType::kF16:
        ToFloatRows<Float16>(a, m, k, copy, lda, split_pairs);
        break;
      default:
        ToFloatRows<float>(a, m, k, copy, lda, split_pairs);
    }
    left = copy;
  }
  if (!accumulate) {
    for (std::int64_t i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, 0.0f);
  }
  switch (b.dtype) {
    case DType::kBF16:
      return Multiply<BFloat16>(left, lda, b, m, n, k, c, ldc);
    case DType::kF16:
      return Multiply<Float16>(left, lda, b, m, n, k, c, ldc);
    default:
      return Multiply<float>(left, lda, b, m, n, k, c, ldc);
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {

HWY_EXPORT(SmallGemm);

void small_gemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                float* c, std::int64_t ldc, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(SmallGemm)(a, b, m, n, k, c, ldc, accumulate);
}

}  // namespace metal_candle::backend::cpu
#endif
