// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The arguments of the kernels that Metal alone has, for the host and for the dialect alike.
#pragma once

#ifndef MC_GLOBAL
#define MC_GLOBAL
#include <cstdint>
#endif

// out = activation(alpha * a @ b + beta * c + bias), of each of a batch.
struct ProductArguments {
  const MC_GLOBAL void* a;     // [rows, depth]
  const MC_GLOBAL void* b;     // [depth, columns]
  const MC_GLOBAL void* bias;  // [columns], or null
  const MC_GLOBAL void* c;     // As out lies; read unless beta is 0.
  MC_GLOBAL void* out;         // [rows, columns]
  MC_GLOBAL void* sums;        // [batch, parts, rows, columns] of f32; where parts is not 1.
  int64_t a_row_stride, a_column_stride, a_batch_stride;
  int64_t b_row_stride, b_column_stride, b_batch_stride;
  int64_t out_row_stride, out_batch_stride;
  uint32_t batch, rows, columns, depth;
  uint32_t parts, part_depth;  // The depth is divided among so many groups, each with so much.
  uint32_t activation;         // op::Activation
  float alpha, beta;
};

struct ZeroArguments {
  MC_GLOBAL void* out;
  uint64_t bytes;
};
