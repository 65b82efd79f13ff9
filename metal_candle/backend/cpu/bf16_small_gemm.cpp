// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The scheme of small_gemm.cpp on pairs of bf16.
#include "metal_candle/backend/cpu/bf16_small_gemm.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "metal_candle/backend/cpu/bf16_pairs.h"
#include "metal_candle/backend/cpu/small_gemm.h"
#include "metal_candle/backend/cpu/workspace.h"

// GCC 12's own header makes vectors of undefined lanes in a way that GCC 12 warns of.
HWY_DIAGNOSTICS(push)
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wuninitialized")
HWY_DIAGNOSTICS_OFF(disable : 4703, ignored "-Wmaybe-uninitialized")

HWY_PUSH_ATTRIBUTES(METAL_CANDLE_BF16_ATTRIBUTES)
namespace metal_candle::backend::cpu {
namespace {

using bf16_pairs::dot, bf16_pairs::interleave, bf16_pairs::Interleaved, bf16_pairs::kLanes;

inline __m512i load_pairs(const BFloat16* p) { return _mm512_loadu_si512(p); }

inline __m512i load_pair(const std::uint32_t* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }

// The 32 bits of elements 2p and 2p + 1, the second being 0 past the end of k.
inline std::uint32_t pair_of(const BFloat16* first, const BFloat16* second) {
  return first->bits | (second ? static_cast<std::uint32_t>(second->bits) << 16 : 0u);
}

// ---- Few rows, b in columns ---------------------------------------------------------------------

// Several rows: the columns to come are asked for in the order in which they lie, as in
// small_gemm.cpp.
constexpr std::int64_t kElementsAhead = 4096;

// The sums of four vectors.
inline __m128 sums(__m512 v0, __m512 v1, __m512 v2, __m512 v3) {
  const __m512 s01 = _mm512_add_ps(_mm512_unpacklo_ps(v0, v1), _mm512_unpackhi_ps(v0, v1));
  const __m512 s23 = _mm512_add_ps(_mm512_unpacklo_ps(v2, v3), _mm512_unpackhi_ps(v2, v3));
  const __m512d p01 = _mm512_castps_pd(s01), p23 = _mm512_castps_pd(s23);
  const __m512 s = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(p01, p23)),
                                 _mm512_castpd_ps(_mm512_unpackhi_pd(p01, p23)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// c[0, R)[0, C) += a[0, R) . C columns of b.
template <int R, int C>
void dots(const BFloat16* a, std::int64_t lda, const BFloat16* b, std::int64_t stride,
          std::int64_t k, float* c, std::int64_t ldc) {
  constexpr std::int64_t kStep = 2 * kLanes;
  __m512 sum[R * C];
#pragma GCC unroll 16
  for (int q = 0; q < R * C; ++q) sum[q] = _mm512_setzero_ps();
  std::int64_t p = 0;
  for (; p + kStep <= k; p += kStep) {
    const BFloat16* const next = b + C * (stride + p) + kElementsAhead;
#pragma GCC unroll 8
    for (int q = 0; q < C; ++q) __builtin_prefetch(next + q * kStep, 0, 2);
    __m512i x[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) x[r] = load_pairs(a + r * lda + p);
#pragma GCC unroll 8
    for (int q = 0; q < C; ++q) {
      const __m512i w = load_pairs(b + q * stride + p);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r * C + q] = dot(sum[r * C + q], x[r], w);
    }
  }
  if (p < k) {
    const __mmask32 inside = (__mmask32{1} << (k - p)) - 1;
#pragma GCC unroll 8
    for (int q = 0; q < C; ++q) {
      const __m512i w = _mm512_maskz_loadu_epi16(inside, b + q * stride + p);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m512i x = _mm512_maskz_loadu_epi16(inside, a + r * lda + p);
        sum[r * C + q] = dot(sum[r * C + q], x, w);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const __m512* const s = sum + r * C;
    float* const row = c + r * ldc;
    if constexpr (C == 1) {
      const __m512 none = _mm512_setzero_ps();
      row[0] += _mm_cvtss_f32(sums(s[0], none, none, none));
    }
    if constexpr (C >= 4) {
      _mm_storeu_ps(row, _mm_add_ps(_mm_loadu_ps(row), sums(s[0], s[1], s[2], s[3])));
    }
    if constexpr (C >= 8) {
      _mm_storeu_ps(row + 4, _mm_add_ps(_mm_loadu_ps(row + 4), sums(s[4], s[5], s[6], s[7])));
    }
  }
}

// One row of a, while it stays in L1 beside what is read: it is read again for every column.
constexpr std::int64_t kMostElementsOfOneRow = 6144;

// The products of a row with one column, to be added up. Read one by one, columns lie in the order
// that hardware prefetchers follow best.
HWY_INLINE __m512 dot_column(const BFloat16* a, const BFloat16* column, std::int64_t k) {
  constexpr std::int64_t kStep = 2 * kLanes;
  constexpr int kSums = 4;  // None waits for the one before it.
  __m512 sum[kSums];
#pragma GCC unroll 4
  for (int q = 0; q < kSums; ++q) sum[q] = _mm512_setzero_ps();
  std::int64_t p = 0;
  for (; p + kSums * kStep <= k; p += kSums * kStep) {
#pragma GCC unroll 4
    for (int q = 0; q < kSums; ++q) {
      sum[q] = dot(sum[q], load_pairs(a + p + q * kStep), load_pairs(column + p + q * kStep));
    }
  }
  for (; p < k; p += kStep) {
    const __mmask32 inside = k - p >= kStep ? ~__mmask32{0} : (__mmask32{1} << (k - p)) - 1;
    sum[0] = dot(sum[0], _mm512_maskz_loadu_epi16(inside, a + p),
                 _mm512_maskz_loadu_epi16(inside, column + p));
  }
  return _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
}

void dot_row(const BFloat16* a, const BFloat16* b, std::int64_t stride, std::int64_t n,
             std::int64_t k, float* c) {
  for (std::int64_t j = 0; j < n; j += 4) {
    __m512 products[4];
#pragma GCC unroll 4
    for (std::int64_t q = 0; q < 4; ++q) {
      products[q] = j + q < n ? dot_column(a, b + (j + q) * stride, k) : _mm512_setzero_ps();
    }
    const auto columns = static_cast<__mmask8>(n - j < 4 ? (1 << (n - j)) - 1 : 15);
    const __m128 sum = sums(products[0], products[1], products[2], products[3]);
    _mm_mask_storeu_ps(c + j, columns, _mm_add_ps(_mm_maskz_loadu_ps(columns, c + j), sum));
  }
}

template <int R>
void dot_rows(const BFloat16* a, std::int64_t lda, const BFloat16* b, std::int64_t stride,
              std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  constexpr int kAtOnce = R <= 2 ? 8 : 4;
  std::int64_t j = 0;
  for (; j + kAtOnce <= n; j += kAtOnce) {
    dots<R, kAtOnce>(a, lda, b + j * stride, stride, k, c + j, ldc);
  }
  for (; j < n; ++j) dots<R, 1>(a, lda, b + j * stride, stride, k, c + j, ldc);
}

void by_columns(const BFloat16* a, std::int64_t lda, const BFloat16* b, std::int64_t stride,
                std::int64_t m, std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  if (m == 1 && k <= kMostElementsOfOneRow) return dot_row(a, b, stride, n, k, c);
  // A few columns stay in the cache while every row is multiplied with them.
  constexpr std::int64_t kColumnsAtOnce = 8;
  for (std::int64_t j = 0; j < n; j += kColumnsAtOnce) {
    const std::int64_t columns = std::min(kColumnsAtOnce, n - j);
    const BFloat16* const bj = b + j * stride;
    std::int64_t i = 0;
    for (; i + 4 <= m; i += 4)
      dot_rows<4>(a + i * lda, lda, bj, stride, columns, k, c + i * ldc + j, ldc);
    float* const rest = c + i * ldc + j;
    if (m - i == 3) dot_rows<3>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
    if (m - i == 2) dot_rows<2>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
    if (m - i == 1) dot_rows<1>(a + i * lda, lda, bj, stride, columns, k, rest, ldc);
  }
}

// ---- Few rows, b in rows ------------------------------------------------------------------------

// Which of 32 columns there are. All of them is a type of its own, as masks cost.
struct AllColumns {
  static __m512i load(const BFloat16* p) { return _mm512_loadu_si512(p); }
  static __m512 load_low(const float* p) { return _mm512_loadu_ps(p); }
  static __m512 load_high(const float* p) { return _mm512_loadu_ps(p); }
  static void store_low(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
  static void store_high(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
};
struct FirstColumns {
  __mmask32 inside;
  [[nodiscard]] __mmask16 low() const { return static_cast<__mmask16>(inside); }
  [[nodiscard]] __mmask16 high() const { return static_cast<__mmask16>(inside >> 16); }
  [[nodiscard]] __m512i load(const BFloat16* p) const {
    return _mm512_maskz_loadu_epi16(inside, p);
  }
  [[nodiscard]] __m512 load_low(const float* p) const { return _mm512_maskz_loadu_ps(low(), p); }
  [[nodiscard]] __m512 load_high(const float* p) const { return _mm512_maskz_loadu_ps(high(), p); }
  void store_low(float* p, __m512 v) const { _mm512_mask_storeu_ps(p, low(), v); }
  void store_high(float* p, __m512 v) const { _mm512_mask_storeu_ps(p, high(), v); }
};

// c[0, R)[0, 32) += x, the pairs of R rows, with pairs of rows of b, of the last of which the
// second may be missing.
template <int R, int Pairs, class Columns>
HWY_INLINE void add_rows(const std::uint32_t (&x)[R][Pairs], const BFloat16* b, std::int64_t stride,
                         bool whole_last, Columns part, float* c, std::int64_t ldc) {
  Interleaved w[Pairs];
#pragma GCC unroll 4
  for (int u = 0; u < Pairs; ++u) {
    const bool has_odd = u + 1 < Pairs || whole_last;
    const __m512i odd = has_odd ? part.load(b + (2 * u + 1) * stride) : _mm512_setzero_si512();
    w[u] = interleave(part.load(b + 2 * u * stride), odd);
  }
  // Where the pairs do not leave enough registers, an address that the compiler knows nothing of:
  // it would keep them there from one call to the next, and the columns on the stack.
  const std::uint32_t* pairs = &x[0][0];
  if constexpr (R * Pairs > 20) asm volatile("" : "+r"(pairs));
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* const y = c + r * ldc;
    __m512 left = part.load_low(y), right = part.load_high(y + kLanes);
#pragma GCC unroll 4
    for (int u = 0; u < Pairs; ++u) {
      const __m512i pair = load_pair(pairs + r * Pairs + u);
      left = dot(left, pair, w[u].low);
      right = dot(right, pair, w[u].high);
    }
    part.store_low(y, left);
    part.store_high(y + kLanes, right);
  }
}

constexpr int kPairsAtOnce = 4;  // Eight rows of b.
constexpr std::int64_t kStripElements = 4096, kMostElements = 8192;

template <int R, int Pairs>
void add_strip(const std::uint32_t* x, std::int64_t ldx, const BFloat16* b, std::int64_t stride,
               std::int64_t columns, Ahead ahead, bool whole_last, float* c, std::int64_t ldc) {
  constexpr std::int64_t kRows = 2 * Pairs;
  // Side by side, or the compiler keeps the address of each, in more registers than there are.
  std::uint32_t pairs[R][Pairs];
  for (int r = 0; r < R; ++r) std::copy_n(x + r * ldx, Pairs, pairs[r]);
  std::int64_t j = 0;
  for (; j + 32 <= columns; j += 32) {
    if (ahead != Ahead::kNothing) {
      const bool in_order = ahead == Ahead::kInOrder;
      const BFloat16* const next = b + kRows * stride + (in_order ? j * kRows : j);
      for (int u = 0; u < kRows; ++u) __builtin_prefetch(next + u * (in_order ? 32 : stride), 0, 2);
    }
    add_rows<R, Pairs>(pairs, b + j, stride, whole_last, AllColumns{}, c + j, ldc);
  }
  if (j == columns) return;
  const FirstColumns part{(__mmask32{1} << (columns - j)) - 1};
  add_rows<R, Pairs>(pairs, b + j, stride, whole_last, part, c + j, ldc);
}

template <int R>
void by_rows(const std::uint32_t* x, std::int64_t ldx, const BFloat16* b, std::int64_t stride,
             std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  // Rows of b are best read whole, in the order in which they lie; but if c is too large for that,
  // what is worked on of it takes half of L1.
  const bool whole = n * R <= kMostElements;
  const std::int64_t strip = whole ? n : kStripElements / R / 32 * 32;
  for (std::int64_t j = 0; j < n; j += strip) {
    const std::int64_t columns = std::min(strip, n - j);
    std::int64_t p = 0;
    for (; p + 2 * kPairsAtOnce <= k; p += 2 * kPairsAtOnce) {
      const Ahead ahead = p + 4 * kPairsAtOnce > k ? Ahead::kNothing
                          : whole && stride == n   ? Ahead::kInOrder
                                                   : Ahead::kInStrip;
      add_strip<R, kPairsAtOnce>(x + p / 2, ldx, b + p * stride + j, stride, columns, ahead, true,
                                 c + j, ldc);
    }
    for (; p < k; p += 2) {
      add_strip<R, 1>(x + p / 2, ldx, b + p * stride + j, stride, columns, Ahead::kNothing,
                      p + 1 < k, c + j, ldc);
    }
  }
}

template <int R>
void call_by_rows(std::int64_t m, const std::uint32_t* x, std::int64_t ldx, const BFloat16* b,
                  std::int64_t stride, std::int64_t n, std::int64_t k, float* c, std::int64_t ldc) {
  if constexpr (R > 1) {
    if (m < R) return call_by_rows<R - 1>(m, x, ldx, b, stride, n, k, c, ldc);
  }
  by_rows<R>(x, ldx, b, stride, n, k, c, ldc);
}

// ---- Both ---------------------------------------------------------------------------------------

// a[0, rows)[0, k) as pairs, in rows `stride` apart.
void pack_left(const Matrix& a, std::int64_t rows, std::int64_t k, std::uint32_t* to,
               std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const BFloat16* const from = static_cast<const BFloat16*>(a.data) + i * a.row_stride;
    std::uint32_t* const out = to + i * stride;
    const std::int64_t whole = k / 2;
    if (a.column_stride == 1) {
      std::memcpy(out, from, static_cast<std::size_t>(whole) * 4);
    } else {
      for (std::int64_t p = 0; p < whole; ++p) {
        out[p] = pair_of(from + 2 * p * a.column_stride, from + (2 * p + 1) * a.column_stride);
      }
    }
    if (k % 2 != 0) out[whole] = pair_of(from + (k - 1) * a.column_stride, nullptr);
  }
}

void clear(float* c, std::int64_t ldc, std::int64_t m, std::int64_t n) {
  for (std::int64_t i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, 0.0f);
}

}  // namespace

void bf16_small_gemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n,
                     std::int64_t k, float* c, std::int64_t ldc, bool accumulate) {
  if (!accumulate) clear(c, ldc, m, n);
  const auto* const right = static_cast<const BFloat16*>(b.data);
  Workspace workspace;
  const std::int64_t stride = (k + 31) / 32 * 16;
  if (b.column_stride != 1 && a.column_stride == 1) {
    return by_columns(static_cast<const BFloat16*>(a.data), a.row_stride, right, b.column_stride, m,
                      n, k, c, ldc);
  }
  std::uint32_t* const pairs = workspace.take<std::uint32_t>(m * stride);
  pack_left(a, m, k, pairs, stride);
  if (b.column_stride == 1) {
    return call_by_rows<static_cast<int>(kSmallGemmRows)>(m, pairs, stride, right, b.row_stride, n,
                                                          k, c, ldc);
  }
  by_columns(reinterpret_cast<const BFloat16*>(pairs), 2 * stride, right, b.column_stride, m, n, k,
             c, ldc);
}

}  // namespace metal_candle::backend::cpu
HWY_POP_ATTRIBUTES
HWY_DIAGNOSTICS(pop)

namespace metal_candle::backend::cpu {

bool takes_bf16_small_gemm(const Matrix& b, std::int64_t m, std::int64_t n) {
  return bf16_pairs::are_supported() && (b.column_stride != 1 || n >= (m == 1 ? 65 : 32));
}

}  // namespace metal_candle::backend::cpu

#else

#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {

bool takes_bf16_small_gemm(const Matrix&, std::int64_t, std::int64_t) { return false; }

void bf16_small_gemm(const Matrix&, const Matrix&, std::int64_t, std::int64_t, std::int64_t, float*,
                     std::int64_t, bool) {
  throw DeviceError("cpu: this processor has no products of bf16");
}

}  // namespace metal_candle::backend::cpu

#endif
