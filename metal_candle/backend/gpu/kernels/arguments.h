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
