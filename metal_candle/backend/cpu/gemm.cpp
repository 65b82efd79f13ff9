// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// gemm_block(). For each slice of kDepth of k, rows of a are packed into the L2 cache; for each
// panel of two vectors of columns, b's panel is packed into L1 (while the next one is prefetched),
// and then the rows pass over it a few at a time with their tile of c in registers. This is the
// scheme of Van Zee and van de Geijn, "BLIS: A Framework for Rapidly Instantiating BLAS
// Functionality", with a kept in rows, which a copy at a fixed distance makes as fast as
// interleaving them.
#include "metal_candle/backend/cpu/gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/gemm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "metal_candle/backend/cpu/bf16_gemm.h"
#include "metal_candle/backend/cpu/bf16_small_gemm.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/small_gemm.h"
#include "metal_candle/backend/cpu/transpose-inl.h"
#include "metal_candle/backend/cpu/workspace.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

// 6 x 2 accumulators, two vectors of b and one of a fill the 16 registers of AVX2; AVX-512 has 32.
constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 12 : 6;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
constexpr std::int64_t kColumns = 2 * kLanes;
// A panel of b takes 16 KiB (AVX2) of the 32 KiB of L1.
constexpr std::int64_t kDepth = 256;
// The rows of a that are packed at once take 280 KiB, about half of a usual L2.
constexpr std::int64_t kBlockRows = 264;
// Panels packed at once where b lies in rows.
constexpr std::int64_t kPanelsAtOnce = 4;
constexpr std::int64_t kPanelStride = kDepth * kColumns + 64;
// Packed rows of a lie this far apart, lest they fall into the same sets of the cache.
constexpr std::int64_t kPackedStride = kDepth + 16;

constexpr std::int64_t RoundUp(std::int64_t x, std::int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

// c[0, R)[0, kColumns) (+)= a @ panel over `depth`.
template <int R>
HWY_ATTR void MicroKernel(const float* HWY_RESTRICT a, const float* HWY_RESTRICT panel,
                          std::int64_t depth, float* HWY_RESTRICT c, std::int64_t ldc,
                          bool accumulate) {
  const F32 d;
  VecF32 left[R], right[R];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    // The end of the tile may lie in another line than its beginning.
    hwy::Prefetch(c + r * ldc);
    hwy::Prefetch(c + r * ldc + kColumns - 1);
    left[r] = hn::Zero(d);
    right[r] = hn::Zero(d);
  }
#pragma GCC unroll 4
  for (std::int64_t p = 0; p < depth; ++p) {
    const VecF32 b0 = hn::Load(d, panel + p * kColumns);
    const VecF32 b1 = hn::Load(d, panel + p * kColumns + kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const VecF32 x = hn::Set(d, a[r * kPackedStride + p]);
      left[r] = hn::MulAdd(x, b0, left[r]);
      right[r] = hn::MulAdd(x, b1, right[r]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* const row = c + r * ldc;
    if (accumulate) {
      left[r] = hn::Add(left[r], hn::LoadU(d, row));
      right[r] = hn::Add(right[r], hn::LoadU(d, row + kLanes));
    }
    hn::StoreU(left[r], d, row);
    hn::StoreU(right[r], d, row + kLanes);
  }
}

template <int R>
HWY_ATTR void CallMicroKernel(std::int64_t rows, const float* a, const float* panel,
                              std::int64_t depth, float* c, std::int64_t ldc, bool accumulate) {
  if constexpr (R > 1) {
    if (rows < R) return CallMicroKernel<R - 1>(rows, a, panel, depth, c, ldc, accumulate);
  }
  MicroKernel<R>(a, panel, depth, c, ldc, accumulate);
}

template <typename T>
HWY_ATTR void CopyToFloat(const T* from, std::int64_t stride, std::int64_t count, float* to) {
  const F32 d;
  std::int64_t i = 0;
  if (stride == 1) {
    for (; i + kLanes <= count; i += kLanes) hn::StoreU(load(d, from + i, Whole{}), d, to + i);
  }
  for (; i < count; ++i) to[i] = static_cast<float>(from[i * stride]);
}

#if HWY_TARGET != HWY_SCALAR
// Stores the 128-bit blocks of v to `to`, `to + stride`, ...
template <class D>
HWY_INLINE void StoreBlocks(D d, hn::Vec<D> v, float* to, std::int64_t stride) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    hn::StoreU(v, d, to);
  } else {
    const hn::Half<D> half;
    StoreBlocks(half, hn::LowerHalf(half, v), to, stride);
    StoreBlocks(half, hn::UpperHalf(half, v),
                to + stride * (static_cast<int>(hn::MaxLanes(half)) / 4), stride);
  }
}
#endif

// to[p * to_stride + j] = from[p + j * stride] for p < depth, j < count (a multiple of 4).
template <typename T>
HWY_ATTR void TransposeToFloat(const T* from, std::int64_t stride, std::int64_t depth,
                               std::int64_t count, float* to, std::int64_t to_stride) {
  std::int64_t p = 0;
#if HWY_TARGET != HWY_SCALAR
  const F32 d;
  for (; p + kLanes <= depth; p += kLanes) {
    for (std::int64_t j = 0; j < count; j += 4) {
      const T* row = from + p + j * stride;
      VecF32 v0 = load(d, row, Whole{}), v1 = load(d, row + stride, Whole{});
      VecF32 v2 = load(d, row + 2 * stride, Whole{}), v3 = load(d, row + 3 * stride, Whole{});
      TransposeBlocks(d, v0, v1, v2, v3);
      float* const corner = to + p * to_stride + j;
      StoreBlocks(d, v0, corner, 4 * to_stride);
      StoreBlocks(d, v1, corner + to_stride, 4 * to_stride);
      StoreBlocks(d, v2, corner + 2 * to_stride, 4 * to_stride);
      StoreBlocks(d, v3, corner + 3 * to_stride, 4 * to_stride);
    }
  }
#endif
  for (; p < depth; ++p) {
    for (std::int64_t j = 0; j < count; ++j) {
      to[p * to_stride + j] = static_cast<float>(from[p + j * stride]);
    }
  }
}

// Packs a[0, rows)[0, depth) into rows kPackedStride apart.
template <typename T>
HWY_ATTR void PackRows(const T* a, std::int64_t row_stride, std::int64_t column_stride,
                       std::int64_t rows, std::int64_t depth, float* to) {
  std::int64_t i = 0;
  if (row_stride == 1 && column_stride != 1) {
    // Whole columns of a, which are contiguous, become columns of the copy.
    const std::int64_t whole = depth / 4 * 4;
    TransposeToFloat(a, column_stride, rows, whole, to, kPackedStride);
    for (; i < rows; ++i) {
      CopyToFloat(a + i + whole * column_stride, column_stride, depth - whole,
                  to + i * kPackedStride + whole);
    }
    return;
  }
  for (; i < rows; ++i) {
    CopyToFloat(a + i * row_stride, column_stride, depth, to + i * kPackedStride);
  }
}

// Packs b[0, depth)[0, columns) into a panel of kColumns columns, padded with zeros.
template <typename T>
HWY_ATTR void PackPanel(const T* b, std::int64_t row_stride, std::int64_t column_stride,
                        std::int64_t depth, std::int64_t columns, float* HWY_RESTRICT panel) {
  const F32 d;
  if (columns < kColumns) {
    std::fill_n(panel, depth * kColumns, 0.0f);
    for (std::int64_t p = 0; p < depth; ++p) {
      CopyToFloat(b + p * row_stride, column_stride, columns, panel + p * kColumns);
    }
  } else if (column_stride == 1) {
    for (std::int64_t p = 0; p < depth; ++p) {
      const T* row = b + p * row_stride;
      hn::Store(load(d, row, Whole{}), d, panel + p * kColumns);
      hn::Store(load(d, row + kLanes, Whole{}), d, panel + p * kColumns + kLanes);
    }
  } else if (row_stride == 1 && kColumns % 4 == 0) {
    TransposeToFloat(b, column_stride, depth, kColumns, panel, kColumns);
  } else {
    for (std::int64_t p = 0; p < depth; ++p) {
      CopyToFloat(b + p * row_stride, column_stride, kColumns, panel + p * kColumns);
    }
  }
}

// How b lies, for the panels that PanelLoop() takes from it.
template <typename T>
struct PanelSource {
  const T* b;
  std::int64_t row_stride, column_stride, columns, depth;

  [[nodiscard]] bool in_rows() const { return column_stride == 1; }

  // Packs the panel at column j.
  HWY_ATTR void pack(std::int64_t j, float* panel) const {
    PackPanel(b + j * column_stride, row_stride, column_stride, depth,
              std::min(kColumns, columns - j), panel);
  }
  // Packs kPanelsAtOnce whole panels of a b in rows.
  HWY_ATTR void pack_whole(std::int64_t j, float* HWY_RESTRICT panels) const {
    const F32 d;
    for (std::int64_t p = 0; p < depth; ++p) {
      const T* const row = b + p * row_stride + j;
      float* const to = panels + p * kColumns;
#pragma GCC unroll 8
      for (std::int64_t q = 0; q < kPanelsAtOnce; ++q) {
        const T* const from = row + q * kColumns;
        hn::Store(load(d, from, Whole{}), d, to + q * kPanelStride);
        hn::Store(load(d, from + kLanes, Whole{}), d, to + q * kPanelStride + kLanes);
      }
    }
  }
  // Asks for part `part` of `parts` of columns [j, j + count), into L2: packing them later has
  // nothing to do but wait for them.
  HWY_ATTR void prefetch(std::int64_t j, std::int64_t count, std::int64_t part,
                         std::int64_t parts) const {
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
    count = std::min(count, columns - j);
    if (count <= 0) return;
    const std::int64_t runs = in_rows() ? depth : count, length = in_rows() ? count : depth;
    const std::int64_t stride = in_rows() ? row_stride : column_stride;
    const T* const from = b + j * (in_rows() ? 1 : column_stride);
    for (std::int64_t i = runs * part / parts; i < runs * (part + 1) / parts; ++i) {
      for (std::int64_t q = 0; q < length; q += kLine) {
        __builtin_prefetch(from + i * stride + q, 0, 2);
      }
    }
  }
};

// c[0, rows)[0, columns) (+)= a @ panel, through a whole tile where c's is cut off.
HWY_ATTR void ComputeTile(std::int64_t rows, std::int64_t columns, const float* a,
                          const float* panel, std::int64_t depth, float* c, std::int64_t ldc,
                          bool accumulate) {
  if (columns == kColumns) {
    return CallMicroKernel<kMaxRows>(rows, a, panel, depth, c, ldc, accumulate);
  }
  HWY_ALIGN float tile[kMaxRows * kColumns];
  CallMicroKernel<kMaxRows>(rows, a, panel, depth, tile, kColumns, false);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t q = 0; q < columns; ++q) {
      c[r * ldc + q] = tile[r * kColumns + q] + (accumulate ? c[r * ldc + q] : 0.0f);
    }
  }
}

// Panels are packed several at a time: a row of them is then a few whole lines of one page, where a
// panel alone would touch a new page for every line.
template <typename T>
HWY_ATTR void PanelLoop(const float* a, std::int64_t m, const PanelSource<T>& source, float* panels,
                        float* c, std::int64_t ldc, bool accumulate) {
  // Groups of rows are of like size, because a small one leaves the multipliers waiting.
  const std::int64_t groups = (m + kMaxRows - 1) / kMaxRows;
  const std::int64_t depth = source.depth;
  const std::int64_t at_once = source.in_rows() ? kPanelsAtOnce : 1;
  for (std::int64_t j0 = 0; j0 < source.columns; j0 += at_once * kColumns) {
    const std::int64_t j1 = std::min(source.columns, j0 + at_once * kColumns);
    if (at_once > 1 && j1 - j0 == at_once * kColumns) {
      source.pack_whole(j0, panels);
    } else {
      for (std::int64_t j = j0; j < j1; j += kColumns) {
        source.pack(j, panels + (j - j0) / kColumns * kPanelStride);
      }
    }
    const std::int64_t tiles = (j1 - j0 + kColumns - 1) / kColumns * groups;
    std::int64_t tile = 0;
    for (std::int64_t j = j0; j < j1; j += kColumns) {
      const float* const panel = panels + (j - j0) / kColumns * kPanelStride;
      for (std::int64_t g = 0; g < groups; ++g, ++tile) {
        const std::int64_t i = g * m / groups, rows = (g + 1) * m / groups - i;
        source.prefetch(j1, at_once * kColumns, tile, tiles);
        ComputeTile(rows, std::min(kColumns, source.columns - j), a + i * kPackedStride, panel,
                    depth, c + i * ldc + j, ldc, accumulate);
      }
    }
  }
}

template <typename TA, typename TB>
HWY_ATTR void GemmTyped(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n,
                        std::int64_t k, float* c, std::int64_t ldc, bool accumulate) {
  Workspace workspace;
  // Slices and blocks of like size: a small last one would pay for packing b all the same.
  const std::int64_t row_blocks = (m + kBlockRows - 1) / kBlockRows;
  const std::int64_t block_rows = RoundUp((m + row_blocks - 1) / row_blocks, kMaxRows);
  const std::int64_t slices = (k + kDepth - 1) / kDepth;
  const std::int64_t slice = RoundUp((k + slices - 1) / slices, 16);
  float* const panels = workspace.take<float>(kPanelsAtOnce * kPanelStride);
  float* const rows = workspace.take<float>(block_rows * kPackedStride);
  for (std::int64_t i = 0; i < m; i += block_rows) {
    const std::int64_t block = std::min(block_rows, m - i);
    for (std::int64_t p = 0; p < k; p += slice) {
      const std::int64_t depth = std::min(slice, k - p);
      PackRows(static_cast<const TA*>(a.block(i, p).data), a.row_stride, a.column_stride, block,
               depth, rows);
      const PanelSource<TB> source{static_cast<const TB*>(b.block(p, 0).data), b.row_stride,
                                   b.column_stride, n, depth};
      PanelLoop(rows, block, source, panels, c + i * ldc, ldc, accumulate || p > 0);
    }
  }
}

template <typename TA>
HWY_ATTR void GemmRight(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n,
                        std::int64_t k, float* c, std::int64_t ldc, bool accumulate) {
  switch (b.dtype) {
    case DType::kBF16:
      return GemmTyped<TA, BFloat16>(a, b, m, n, k, c, ldc, accumulate);
    case DType::kF16:
      return GemmTyped<TA, Float16>(a, b, m, n, k, c, ldc, accumulate);
    default:
      return GemmTyped<TA, float>(a, b, m, n, k, c, ldc, accumulate);
  }
}

void GemmBlock(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
               float* c, std::int64_t ldc, bool accumulate) {
  switch (a.dtype) {
    case DType::kBF16:
      return GemmRight<BFloat16>(a, b, m, n, k, c, ldc, accumulate);
    case DType::kF16:
      return GemmRight<Float16>(a, b, m, n, k, c, ldc, accumulate);
    default:
      return GemmRight<float>(a, b, m, n, k, c, ldc, accumulate);
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {

HWY_EXPORT(GemmBlock);

void gemm_block(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                float* c, std::int64_t ldc, bool accumulate) {
  if (k <= 0) {
    if (!accumulate) {
      for (std::int64_t i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, 0.0f);
    }
    return;
  }
  if (is_small_gemm(b, m, k)) {
    const bool are_bf16 = a.dtype == DType::kBF16 && b.dtype == DType::kBF16;
    return are_bf16 && takes_bf16_small_gemm(b, m, n)
               ? bf16_small_gemm(a, b, m, n, k, c, ldc, accumulate)
               : small_gemm(a, b, m, n, k, c, ldc, accumulate);
  }
  if (takes_bf16_gemm(a, b)) return bf16_gemm(a, b, m, n, k, c, ldc, accumulate);
  HWY_DYNAMIC_DISPATCH(GemmBlock)(a, b, m, n, k, c, ldc, accumulate);
}

}  // namespace metal_candle::backend::cpu
#endif
