// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Running sums, products, maxima and minima: along rows, a group each; down columns, a thread each.
// In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/rows.h"
#include "metal_candle/backend/gpu/kernels/scan.h"

template <typename T, int kind>
MC_FUNCTION void cumulative_rows_by(MC_CONSTANT CumulativeArguments& arguments,
                                    MC_GROUP char* memory, Thread self) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  enum { each = 4 };
  const uint32_t n = arguments.n;
  const bool reverse = arguments.reverse != 0;
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.x_map, self.group);
  MC_GLOBAL T* const out =
      static_cast<MC_GLOBAL T*>(arguments.out) + row_offset(arguments.out_map, self.group);
  A carry = R::identity();
  uint32_t turn = 0;
  for (uint32_t start = 0; start < n; start += each * self.size) {
    A values[each];
    MC_UNROLL
    for (int i = 0; i < each; ++i) {
      const uint32_t step = start + self.index * each + i;
      values[i] = R::identity();
      if (step < n) values[i] = A(x[(reverse ? n - 1 - step : step) * arguments.x_stride]);
      if (i > 0) values[i] = R::join(values[i - 1], values[i]);
    }
    // Two places in turn: what one tile reads, the next does not write over.
    const Scanned<A> scanned =
        group_scan<R>(values[each - 1], memory + turn * 32 * sizeof(A), self);
    turn ^= 1;
    const A before = R::join(carry, scanned.before);
    MC_UNROLL
    for (int i = 0; i < each; ++i) {
      const uint32_t step = start + self.index * each + i;
      if (step < n) {
        out[(reverse ? n - 1 - step : step) * arguments.out_stride] = T(R::join(before, values[i]));
      }
    }
    carry = R::join(carry, scanned.total);
  }
}

template <typename T, int kind>
MC_FUNCTION void cumulative_columns_by(MC_CONSTANT CumulativeArguments& arguments, MC_GROUP char*,
                                       Thread self) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  enum { in_flight = 4 };
  const int64_t line = int64_t(self.group) * self.size + self.index;
  if (line >= arguments.lines) return;
  const uint32_t n = arguments.n;
  const bool reverse = arguments.reverse != 0;
  const uint32_t outer = uint32_t(line / arguments.columns);
  const int64_t column = line % arguments.columns;
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.x_map, outer) + column;
  MC_GLOBAL T* const out =
      static_cast<MC_GLOBAL T*>(arguments.out) + row_offset(arguments.out_map, outer) + column;
  A total = R::identity();
  for (uint32_t start = 0; start < n; start += in_flight) {
    T values[in_flight];
    MC_UNROLL
    for (int i = 0; i < in_flight; ++i) {
      const uint32_t step = start + i;
      if (step < n) values[i] = x[(reverse ? n - 1 - step : step) * arguments.x_stride];
    }
    MC_UNROLL
    for (int i = 0; i < in_flight; ++i) {
      const uint32_t step = start + i;
      if (step >= n) continue;
      total = R::join(total, A(values[i]));
      out[(reverse ? n - 1 - step : step) * arguments.out_stride] = T(total);
    }
  }
}

#define MC_CUMULATIVE_SWITCH(function)                          \
  switch (arguments.kind) {                                     \
    case kReduceSum:                                            \
      return function<T, kReduceSum>(arguments, memory, self);  \
    case kReduceProd:                                           \
      return function<T, kReduceProd>(arguments, memory, self); \
    case kReduceMax:                                            \
      return function<T, kReduceMax>(arguments, memory, self);  \
    default:                                                    \
      return function<T, kReduceMin>(arguments, memory, self);  \
  }
template <typename T>
MC_FUNCTION void cumulative_rows(MC_CONSTANT CumulativeArguments& arguments, MC_GROUP char* memory,
                                 Thread self) {
  MC_CUMULATIVE_SWITCH(cumulative_rows_by)
}
template <typename T>
MC_FUNCTION void cumulative_columns(MC_CONSTANT CumulativeArguments& arguments,
                                    MC_GROUP char* memory,
                                    Thread self){MC_CUMULATIVE_SWITCH(cumulative_columns_by)}

#define MC_CUMULATIVE_KERNELS(type, T)                                                  \
  MC_KERNEL(cumulative_rows_##type, CumulativeArguments, 512, 512, cumulative_rows<T>); \
  MC_KERNEL(cumulative_columns_##type, CumulativeArguments, 128, 0, cumulative_columns<T>);
MC_CUMULATIVE_KERNELS(f32, float) MC_CUMULATIVE_KERNELS(f16, half)
    MC_CUMULATIVE_KERNELS(bf16, bfloat) MC_CUMULATIVE_KERNELS(u8, uint8_t)
        MC_CUMULATIVE_KERNELS(i8, int8_t) MC_CUMULATIVE_KERNELS(u32, uint32_t)
            MC_CUMULATIVE_KERNELS(i32, int32_t) MC_CUMULATIVE_KERNELS(i64, int64_t)
