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

// ---- linear_cross_entropy.h
struct LossRowsArguments {
  const MC_GLOBAL void* logits;   // f32 [rows, columns], rows `stride` apart, a multiple of 8
  const MC_GLOBAL void* targets;  // [rows], i32 or i64
  MC_GLOBAL void* loss;           // f32 [rows], or null
  MC_GLOBAL void* logsumexp;      // f32 [rows]; an input of the backward kernel
  const MC_GLOBAL void* dloss;    // f32 [rows], of the backward kernel
  MC_GLOBAL void* gradient;       // [rows, columns] as logits lie, or null
  int64_t columns, stride;
  int64_t ignore_index;
  uint32_t wide_targets;  // 1: i64.
};

// ---- lora.h
struct LoraRowsArguments {
  const MC_GLOBAL void* x;     // [rows, depth], dense
  const MC_GLOBAL void* a;     // [depth, rank]
  const MC_GLOBAL void* b;     // [rank, columns]
  const MC_GLOBAL void* base;  // [rows, columns], dense, or null; may be out
  MC_GLOBAL void* out;         // [rows, columns], dense
  int64_t depth, columns;
  int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride;
  float scale;
  uint32_t rank;  // At most 64.
};
