// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The arguments of every kernel, for the host and for the dialect (dialect.h) alike.
#pragma once

#ifndef MC_GLOBAL
#define MC_GLOBAL
#include <cstdint>
#endif

// ---- matmul.h
struct FinishProductArguments {
  const MC_GLOBAL void* sums;      // f32 [count]
  const MC_GLOBAL void* bias;      // [columns], or null
  const MC_GLOBAL void* residual;  // [count], or null
  MC_GLOBAL void* out;             // [count]
  int64_t count, columns;
  uint32_t activation;  // op::Activation
};

struct IntegerProductArguments {
  const MC_GLOBAL void* a;  // [rows, depth]
  const MC_GLOBAL void* b;  // [depth, columns]
  MC_GLOBAL void* out;      // [rows, columns], dense
  int64_t rows, columns, depth;
  int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride;
};

// ---- copy.h
struct CopyArguments {
  const MC_GLOBAL void* in;
  MC_GLOBAL void* out;
  const MC_GLOBAL void* starts;  // i32 or i64 [num_starts]
  uint64_t value;                // Bits of an element, for fill.
  int64_t packets, tail;         // Whole packets; elements after them, with one axis.
  int64_t sizes[8], in_strides[8], out_strides[8];  // Of packets, in elements.
  int64_t largest_starts[8], start_strides[8];
  uint32_t magics[8], shifts[8];  // To divide by sizes, unless positions are wide.
  uint32_t rank, wide;
  uint32_t num_starts, wide_starts, starts_in_output;
};

struct TransposeArguments {
  const MC_GLOBAL void* in;
  MC_GLOBAL void* out;
  int64_t rows, columns;  // Dense in the input; dense in the output.
  int64_t in_row_stride, in_column_stride, out_row_stride;
  int64_t in_strides[8], out_strides[8];  // The other axes.
  uint32_t sizes[8];
  uint32_t rank, row_tiles, column_tiles;
  uint32_t divisible;  // Lengths and strides by the elements that a thread moves at a time.
};

// ---- random.h
struct RandomArguments {
  const MC_GLOBAL void* key;  // u32 [2]
  MC_GLOBAL void* out;        // u32 [count]
  int64_t key_stride;
  int64_t count;
};

// ---- index.h
struct IndexArguments {
  const MC_GLOBAL void* x;        // [outer, length, inner]
  const MC_GLOBAL void* indices;  // [count], or [outer, count, inner]
  const MC_GLOBAL void* updates;  // [outer, count, inner]
  MC_GLOBAL void* out;
  MC_GLOBAL void* links;  // u32 [count]
  int64_t outer, length, inner, count;
  uint32_t wide_indices;  // i64, not i32.
};
