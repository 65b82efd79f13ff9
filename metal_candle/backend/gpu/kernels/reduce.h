// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sums, products, maxima, minima, any and all of one operand, along dense rows or down columns
// (reduce_loops.h), and of the results of chunks. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/reduce_loops.h"
#include "metal_candle/backend/gpu/kernels/rows.h"

// Elements of x where they lie.
template <typename T, int packet>
struct PlainSource {
  enum { width = packet, in_flight = 4 };
  typedef Packet<T, width> Elements;
  const MC_GLOBAL T* x;

  MC_FUNCTION void begin(MC_CONSTANT ReduceRowsArguments& arguments, uint32_t output) {
    x = static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.kept, output);
  }
  MC_FUNCTION void begin(MC_CONSTANT ReduceColumnsArguments& arguments, uint32_t group,
                         int64_t column) {
    x = static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.kept, group) + column;
  }
  template <typename Arguments>
  MC_FUNCTION Elements load(MC_CONSTANT Arguments& arguments, uint32_t unit) const {
    return load_packet<T, width>(x + row_offset(arguments.reduced, unit));
  }
  template <typename Arguments>
  MC_FUNCTION T value(MC_CONSTANT Arguments&, MC_THREAD const Elements& elements, int i) const {
    return elements.values[i];
  }
};

template <typename T, int width, int kind>
MC_FUNCTION void reduce_rows_by(MC_CONSTANT ReduceRowsArguments& arguments, MC_GROUP char* memory,
                                Thread self) {
  reduce_rows_of<T, kind, PlainSource<T, width>>(arguments, memory, self);
}
template <typename T, int width, int kind>
MC_FUNCTION void reduce_columns_by(MC_CONSTANT ReduceColumnsArguments& arguments,
                                   MC_GROUP char* memory, Thread self) {
  reduce_columns_of<T, kind, PlainSource<T, width>>(arguments, memory, self);
}

template <typename T, int kind>
MC_FUNCTION void reduce_partials_by(MC_CONSTANT ReducePartialsArguments& arguments,
                                    MC_GROUP char* memory, Thread self) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  const uint32_t shift = arguments.tile_shift;
  const int64_t output = (int64_t(self.group) << shift) + (self.index & ((1u << shift) - 1));
  const MC_GLOBAL A* const partials = static_cast<const MC_GLOBAL A*>(arguments.partials);
  A value = R::identity();
  if (output < arguments.outputs) {
    for (uint32_t part = self.index >> shift; part < arguments.parts; part += self.size >> shift) {
      value = R::join(value, partials[part * arguments.outputs + output]);
    }
  }
  MC_GROUP A* const shared = reinterpret_cast<MC_GROUP A*>(memory);
  shared[self.index] = value;
  for (uint32_t reach = self.size / 2; reach >= 1u << shift; reach /= 2) {
    group_barrier();
    if (self.index < reach) {
      shared[self.index] = R::join(shared[self.index], shared[self.index + reach]);
    }
  }
  if (self.index >= 1u << shift || output >= arguments.outputs) return;
  store_reduced<T>(arguments.out, output, shared[self.index], false, kind);
}

// The kind is known before the loops begin. Packets are for what is common: fewer kernels compile
// faster.
#define MC_REDUCE_CASE(kind, function, ...) \
  case kind:                                \
    return function<__VA_ARGS__, kind>(arguments, memory, self);
#define MC_REDUCE_SWITCH(packets, function, ...)         \
  switch (arguments.kind) {                              \
    MC_REDUCE_CASE(kReduceSum, function, __VA_ARGS__)    \
    MC_REDUCE_CASE(kReduceMax, function, __VA_ARGS__)    \
    MC_REDUCE_CASE(kReduceMin, function, __VA_ARGS__)    \
    default:                                             \
      break;                                             \
  }                                                      \
  if constexpr (!(packets)) {                            \
    switch (arguments.kind) {                            \
      MC_REDUCE_CASE(kReduceProd, function, __VA_ARGS__) \
      MC_REDUCE_CASE(kReduceAny, function, __VA_ARGS__)  \
      MC_REDUCE_CASE(kReduceAll, function, __VA_ARGS__)  \
      default:                                           \
        break;                                           \
    }                                                    \
  }

template <typename T, int width>
MC_FUNCTION void reduce_rows(MC_CONSTANT ReduceRowsArguments& arguments, MC_GROUP char* memory,
                             Thread self) {
  MC_REDUCE_SWITCH(width > 1, reduce_rows_by, T, width)
}
template <typename T, int width>
MC_FUNCTION void reduce_columns(MC_CONSTANT ReduceColumnsArguments& arguments,
                                MC_GROUP char* memory, Thread self) {
  MC_REDUCE_SWITCH(width > 1, reduce_columns_by, T, width)
}
template <typename T>
MC_FUNCTION void reduce_partials(MC_CONSTANT ReducePartialsArguments& arguments,
                                 MC_GROUP char* memory,
                                 Thread self){MC_REDUCE_SWITCH(false, reduce_partials_by, T)}

#define MC_REDUCE_KERNELS(type, T)                                                           \
  MC_KERNEL_MERGED(reduce_rows_##type, ReduceRowsArguments, 256, 256, reduce_rows<T, 1>);    \
  MC_KERNEL(reduce_columns_##type, ReduceColumnsArguments, 256, 2048, reduce_columns<T, 1>); \
  MC_KERNEL_MERGED(reduce_partials_##type, ReducePartialsArguments, 256, 2048, reduce_partials<T>);
#define MC_REDUCE_PACKET_KERNELS(type, T, width)                                \
  MC_KERNEL_MERGED(reduce_rows_##type##_packets, ReduceRowsArguments, 256, 256, \
                   reduce_rows<T, width>);                                      \
  MC_KERNEL(reduce_columns_##type##_packets, ReduceColumnsArguments, 256, 8192, \
            reduce_columns<T, width>);
MC_REDUCE_KERNELS(f32, float) MC_REDUCE_KERNELS(f16, half) MC_REDUCE_KERNELS(bf16, bfloat)
    MC_REDUCE_KERNELS(u8, uint8_t) MC_REDUCE_KERNELS(i8, int8_t) MC_REDUCE_KERNELS(u32, uint32_t)
        MC_REDUCE_KERNELS(i32, int32_t) MC_REDUCE_KERNELS(i64, int64_t)
            MC_REDUCE_PACKET_KERNELS(f32, float, 4) MC_REDUCE_PACKET_KERNELS(f16, half, 8)
                MC_REDUCE_PACKET_KERNELS(bf16, bfloat, 8)
