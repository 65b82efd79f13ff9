// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How the output is cut into blocks, and which product computes one. oneDNN takes large ones of
// f32, and of bf16 where there are matrix units or no bf16_gemm(): its code is generated for the
// processor. It runs on our threads, in teams of one. Of its two ways, sgemm is the faster for f32,
// but for some weights in columns, and its matmul for bf16.
#include "metal_candle/backend/cpu/product.h"

#include <algorithm>

#include "metal_candle/backend/cpu/bf16_gemm.h"
#include "metal_candle/backend/cpu/onednn.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/small_gemm.h"
#include "metal_candle/backend/cpu/workspace.h"
#include "metal_candle/backend/tuning.h"

namespace metal_candle::backend::cpu {
namespace {

// Below this many multiplications the work of one thread ends before another has begun.
constexpr std::int64_t kSerialWork = std::int64_t{1} << 17;
// From this many rows on, oneDNN's sgemm pays where its code is for AVX2. From AVX-512 on it always
// does, as its matmul, if there is enough work to make up for the call.
constexpr std::int64_t kSgemmRows = 96;
// From this many rows on, oneDNN copies a weight that lies in columns. Where each column is on a
// page of its own that takes longer than the product, until there are many rows; our own packing
// reads four columns at a time.
constexpr std::int64_t kCopyingRows = 16;
constexpr std::int64_t kManyRows = 128;
constexpr std::int64_t kPageStride = 1024;  // Of f32.
constexpr std::int64_t kMatmulWork = std::int64_t{1} << 20;
constexpr std::int64_t kMatmulDepth = 512;

enum class Method { kOwn, kSgemm, kMatmul };

struct Blocks {
  std::int64_t rows, columns;
  Method method = Method::kOwn;
};

std::int64_t round_up(std::int64_t x, std::int64_t unit) { return (x + unit - 1) / unit * unit; }

// A block of columns of about n / parts, in whole cache lines of f32.
std::int64_t column_block(std::int64_t n, std::int64_t parts, std::int64_t low, std::int64_t high) {
  return std::clamp(round_up((n + parts - 1) / parts, 16), low, high);
}

// Products that are tuned together: b lying in rows or in columns.
ShapeClass class_of(const Product& p) {
  return ShapeClass::of(p.a.dtype, {p.m, p.n, p.k}, p.b.column_stride == 1 ? 0 : 1);
}

std::int64_t tuned(Tunable tunable, const Product& p, std::int64_t fallback) {
  return tuning(Device::cpu())
      .get(
          tunable, [&] { return class_of(p); }, fallback);
}

// Widening bf16 as we pack it is half as fast as oneDNN's product, so that pays for few columns as
// well: the rank of an update, in its gradients.
bool onednn_takes(const Product& p) {
  const std::int64_t least_columns = p.a.dtype == DType::kBF16 ? 16 : 64;
  return p.n >= least_columns && p.k >= 64 && p.a.dtype == p.b.dtype &&
         onednn_takes(p.a, p.m, p.k) && onednn_takes(p.b, p.k, p.n);
}

Method default_method(const Product& p) {
  if (!onednn_takes(p)) return Method::kOwn;
  const bool has_matmul =
      has_onednn_matmul(p.a.dtype) && !p.accumulate && p.m * p.n * p.k >= kMatmulWork;
  if (p.a.dtype != DType::kF32) {
    const bool pays = has_matmul && (has_bf16_matrix_units() || !takes_bf16_gemm(p.a, p.b));
    return pays ? Method::kMatmul : Method::kOwn;
  }
  if (!has_matmul) return p.m >= kSgemmRows ? Method::kSgemm : Method::kOwn;
  if (p.b.column_stride == 1) return Method::kSgemm;
  if (p.m < kCopyingRows) return Method::kSgemm;
  if (p.m < kManyRows && p.b.column_stride >= kPageStride) return Method::kOwn;
  return p.k > kMatmulDepth ? Method::kSgemm : Method::kMatmul;
}

Method choose_method(const Product& p) {
  const Method method = default_method(p);
  const auto wanted =
      static_cast<Method>(tuned(Tunable::kProductMethod, p, static_cast<std::int64_t>(method)));
  switch (wanted) {
    case Method::kOwn:
      return wanted;
    case Method::kSgemm:
      return onednn_takes(p) && p.a.dtype == DType::kF32 ? wanted : method;
    case Method::kMatmul:
      return onednn_takes(p) && has_onednn_matmul(p.a.dtype) && !p.accumulate ? wanted : method;
  }
  return method;
}

// Adding up may also follow a product, as a residual: then oneDNN's bf16 one, which is much faster
// than our own, can compute it.
Product with_sum_as_residual(const Product& p) {
  Product q = p;
  q.accumulate = false;
  q.residual = {p.out, DType::kF32, p.row_length(), 1};
  const bool pays = p.accumulate && p.a.dtype == DType::kBF16 && p.m > kSmallGemmRows &&
                    choose_method(q) == Method::kMatmul;
  return pays ? q : p;
}

// What oneDNN copies in every call (the columns of b; rows of a that do not lie side by side) is
// little beside a block of 128 rows and columns, and less beside larger ones. A product that is too
// narrow for eight of those is cut finer, or it would keep few threads busy; so are its rows.
Blocks onednn_blocks(const Product& p, Method method) {
  constexpr std::int64_t kColumnParts = 8, kParts = 16, kLeastRows = 128;
  const bool is_matmul = method == Method::kMatmul;
  const std::int64_t narrowest = is_matmul && p.n <= 512 ? 64 : 128;
  Blocks blocks{std::min<std::int64_t>(p.m, 512),
                column_block(p.n, kColumnParts, narrowest, is_matmul ? 1024 : 1280), method};
  const std::int64_t across = (p.n + blocks.columns - 1) / blocks.columns;
  if (across < kColumnParts && p.m > kLeastRows) {
    const std::int64_t down = (kParts + across - 1) / across;
    blocks.rows = std::clamp(round_up((p.m + down - 1) / down, 16), kLeastRows, blocks.rows);
  }
  return blocks;
}

// Blocks of bf16_gemm(): a few for each thread, and as many for each, since larger ones are faster.
// Its sums do not depend on the columns that are computed together, but what follows it may depend
// on the rows: those are cut by shape alone.
Blocks bf16_blocks(const Product& p) {
  constexpr std::int64_t kMostRows = 256, kNarrowest = 64, kWidest = 640;
  const std::int64_t down = (p.m + kMostRows - 1) / kMostRows, threads = num_threads();
  const std::int64_t across =
      std::max((2 * threads + down - 1) / down, round_up((p.n + kWidest - 1) / kWidest, threads));
  return {std::min(round_up((p.m + down - 1) / down, 16), p.m),
          column_block(p.n, across, kNarrowest, kWidest)};
}

Blocks default_blocks(const Product& p) {
  if (p.m * p.n * std::max<std::int64_t>(p.k, 1) <= kSerialWork) return {p.m, p.n};
  if (p.m <= kSmallGemmRows) return {p.m, column_block(p.n, 8, 64, 2048)};
  const Method method = choose_method(p);
  if (method != Method::kOwn) return onednn_blocks(p, method);
  if (takes_bf16_gemm(p.a, p.b)) return bf16_blocks(p);
  Blocks blocks{std::min<std::int64_t>(p.m, 264), column_block(p.n, 16, 128, 384)};
  // Products that are not wide get their parallelism from rows.
  const std::int64_t across = (p.n + blocks.columns - 1) / blocks.columns;
  if (across < 16) {
    const std::int64_t parts = (16 + across - 1) / across;
    blocks.rows = std::clamp(round_up((p.m + parts - 1) / parts, 12),
                             std::min<std::int64_t>(p.m, 48), blocks.rows);
  }
  return blocks;
}

Blocks choose_blocks(const Product& p) {
  Blocks blocks = default_blocks(p);
  blocks.rows = std::clamp<std::int64_t>(tuned(Tunable::kProductRows, p, blocks.rows), 1, p.m);
  blocks.columns =
      std::clamp<std::int64_t>(tuned(Tunable::kProductColumns, p, blocks.columns), 1, p.n);
  return blocks;
}

bool is_plain(const Product& p) {
  return p.out_dtype == DType::kF32 && p.scale == 1 && p.activation == op::Activation::kNone &&
         !p.bias.data && !p.residual.data;
}

// oneDNN's matmul adds all of k up in one chain, the rounding errors of which grow with its length:
// beside the precision of bf16 they are nothing, but not beside that of f32.
void multiply_in_slices(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n,
                        std::int64_t k, float* c, std::int64_t ldc) {
  const std::int64_t slices =
      a.dtype == DType::kF32 ? (k + kMatmulDepth - 1) / kMatmulDepth : std::int64_t{1};
  const std::int64_t slice = round_up((k + slices - 1) / slices, 32);
  for (std::int64_t p = 0; p < k; p += slice) {
    onednn_matmul(a.block(0, p), b.block(p, 0), m, n, std::min(slice, k - p), c, ldc, p > 0);
  }
}

// `next_column` is that of the thread's next block, or -1.
void compute_block(const Product& p, const Blocks& blocks, std::int64_t row, std::int64_t column,
                   std::int64_t rows, std::int64_t columns, std::int64_t next_column) {
  Workspace workspace;
  float* c = nullptr;
  std::int64_t ldc = p.row_length();
  // oneDNN's matmul is generated for targets without gaps between their rows only.
  const bool dense = blocks.method == Method::kMatmul && ldc != columns;
  if (p.out_dtype == DType::kF32 && p.residual.data != p.out && !dense) {
    c = static_cast<float*>(p.out) + row * ldc + column;
  } else {
    ldc = blocks.method == Method::kMatmul ? columns : round_up(columns, 16);
    c = workspace.take<float>(rows * ldc);
  }
  const Matrix a = p.a.block(row, 0), b = p.b.block(0, column);
  switch (blocks.method) {
    case Method::kSgemm:
      onednn_sgemm(a, b, rows, columns, p.k, c, ldc, p.accumulate);
      break;
    case Method::kMatmul:
      multiply_in_slices(a, b, rows, columns, p.k, c, ldc);
      break;
    case Method::kOwn:
      // By the rows of the product, not of the block, which must not change the sums.
      if (p.k > 0 && p.m > kSmallGemmRows && takes_bf16_gemm(a, b)) {
        const void* const next = next_column < 0 ? nullptr : p.b.block(0, next_column).data;
        bf16_gemm(a, b, rows, columns, p.k, c, ldc, p.accumulate, next);
      } else {
        gemm_block(a, b, rows, columns, p.k, c, ldc, p.accumulate);
      }
  }
  if (p.rank > 0) {
    gemm_block(p.left.block(row, 0), p.right.block(0, column), rows, columns, p.rank, c, ldc, true);
  }
  if (!is_plain(p) || dense) finish_block(p, row, column, rows, columns, c, ldc);
}

// ---- Few rows, and a weight that lies in rows ---------------------------------------------------

// Such a weight is best read from its beginning to its end, so threads share its rows, not its
// columns, and their sums are added up in order. The sums of one must fit in its cache.
constexpr std::int64_t kMostSplitSums = 8192;

std::int64_t choose_splits(const Product& p) {
  const bool suits = p.m <= kSmallGemmRows && p.b.column_stride == 1 && p.n >= 256 &&
                     p.m * p.n <= kMostSplitSums && p.rank == 0 && !p.accumulate;
  if (!suits) return 1;
  // At least 2 MiB of f32 each.
  const std::int64_t splits = std::min<std::int64_t>(p.n * p.k / (std::int64_t{1} << 19), 8);
  return std::clamp<std::int64_t>(tuned(Tunable::kProductSplits, p, splits), 1, 8);
}

void run_split(const Product& p, std::int64_t splits) {
  Workspace workspace;
  const std::int64_t depth = round_up((p.k + splits - 1) / splits, 8);
  float* const sums = workspace.take<float>(splits * p.m * p.n);
  parallel_for(splits, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      const std::int64_t first = std::min(s * depth, p.k), last = std::min(first + depth, p.k);
      gemm_block(p.a.block(0, first), p.b.block(first, 0), p.m, p.n, last - first,
                 sums + s * p.m * p.n, p.n, false);
    }
  });
  constexpr std::int64_t kColumns = 1024;
  parallel_for(p.n, kColumns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = 1; s < splits; ++s) {
      for (std::int64_t i = 0; i < p.m; ++i) {
        float* const total = sums + i * p.n;
        const float* const part = sums + (s * p.m + i) * p.n;
        for (std::int64_t j = begin; j < end; ++j) total[j] += part[j];
      }
    }
    finish_block(p, 0, begin, p.m, end - begin, sums + begin, p.n);
  });
}

}  // namespace

void run_product(const Product& product) {
  const Product p = with_sum_as_residual(product);
  if (p.m <= 0 || p.n <= 0) return;
  const std::int64_t splits = choose_splits(p);
  if (splits > 1) return run_split(p, splits);
  const Blocks blocks = choose_blocks(p);
  const std::int64_t down = (p.m + blocks.rows - 1) / blocks.rows;
  const std::int64_t across = (p.n + blocks.columns - 1) / blocks.columns;
  parallel_for(down * across, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t row = block / across * blocks.rows;
      const std::int64_t column = block % across * blocks.columns;
      const std::int64_t next = block + 1;  // The thread's own next one, most likely.
      compute_block(p, blocks, row, column, std::min(blocks.rows, p.m - row),
                    std::min(blocks.columns, p.n - column),
                    next < down * across ? next % across * blocks.columns : -1);
    }
  });
}

}  // namespace metal_candle::backend::cpu
