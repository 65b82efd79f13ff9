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

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
// Rows of b in flight: as many streams as hardware prefetchers follow, and eight products for each
// load and store of c.
constexpr std::int64_t kUnroll = 8;
// Elements of c worked on at once take half of L1.
constexpr std::int64_t kStripElements = 4096;

// ---- b in rows ----------------------------------------------------------------------------------

// c[0, m)[0, n) += a[0, m)[0, kUnroll) @ kUnroll rows of b.
template <typename T>
HWY_ATTR void AddRows(const float* a, std::int64_t lda, std::int64_t m, const T* b,
                      std::int64_t stride, std::int64_t n, float* c, std::int64_t ldc) {
  const F32 d;
  const auto step = [&](std::int64_t j, auto part) HWY_ATTR {
    const T* const p = b + j;
    const VecF32 b0 = load(d, p, part), b1 = load(d, p + stride, part);
    const VecF32 b2 = load(d, p + 2 * stride, part), b3 = load(d, p + 3 * stride, part);
    const VecF32 b4 = load(d, p + 4 * stride, part), b5 = load(d, p + 5 * stride, part);
    const VecF32 b6 = load(d, p + 6 * stride, part), b7 = load(d, p + 7 * stride, part);
    // Rows of b are often shorter than what a hardware prefetcher needs to get going; when there is
    // arithmetic to hide it, fetch the next rows ahead. Past the end that does nothing.
    if (m > 1 && j * std::int64_t{sizeof(T)} % 64 == 0) {
      for (std::int64_t u = kUnroll; u < 2 * kUnroll; ++u) hwy::Prefetch(p + u * stride);
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
  const std::int64_t strip = kStripElements / m;
  for (std::int64_t j = 0; j < n; j += strip) {
    const std::int64_t columns = std::min(strip, n - j);
    std::int64_t p = 0;
    for (; p + kUnroll <= k; p += kUnroll) {
      AddRows(a + p, lda, m, b + p * stride + j, stride, columns, c + j, ldc);
    }
    for (; p < k; ++p) AddRow(a + p, lda, m, b + p * stride + j, columns, c + j, ldc);
  }
}

// ---- b in columns -------------------------------------------------------------------------------

// c[0, R)[0, C) += a[0, R) . C columns of b.
template <int R, int C, typename T>
HWY_ATTR void Dots(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                   std::int64_t k, float* c, std::int64_t ldc) {
  const F32 d;
  VecF32 sum[R * C];
#pragma GCC unroll 8
  for (int q = 0; q < R * C; ++q) sum[q] = hn::Zero(d);
  const auto step = [&](std::int64_t p, auto part) HWY_ATTR {
    VecF32 x[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) x[r] = load(d, a + r * lda + p, part);
#pragma GCC unroll 8
    for (int q = 0; q < C; ++q) {
      const VecF32 w = load(d, b + q * stride + p, part);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r * C + q] = hn::MulAdd(x[r], w, sum[r * C + q]);
    }
  };
  std::int64_t p = 0;
  for (; p + kLanes <= k; p += kLanes) step(p, Whole{});
  if (p < k) step(p, Part{static_cast<std::size_t>(k - p)});
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int q = 0; q < C; ++q) c[r * ldc + q] += hn::GetLane(hn::SumOfLanes(d, sum[r * C + q]));
  }
}

// All columns for R rows: as many columns at once as give eight sums, so that the multipliers never
// wait for the one before.
template <int R, typename T>
HWY_ATTR void DotRows(const float* a, std::int64_t lda, const T* b, std::int64_t stride,
                      std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  constexpr int kAtOnce = R == 1 ? 8 : R == 2 ? 4 : 2;
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
    for (; i + 4 <= m; i += 4) {
      DotRows<4>(a + i * lda, lda, bj, stride, columns, k, c + i * ldc + j, ldc);
    }
    float* const rest = c + i * ldc + j;
    if (m - i == 3) DotRows<3>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
    if (m - i == 2) DotRows<2>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
    if (m - i == 1) DotRows<1>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
  }
}

// ---- Both ---------------------------------------------------------------------------------------

template <typename T>
HWY_ATTR void ToFloatRows(const T* a, std::int64_t row_stride, std::int64_t column_stride,
                          std::int64_t m, std::int64_t k, float* to, std::int64_t ld) {
  const F32 d;
  for (std::int64_t i = 0; i < m; ++i) {
    const T* const row = a + i * row_stride;
    float* const out = to + i * ld;
    std::int64_t p = 0;
    if (column_stride == 1) {
      for (; p + kLanes <= k; p += kLanes) hn::StoreU(load(d, row + p, Whole{}), d, out + p);
    }
    for (; p < k; ++p) out[p] = static_cast<float>(row[p * column_stride]);
  }
}

template <typename T>
HWY_ATTR void Multiply(const float* a, std::int64_t lda, const Matrix& b, std::int64_t m,
                       std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  const T* const data = static_cast<const T*>(b.data);
  if (b.column_stride == 1 && n <= 4 * kLanes) {
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
  if (a.dtype != DType::kF32 || a.column_stride != 1) {
    lda = (k + 15) / 16 * 16;
    float* const copy = workspace.take<float>(m * lda);
    switch (a.dtype) {
      case DType::kBF16:
        ToFloatRows(static_cast<const BFloat16*>(a.data), a.row_stride, a.column_stride, m, k, copy,
                    lda);
        break;
      case DType::kF16:
        ToFloatRows(static_cast<const Float16*>(a.data), a.row_stride, a.column_stride, m, k, copy,
                    lda);
        break;
      default:
        ToFloatRows(left, a.row_stride, a.column_stride, m, k, copy, lda);
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
