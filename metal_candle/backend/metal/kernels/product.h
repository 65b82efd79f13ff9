// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products by simdgroup matrices, for Metal: what a library does on CUDA. In the dialect of
// gpu/dialect.h, with Metal's own simdgroup_matrix.
//
// A group makes a tile of the output, kRows x kColumns, in steps of kDepth: it copies a tile of
// either operand to group memory, whichever way the operand lies, and each of its warps multiplies
// its part of them, 8x8 at a time, with sums in f32. Where there are few tiles, several groups
// share the depth of one, and another kernel adds up what they found, in order.
#pragma once

#include "metal_candle/backend/gpu/kernels/common.h"
#include "metal_candle/backend/gpu/kernels/matmul.h"
#include "metal_candle/backend/metal/kernels/arguments.h"

// Elements [first_row, ...) x [first_column, ...) of a matrix to [kRows][kPitch] of group memory,
// zeros beyond its ends. Neighbouring threads read neighbouring elements, 16 bytes each where
// `packets` says that rows (or columns, if these are dense) consist of them.
template <typename T, int kRows, int kColumns, int kPitch, int kThreads>
MC_FUNCTION void load_operand_tile(MC_GROUP T* to, const MC_GLOBAL T* from, int64_t row_stride,
                                   int64_t column_stride, uint32_t first_row, uint32_t first_column,
                                   uint32_t rows, uint32_t columns, bool packets, Thread self) {
  constexpr int kWidth = 16 / sizeof(T);
  if (column_stride == 1) {
    constexpr int kAcross = kColumns / kWidth;
    for (int i = int(self.index); i < kRows * kAcross; i += kThreads) {
      const int r = i / kAcross, c = i % kAcross * kWidth;
      const uint32_t row = first_row + r, column = first_column + c;
      const MC_GLOBAL T* at = from + row * row_stride + column;
      Packet<T, kWidth> packet;
      if (packets && row < rows && column + kWidth <= columns) {
        packet = load_packet<kWidth, true>(at);
      } else {
        MC_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          packet.values[j] = T(0.0f);
          if (row < rows && column + j < columns) packet.values[j] = at[j];
        }
      }
      MC_UNROLL
      for (int j = 0; j < kWidth; ++j) to[r * kPitch + c + j] = packet.values[j];
    }
  } else {
    constexpr int kDown = kRows / kWidth;
    for (int i = int(self.index); i < kColumns * kDown; i += kThreads) {
      const int c = i / kDown, r = i % kDown * kWidth;
      const uint32_t row = first_row + r, column = first_column + c;
      const MC_GLOBAL T* at = from + column * column_stride + row * row_stride;
      Packet<T, kWidth> packet;
      if (packets && column < columns && row + kWidth <= rows) {
        packet = load_packet<kWidth, true>(at);
      } else {
        MC_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          packet.values[j] = T(0.0f);
          if (column < columns && row + j < rows) packet.values[j] = at[j * row_stride];
        }
      }
      MC_UNROLL
      for (int j = 0; j < kWidth; ++j) to[(r + j) * kPitch + c] = packet.values[j];
    }
  }
}

// Whether packets of 16 bytes along the dense axis begin at multiples of 16 bytes.
template <typename T>
MC_FUNCTION bool has_packets(const MC_GLOBAL T* from, int64_t row_stride, int64_t column_stride) {
  const int64_t stride = column_stride == 1 ? row_stride : column_stride;
  return (column_stride == 1 || row_stride == 1) && is_aligned(from, 16) &&
         stride % int64_t(16 / sizeof(T)) == 0;
}

// Element [row, column] of a product, from its sum.
template <typename Out>
MC_FUNCTION void write_product(MC_CONSTANT ProductArguments& arguments, uint32_t batch,
                               uint32_t row, uint32_t column, float sum) {
  const MC_GLOBAL Out* const bias = static_cast<const MC_GLOBAL Out*>(arguments.bias);
  const int64_t at = batch * arguments.out_batch_stride + row * arguments.out_row_stride + column;
  float y = arguments.alpha * sum;
  if (arguments.beta != 0.0f) {
    y = fmaf(arguments.beta, float(static_cast<const MC_GLOBAL Out*>(arguments.c)[at]), y);
  }
  if (bias != nullptr) y += float(bias[column]);
  static_cast<MC_GLOBAL Out*>(arguments.out)[at] = Out(activate(y, arguments.activation));
}

// Groups: tiles across, then down, then parts of the depth, then batches.
template <typename T, typename Out, int kRows, int kColumns, int kDepth, int kWarpsDown,
          int kWarpsAcross>
MC_FUNCTION void product(MC_CONSTANT ProductArguments& arguments, MC_GROUP char* memory,
                         Thread self) {
  constexpr int kThreads = 32 * kWarpsDown * kWarpsAcross;
  constexpr int kSkew = 16 / sizeof(T);  // Spreads rows over the banks.
  constexpr int kPitchA = kDepth + kSkew;
  constexpr int kPitchB = kColumns + kSkew;
  constexpr int kDown = kRows / kWarpsDown / 8;  // 8x8 tiles of a warp.
  constexpr int kAcross = kColumns / kWarpsAcross / 8;
  const uint32_t rows = arguments.rows, columns = arguments.columns;
  const uint32_t tiles_across = (columns + kColumns - 1) / kColumns;
  const uint32_t tiles_down = (rows + kRows - 1) / kRows;
  const uint32_t first_row = self.group / tiles_across % tiles_down * kRows;
  const uint32_t first_column = self.group % tiles_across * kColumns;
  const uint32_t matrix = self.group / tiles_across / tiles_down;  // Of sums.
  const uint32_t batch = matrix / arguments.parts;
  const uint32_t first_step = matrix % arguments.parts * arguments.part_depth;
  const uint32_t rest = arguments.depth - first_step;
  const uint32_t depth = first_step + (rest < arguments.part_depth ? rest : arguments.part_depth);
  const MC_GLOBAL T* a =
      static_cast<const MC_GLOBAL T*>(arguments.a) + batch * arguments.a_batch_stride;
  const MC_GLOBAL T* b =
      static_cast<const MC_GLOBAL T*>(arguments.b) + batch * arguments.b_batch_stride;
  MC_GROUP T* tile_a = reinterpret_cast<MC_GROUP T*>(memory);
  MC_GROUP T* tile_b = tile_a + kRows * kPitchA;
  const bool packets_a = has_packets(a, arguments.a_row_stride, arguments.a_column_stride);
  const bool packets_b = has_packets(b, arguments.b_row_stride, arguments.b_column_stride);

  const uint32_t warp_row = self.warp / kWarpsAcross * (kDown * 8);
  const uint32_t warp_column = self.warp % kWarpsAcross * (kAcross * 8);
  simdgroup_matrix<float, 8, 8> sums[kDown][kAcross];
  MC_UNROLL
  for (int i = 0; i < kDown; ++i) {
    MC_UNROLL
    for (int j = 0; j < kAcross; ++j) sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
  for (uint32_t step = first_step; step < depth; step += kDepth) {
    if (step > first_step) group_barrier();
    load_operand_tile<T, kRows, kDepth, kPitchA, kThreads>(tile_a, a, arguments.a_row_stride,
                                                           arguments.a_column_stride, first_row,
                                                           step, rows, depth, packets_a, self);
    load_operand_tile<T, kDepth, kColumns, kPitchB, kThreads>(
        tile_b, b, arguments.b_row_stride, arguments.b_column_stride, step, first_column, depth,
        columns, packets_b, self);
    group_barrier();
    MC_UNROLL
    for (int k = 0; k < kDepth; k += 8) {
      simdgroup_matrix<T, 8, 8> left[kDown];
      simdgroup_matrix<T, 8, 8> right[kAcross];
      MC_UNROLL
      for (int i = 0; i < kDown; ++i) {
        simdgroup_load(left[i], tile_a + (warp_row + i * 8) * kPitchA + k, kPitchA);
      }
      MC_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        simdgroup_load(right[j], tile_b + k * kPitchB + warp_column + j * 8, kPitchB);
      }
      MC_UNROLL
      for (int i = 0; i < kDown; ++i) {
        MC_UNROLL
        for (int j = 0; j < kAcross; ++j) {
          simdgroup_multiply_accumulate(sums[i][j], left[i], right[j], sums[i][j]);
        }
      }
    }
  }

  MC_GLOBAL float* const part_sums = static_cast<MC_GLOBAL float*>(arguments.sums);
  MC_UNROLL
  for (int i = 0; i < kDown; ++i) {
    const uint32_t row = first_row + warp_row + i * 8 + tile_row(self.lane);
    if (row >= rows) continue;
    MC_UNROLL
    for (int j = 0; j < kAcross; ++j) {
      MC_UNROLL
      for (int e = 0; e < 2; ++e) {
        const uint32_t column = first_column + warp_column + j * 8 + tile_column(self.lane) + e;
        if (column >= columns) continue;
        const float sum = sums[i][j].thread_elements()[e];
        if (arguments.parts > 1) {
          part_sums[(uint64_t(matrix) * rows + row) * columns + column] = sum;
        } else {
          write_product<Out>(arguments, batch, row, column, sum);
        }
      }
    }
  }
}

// Adds up what the parts of the depth came to, an element a thread.
template <typename Out>
MC_FUNCTION void sum_product_parts(MC_CONSTANT ProductArguments& arguments, MC_GROUP char*,
                                   Thread self) {
  const uint64_t i = uint64_t(self.group) * self.size + self.index;
  const uint64_t elements = uint64_t(arguments.rows) * arguments.columns;
  const uint32_t batch = uint32_t(i / elements);
  if (batch >= arguments.batch) return;
  const uint64_t at = i % elements;
  const MC_GLOBAL float* const parts =
      static_cast<const MC_GLOBAL float*>(arguments.sums) + batch * arguments.parts * elements + at;
  float sum = parts[0];
  for (uint32_t part = 1; part < arguments.parts; ++part) sum += parts[part * elements];
  write_product<Out>(arguments, batch, uint32_t(at / arguments.columns),
                     uint32_t(at % arguments.columns), sum);
}
MC_KERNEL_MERGED(product_parts_f32, ProductArguments, 256, 0, sum_product_parts<float>);
MC_KERNEL_MERGED(product_parts_f16, ProductArguments, 256, 0, sum_product_parts<half>);
MC_KERNEL_MERGED(product_parts_bf16, ProductArguments, 256, 0, sum_product_parts<bfloat>);

// Tiles, and in how many warps; metal_matmul.cpp chooses among them.
#define MC_PRODUCT(suffix, T, Out, rows, columns, depth, down, across)                            \
  MC_KERNEL_MERGED(                                                                               \
      product_##rows##x##columns##_##suffix, ProductArguments, 32 * down * across,                \
      ((rows) * ((depth) + 16 / sizeof(T)) + (depth) * ((columns) + 16 / sizeof(T))) * sizeof(T), \
      product<T, Out, rows, columns, depth, down, across>);
#define MC_PRODUCTS(suffix, T, Out, depth)        \
  MC_PRODUCT(suffix, T, Out, 64, 64, depth, 2, 2) \
  MC_PRODUCT(suffix, T, Out, 32, 64, depth, 2, 2) \
  MC_PRODUCT(suffix, T, Out, 32, 32, depth, 2, 2) \
  MC_PRODUCT(suffix, T, Out, 16, 64, depth, 1, 4) \
  MC_PRODUCT(suffix, T, Out, 8, 64, depth, 1, 4)  \
  MC_PRODUCT(suffix, T, Out, 64, 8, depth, 4, 1)
MC_PRODUCTS(f32, float, float, 16)
MC_PRODUCTS(f16, half, half, 32)
MC_PRODUCTS(f16_f32, half, float, 32)
MC_PRODUCTS(bf16, bfloat, bfloat, 32)
MC_PRODUCTS(bf16_f32, bfloat, float, 32)
#undef MC_PRODUCTS
#undef MC_PRODUCT

// 16 bytes a thread, from the first multiple of 16 bytes on; the ends by the first group.
MC_FUNCTION void zero(MC_CONSTANT ZeroArguments& arguments, MC_GROUP char*, Thread self) {
  MC_GLOBAL uint8_t* const out = static_cast<MC_GLOBAL uint8_t*>(arguments.out);
  const uint64_t before = (16 - (reinterpret_cast<uint64_t>(arguments.out) & 15)) & 15;
  const uint64_t head = before < arguments.bytes ? before : arguments.bytes;
  const uint64_t packets = (arguments.bytes - head) / 16;
  const uint64_t i = uint64_t(self.group) * self.size + self.index;
  const Packet<uint32_t, 4> nothing = {{0, 0, 0, 0}};
  if (i < packets) {
    store_packet<true>(reinterpret_cast<MC_GLOBAL uint32_t*>(out + head) + 4 * i, nothing);
  }
  if (self.group != 0 || self.index >= 16) return;
  if (self.index < head) out[self.index] = 0;
  const uint64_t last = head + 16 * packets + self.index;
  if (last < arguments.bytes) out[last] = 0;
}
MC_KERNEL(zero_memory, ZeroArguments, 256, 0, zero);
