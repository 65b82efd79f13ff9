// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The scheme of gemm.cpp on pairs of bf16: columns of one operand are packed, a slice of k at a
// time, and rows of the other pass over them with their tile of the sums in registers. Rows are
// read as they lie, if their elements are side by side, so of x @ w and of x @ w^T, which are most
// of a model, one operand is never copied. In the second that is the weight: its columns are taken
// as rows, those of x as columns, and tiles are transposed as they are stored.
#include "metal_candle/backend/cpu/bf16_gemm.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <utility>

#include "metal_candle/backend/cpu/bf16_pairs.h"
#include "metal_candle/backend/cpu/workspace.h"

// GCC 12's own header makes vectors of undefined lanes in a way that GCC 12 warns of.
HWY_DIAGNOSTICS(push)
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wuninitialized")
HWY_DIAGNOSTICS_OFF(disable : 4703, ignored "-Wmaybe-uninitialized")

HWY_PUSH_ATTRIBUTES(METAL_CANDLE_BF16_ATTRIBUTES)
namespace metal_candle::backend::cpu {
namespace {

using bf16_pairs::dot, bf16_pairs::interleave, bf16_pairs::Interleaved, bf16_pairs::kLanes;

// 14 x 2 sums, two vectors of columns and one of a row's pair fill 31 of 32 registers.
constexpr int kMaxRows = 14;
constexpr std::int64_t kColumns = 2 * kLanes;
// A slice of k and the columns packed of it at once: 256 KiB, as much as is asked for meanwhile,
// both in an L2 of 1 MiB. A tile's rows of a slice take 28 KiB.
constexpr std::int64_t kDepth = 1024;
constexpr std::int64_t kBlockColumns = 128;
// Between two looks at what is to be read next.
constexpr std::int64_t kPairsAtOnce = 16;

constexpr std::int64_t round_up(std::int64_t x, std::int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

inline __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffff
                                                : (1 << std::max<std::int64_t>(count, 0)) - 1);
}
inline __mmask32 first_elements(std::int64_t count) {
  return count >= 32 ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
}

// 16 rows of 32-bit elements, of which the last may stand for several that are not there.
struct Rows {
  Rows(const void* first, std::int64_t bytes_apart, std::int64_t count) {
    for (std::int64_t i = 0; i < kLanes; ++i) {
      row[i] = static_cast<const char*>(first) + std::min(i, count - 1) * bytes_apart;
    }
  }
  const char* row[kLanes];
};

// Elements [p, p + 4) of the rows: vector i has element p + i of row j in lane j.
inline void load_transposed(const Rows& rows, std::int64_t p, __m512i (&v)[4]) {
  __m512i x[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto part = [&](int j) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.row[4 * j + i] + 4 * p));
    };
    x[i] = _mm512_zextsi128_si512(part(0));
    x[i] = _mm512_mask_broadcast_i32x4(x[i], 0x00f0, part(1));
    x[i] = _mm512_mask_broadcast_i32x4(x[i], 0x0f00, part(2));
    x[i] = _mm512_mask_broadcast_i32x4(x[i], 0xf000, part(3));
  }
  const __m512i low01 = _mm512_unpacklo_epi32(x[0], x[1]);
  const __m512i high01 = _mm512_unpackhi_epi32(x[0], x[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(x[2], x[3]);
  const __m512i high23 = _mm512_unpackhi_epi32(x[2], x[3]);
  v[0] = _mm512_unpacklo_epi64(low01, low23);
  v[1] = _mm512_unpackhi_epi64(low01, low23);
  v[2] = _mm512_unpacklo_epi64(high01, high23);
  v[3] = _mm512_unpackhi_epi64(high01, high23);
}

// What is read next: `runs` of `length` elements, `stride` apart. It is asked for while tiles are
// computed, a few lines at a time: many at once would have to wait for each other.
struct Ahead {
  const BFloat16* from = nullptr;
  std::int64_t runs = 0, length = 0, stride = 0;
  std::int64_t lines = 0;  // At a time.
  std::int64_t run = 0, element = 0;

  // Distributes it over so many calls of next().
  void distribute(std::int64_t calls) {
    lines = (runs * ((length + kLine - 1) / kLine) + calls - 1) / calls;
  }
  HWY_INLINE void next() {
    for (std::int64_t i = 0; i < lines && run < runs; ++i) {
      __builtin_prefetch(from + run * stride + element);
      element += kLine;
      if (element < length) continue;
      element = 0;
      ++run;
    }
  }
  static constexpr std::int64_t kLine = 32;
};

// ---- One tile -----------------------------------------------------------------------------------

// Where the sums of a tile go: `columns` of them in each row. A tile that is stored transposed has
// its rows one element apart, and its columns `stride`.
struct Target {
  float* c;
  std::int64_t stride, columns;
  bool transposed, accumulate;
};

void store_transposed(const float* tile, std::int64_t rows, const Target& to) {
  const __mmask16 inside = first_lanes(rows);
  const Rows from(tile, kColumns * 4, rows);
  for (std::int64_t j = 0; j < to.columns; j += 4) {
    __m512i v[4];
    load_transposed(from, j, v);
    const std::int64_t columns = std::min<std::int64_t>(4, to.columns - j);
    for (std::int64_t q = 0; q < columns; ++q) {
      float* const out = to.c + (j + q) * to.stride;
      __m512 sums = _mm512_castsi512_ps(v[q]);
      if (to.accumulate) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(inside, out));
      _mm512_mask_storeu_ps(out, inside, sums);
    }
  }
}

// `to` (+)= R rows, `stride` apart, @ a panel of V vectors of columns, over `depth` of k.
template <int R, int V>
void compute_tile(const BFloat16* rows, std::int64_t stride, const std::uint32_t* panel,
                  std::int64_t depth, const Target& to, Ahead& rows_ahead, Ahead& block_ahead) {
  __m512 sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[r][v] = _mm512_setzero_ps();
  }
  const std::int64_t pairs = depth / 2;
  // A pointer for every three rows: with one for each, there are not enough registers.
  constexpr int kPointers = (R + 2) / 3;
  const BFloat16* at[kPointers];
#pragma GCC unroll 8
  for (int i = 0; i < kPointers; ++i) at[i] = rows + 3 * i * stride;
  for (std::int64_t p = 0; p < pairs;) {
    rows_ahead.next();
    block_ahead.next();
    for (const std::int64_t end = std::min(p + kPairsAtOnce, pairs); p < end; ++p) {
      __m512i columns[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) columns[v] = _mm512_load_si512(panel + (p * V + v) * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        int pair;
        std::memcpy(&pair, at[r / 3] + r % 3 * stride, sizeof(pair));
        const __m512i x = _mm512_set1_epi32(pair);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] = dot(sums[r][v], columns[v], x);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kPointers; ++i) at[i] += 2;
    }
  }
  if (depth % 2 != 0) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512i x = _mm512_set1_epi32(rows[r * stride + depth - 1].bits);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512i column = _mm512_load_si512(panel + (pairs * V + v) * kLanes);
        sums[r][v] = dot(sums[r][v], column, x);
      }
    }
  }
  if (to.transposed) {
    alignas(64) float tile[R * kColumns];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) _mm512_store_ps(tile + r * kColumns + v * kLanes, sums[r][v]);
    }
    return store_transposed(tile, R, to);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const __mmask16 inside = first_lanes(to.columns - v * kLanes);
      float* const out = to.c + r * to.stride + v * kLanes;
      if (to.accumulate) {
        sums[r][v] = _mm512_add_ps(sums[r][v], _mm512_maskz_loadu_ps(inside, out));
      }
      _mm512_mask_storeu_ps(out, inside, sums[r][v]);
    }
  }
}

using Tile = void (*)(const BFloat16*, std::int64_t, const std::uint32_t*, std::int64_t,
                      const Target&, Ahead&, Ahead&);

template <int V, int... Rows>
constexpr std::array<Tile, kMaxRows> tiles_of(std::integer_sequence<int, Rows...>) {
  return {&compute_tile<Rows + 1, V>...};
}

// By the number of rows less one; of one vector of columns, and of two.
constexpr std::make_integer_sequence<int, kMaxRows> kRows;
constexpr std::array<Tile, kMaxRows> kNarrowTiles = tiles_of<1>(kRows);
constexpr std::array<Tile, kMaxRows> kTiles = tiles_of<2>(kRows);

// ---- Packing ------------------------------------------------------------------------------------

const BFloat16* elements(const Matrix& matrix) { return static_cast<const BFloat16*>(matrix.data); }

// The pairs of rows 2p and 2p + 1 of b[0, depth)[j, j + 32), what is not inside being 0.
inline Interleaved pairs_of_rows(const BFloat16* b, std::int64_t stride, std::int64_t p,
                                 std::int64_t depth, __mmask32 inside) {
  const BFloat16* const row = b + 2 * p * stride;
  const __mmask32 has_odd = 2 * p + 1 < depth ? inside : 0;
  return interleave(_mm512_maskz_loadu_epi16(inside, row),
                    _mm512_maskz_loadu_epi16(has_odd, row + stride));
}

// A panel is [pairs][columns], of 32 columns, or of 16 if there are no more.
std::int64_t panel_width(std::int64_t columns) { return columns > kLanes ? kColumns : kLanes; }

// Packs b[0, depth)[0, columns), whose columns lie side by side, into panels `panel_stride` apart.
// A row is read to its end, as every row may be on a page of its own.
void pack_rows(const BFloat16* b, std::int64_t stride, std::int64_t depth, std::int64_t columns,
               std::uint32_t* to, std::int64_t panel_stride) {
  const std::int64_t whole = columns / kColumns * kColumns;
  for (std::int64_t p = 0; p < depth / 2; ++p) {
    const BFloat16* const even = b + 2 * p * stride;
    for (std::int64_t j = 0; j < whole; j += kColumns) {
      const Interleaved pairs =
          interleave(_mm512_loadu_si512(even + j), _mm512_loadu_si512(even + stride + j));
      std::uint32_t* const out = to + j / kColumns * panel_stride + p * kColumns;
      _mm512_store_si512(out, pairs.low);
      _mm512_store_si512(out + kLanes, pairs.high);
    }
  }
  // The last columns, and the last row if it has no other.
  for (std::int64_t j = 0; j < columns; j += kColumns) {
    const std::int64_t width = panel_width(columns - j);
    for (std::int64_t p = j < whole ? depth / 2 : 0; 2 * p < depth; ++p) {
      const Interleaved pairs = pairs_of_rows(b + j, stride, p, depth, first_elements(columns - j));
      std::uint32_t* const out = to + j / kColumns * panel_stride + p * width;
      _mm512_store_si512(out, pairs.low);
      if (width == kColumns) _mm512_store_si512(out + kLanes, pairs.high);
    }
  }
}

// The same where the elements of a column lie side by side, and columns `stride` apart.
void pack_columns(const BFloat16* b, std::int64_t stride, std::int64_t depth, std::int64_t columns,
                  std::uint32_t* to, std::int64_t panel_stride) {
  for (std::int64_t j = 0; j < columns; j += kLanes) {
    const std::int64_t first = j / kColumns * kColumns, count = std::min(kLanes, columns - j);
    const std::int64_t width = panel_width(columns - first);
    std::uint32_t* const out = to + j / kColumns * panel_stride + (j - first);
    const BFloat16* const from = b + j * stride;
    const Rows rows(from, 2 * stride, count);
    std::int64_t p = 0;
    for (; 2 * p + 8 <= depth; p += 4) {
      __m512i v[4];
      load_transposed(rows, p, v);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) _mm512_store_si512(out + (p + q) * width, v[q]);
    }
    for (; 2 * p < depth; ++p) {
      for (std::int64_t q = 0; q < count; ++q) {
        const BFloat16* const pair = from + q * stride + 2 * p;
        const std::uint32_t high = 2 * p + 1 < depth ? pair[1].bits : 0u;
        out[p * width + q] = pair[0].bits | high << 16;
      }
    }
  }
}

// a[0, rows)[0, depth), whose rows lie side by side and elements of a row `stride` apart, copied
// into rows of `to`.
void copy_rows(const BFloat16* a, std::int64_t stride, std::int64_t rows, std::int64_t depth,
               BFloat16* to, std::int64_t to_stride) {
  for (std::int64_t i = 0; i < rows; i += kColumns) {
    const __mmask32 inside = first_elements(rows - i);
    for (std::int64_t p = 0; 2 * p < depth; p += kLanes) {
      alignas(64) std::uint32_t tile[kLanes * kColumns];
      const std::int64_t count = std::min(kLanes, (depth + 1) / 2 - p);
      for (std::int64_t q = 0; q < count; ++q) {
        const Interleaved pairs = pairs_of_rows(a + i, stride, p + q, depth, inside);
        _mm512_store_si512(tile + q * kColumns, pairs.low);
        _mm512_store_si512(tile + q * kColumns + kLanes, pairs.high);
      }
      const Rows from(tile, kColumns * 4, count);
      for (std::int64_t r = 0; r < std::min(kColumns, rows - i); r += 4) {
        __m512i v[4];
        load_transposed(from, r, v);
        for (std::int64_t q = 0; q < std::min<std::int64_t>(4, rows - i - r); ++q) {
          _mm512_store_si512(to + (i + r + q) * to_stride + 2 * p, v[q]);
        }
      }
    }
  }
}

// ---- All tiles ----------------------------------------------------------------------------------

// Whether the columns of b are to be the rows that are read as they lie, and the rows of a the
// columns that are packed. What must be copied should be the smaller operand where either can be.
bool is_transposed(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n) {
  const bool a_in_rows = a.column_stride == 1, b_in_columns = b.column_stride != 1;
  if (a_in_rows && b_in_columns) return m < n;
  if (a_in_rows) return n < kColumns && n < m;
  return b_in_columns || n < m;
}

// right[p, p + depth)[j, j + columns), clipped.
Ahead ahead_of(const Matrix& right, std::int64_t p, std::int64_t j, std::int64_t depth,
               std::int64_t columns) {
  const BFloat16* const from = elements(right.block(p, j));
  return right.column_stride == 1 ? Ahead{from, depth, columns, right.row_stride}
                                  : Ahead{from, columns, depth, right.column_stride};
}

// c (+)= left @ right, or its transpose. After it, b of another product of this shape is at `next`.
void multiply(const Matrix& left, const Matrix& right, std::int64_t m, std::int64_t n,
              std::int64_t k, float* c, std::int64_t ldc, bool transposed, bool accumulate,
              const void* next) {
  Workspace workspace;
  // Slices of like size: a small last one would load and store the sums all the same.
  const std::int64_t slices = (k + kDepth - 1) / kDepth;
  const std::int64_t slice = round_up((k + slices - 1) / slices, 2);
  // Panels, and rows of a copy, are not a power of two apart, lest they fall into the same sets of
  // the cache.
  const std::int64_t panel_stride = slice / 2 * kColumns + 3 * kLanes;
  const std::int64_t copy_stride = round_up(slice, 32) + 32;
  const std::int64_t block = std::min(kBlockColumns, round_up(n, kColumns));
  auto* const panels = workspace.take<std::uint32_t>(block / kColumns * panel_stride);
  // Rows a multiple of half a way of L1 apart would push each other out of it.
  const bool copies = left.column_stride != 1, collides = !copies && left.row_stride % 1024 == 0;
  const std::int64_t copied_rows = copies ? m : collides ? kMaxRows : 0;
  auto* const copy = workspace.take<BFloat16>(copied_rows * copy_stride);
  const std::int64_t groups = (m + kMaxRows - 1) / kMaxRows;
  for (std::int64_t p = 0; p < k; p += slice) {
    const std::int64_t depth = std::min(slice, k - p);
    const BFloat16* rows = elements(left.block(0, p));
    if (copies) {
      copy_rows(rows, left.column_stride, m, depth, copy, copy_stride);
      rows = copy;
    }
    const std::int64_t row_stride = copies ? copy_stride : left.row_stride;
    const std::int64_t tile_stride = collides ? copy_stride : row_stride;
    for (std::int64_t j0 = 0; j0 < n; j0 += block) {
      const std::int64_t columns = std::min(block, n - j0);
      const BFloat16* const from = elements(right.block(p, j0));
      if (right.column_stride == 1) {
        pack_rows(from, right.row_stride, depth, columns, panels, panel_stride);
      } else {
        pack_columns(from, right.column_stride, depth, columns, panels, panel_stride);
      }
      Ahead block_ahead;
      const bool is_last = j0 + block >= n && p + slice >= k;
      if (j0 + block < n) {
        block_ahead = ahead_of(right, p, j0 + block, depth, std::min(block, n - j0 - block));
      } else if (p + slice < k) {
        block_ahead =
            ahead_of(right, p + slice, 0, std::min(slice, k - p - slice), std::min(block, n));
      } else if (next && !transposed) {
        Matrix next_right = right;
        next_right.data = next;
        block_ahead = ahead_of(next_right, 0, 0, slice, std::min(block, n));
      }
      const std::int64_t panel_count = (columns + kColumns - 1) / kColumns;
      const std::int64_t looks = (depth / 2 + kPairsAtOnce - 1) / kPairsAtOnce * panel_count;
      block_ahead.distribute(std::max<std::int64_t>(groups * looks, 1));
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t i = g * m / groups, end = (g + 1) * m / groups;
        Ahead rows_ahead{rows + end * row_stride, std::min(g + 2, groups) * m / groups - end, depth,
                         row_stride};
        if (is_last && end == m && next && transposed && !copies) {
          rows_ahead = {static_cast<const BFloat16*>(next), m / groups, slice, row_stride};
        }
        const BFloat16* tile_rows = rows + i * row_stride;
        if (collides) {
          for (std::int64_t r = 0; r < end - i; ++r) {
            std::copy_n(tile_rows + r * row_stride, depth, copy + r * copy_stride);
          }
          tile_rows = copy;
        }
        rows_ahead.distribute(std::max<std::int64_t>(looks, 1));
        for (std::int64_t q = 0; q < panel_count; ++q) {
          const std::int64_t j = j0 + q * kColumns;
          const Target to{transposed ? c + j * ldc + i : c + i * ldc + j, ldc,
                          std::min(kColumns, n - j), transposed, accumulate || p > 0};
          const auto& tiles = to.columns > kLanes ? kTiles : kNarrowTiles;
          tiles[static_cast<std::size_t>(end - i - 1)](tile_rows, tile_stride,
                                                       panels + q * panel_stride, depth, to,
                                                       rows_ahead, block_ahead);
        }
      }
    }
  }
}

}  // namespace

void bf16_gemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
               float* c, std::int64_t ldc, bool accumulate, const void* next_b) {
  if (is_transposed(a, b, m, n)) {
    return multiply(b.transposed(), a.transposed(), n, m, k, c, ldc, true, accumulate, next_b);
  }
  multiply(a, b, m, n, k, c, ldc, false, accumulate, next_b);
}

}  // namespace metal_candle::backend::cpu
HWY_POP_ATTRIBUTES
HWY_DIAGNOSTICS(pop)

namespace metal_candle::backend::cpu {

bool takes_bf16_gemm(const Matrix& a, const Matrix& b) {
  const auto lies_in_order = [](const Matrix& matrix) {
    return matrix.dtype == DType::kBF16 && (matrix.column_stride == 1 || matrix.row_stride == 1);
  };
  return lies_in_order(a) && lies_in_order(b) && bf16_pairs::are_supported();
}

}  // namespace metal_candle::backend::cpu

#else

#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {

bool takes_bf16_gemm(const Matrix&, const Matrix&) { return false; }

void bf16_gemm(const Matrix&, const Matrix&, std::int64_t, std::int64_t, std::int64_t, float*,
               std::int64_t, bool, const void*) {
  throw DeviceError("cpu: this processor has no products of bf16");
}

}  // namespace metal_candle::backend::cpu

#endif
