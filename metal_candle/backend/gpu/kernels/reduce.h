// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sums, products, maxima, minima, any and all, along dense rows or down columns. Large reductions
// are cut in chunks, whose results a second kernel reduces: always in the same order. In the
// dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/reduction.h"
#include "metal_candle/backend/gpu/kernels/rows.h"

// Any and all give bytes. An accumulator kept for later stays as it is.
template <typename T, typename A>
MC_FUNCTION void store_reduced(MC_GLOBAL void* out, int64_t index, A value, bool partial,
                               uint32_t kind) {
  if (partial) {
    static_cast<MC_GLOBAL A*>(out)[index] = value;
  } else if (kind == kReduceAny || kind == kReduceAll) {
    static_cast<MC_GLOBAL uint8_t*>(out)[index] = value != A(0) ? 1 : 0;
  } else {
    static_cast<MC_GLOBAL T*>(out)[index] = T(value);
  }
}

template <typename T, int width, int kind>
MC_FUNCTION void reduce_rows_by(MC_CONSTANT ReduceRowsArguments& arguments, MC_GROUP char* memory,
                                Thread thread) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  enum { in_flight = 4 };
  const bool whole = arguments.whole_group != 0;
  const uint32_t shift = arguments.team_shift;
  const uint32_t size = whole ? thread.size : 1u << shift;
  const uint32_t index = whole ? thread.index : thread.lane & (size - 1);
  const uint32_t chunk = whole ? thread.group % arguments.chunks : 0;
  const uint32_t output = whole ? thread.group / arguments.chunks
                                : thread.group * (thread.size >> shift) + (thread.index >> shift);
  const bool there = output < arguments.outputs;
  const uint32_t begin = chunk * arguments.chunk;
  uint32_t end =
      begin + arguments.chunk < arguments.units ? begin + arguments.chunk : arguments.units;
  if (!there) end = 0;
  const MC_GLOBAL T* const x = static_cast<const MC_GLOBAL T*>(arguments.x) +
                               (there ? row_offset(arguments.kept, output) : 0);
  A parts[width];
  MC_UNROLL
  for (int i = 0; i < width; ++i) parts[i] = R::identity();
  for (uint32_t first = begin + index; first < end; first += in_flight * size) {
    Packet<T, width> packets[in_flight];
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      const uint32_t unit = first + p * size;
      if (unit < end) packets[p] = load_packet<T, width>(x + row_offset(arguments.reduced, unit));
    }
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      if (first + p * size >= end) continue;
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        parts[i] = R::join(parts[i], R::read(packets[p].values[i]));
      }
    }
  }
  MC_UNROLL
  for (int half = width / 2; half > 0; half /= 2) {
    MC_UNROLL
    for (int i = 0; i < half; ++i) parts[i] = R::join(parts[i], parts[i + half]);
  }
  const A value =
      whole ? group_reduce<R>(parts[0], memory, thread) : lane_reduce<R>(parts[0], size);
  if (!there || index != 0) return;
  store_reduced<T>(arguments.out, int64_t(chunk) * arguments.outputs + output, value,
                   arguments.chunks > 1, kind);
}

template <typename T, int width, int kind>
MC_FUNCTION void reduce_columns_by(MC_CONSTANT ReduceColumnsArguments& arguments,
                                   MC_GROUP char* memory, Thread thread) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  enum { in_flight = 4 };
  const uint32_t shift = arguments.tile_shift;
  const uint32_t packets_across = uint32_t((arguments.columns + width - 1) / width);
  const uint32_t tiles = (packets_across + (1u << shift) - 1) >> shift;
  const uint32_t chunk = thread.group % arguments.chunks;
  const uint32_t tile = thread.group / arguments.chunks % tiles;
  const uint32_t outer = thread.group / arguments.chunks / tiles;
  const uint32_t across = thread.index & ((1u << shift) - 1);
  const int64_t column = ((int64_t(tile) << shift) + across) * width;
  const uint32_t down = thread.size >> shift;
  const uint32_t begin = chunk * arguments.chunk;
  uint32_t end =
      begin + arguments.chunk < arguments.rows ? begin + arguments.chunk : arguments.rows;
  if (column >= arguments.columns) end = 0;
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.kept, outer) + column;
  A parts[width];
  MC_UNROLL
  for (int i = 0; i < width; ++i) parts[i] = R::identity();
  for (uint32_t first = begin + (thread.index >> shift); first < end; first += in_flight * down) {
    Packet<T, width> packets[in_flight];
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      const uint32_t row = first + p * down;
      if (row < end) packets[p] = load_packet<T, width>(x + row_offset(arguments.reduced, row));
    }
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      if (first + p * down >= end) continue;
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        parts[i] = R::join(parts[i], R::read(packets[p].values[i]));
      }
    }
  }
  // Element i of all threads, then element i + 1: no conflicts of banks.
  MC_GROUP A* const shared = reinterpret_cast<MC_GROUP A*>(memory);
  MC_UNROLL
  for (int i = 0; i < width; ++i) shared[i * thread.size + thread.index] = parts[i];
  for (uint32_t half = thread.size / 2; half >= 1u << shift; half /= 2) {
    group_barrier();
    if (thread.index < half) {
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        MC_GROUP A* const part = shared + i * thread.size + thread.index;
        *part = R::join(*part, part[half]);
      }
    }
  }
  if (thread.index >= 1u << shift || column >= arguments.columns) return;
  const int64_t output = int64_t(chunk) * arguments.outputs + outer * arguments.columns + column;
  MC_UNROLL
  for (int i = 0; i < width; ++i) {
    store_reduced<T>(arguments.out, output + i, shared[i * thread.size + thread.index],
                     arguments.chunks > 1, kind);
  }
}

template <typename T, int kind>
MC_FUNCTION void reduce_partials_by(MC_CONSTANT ReducePartialsArguments& arguments,
                                    MC_GROUP char* memory, Thread thread) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  const uint32_t shift = arguments.tile_shift;
  const int64_t output = (int64_t(thread.group) << shift) + (thread.index & ((1u << shift) - 1));
  const MC_GLOBAL A* const partials = static_cast<const MC_GLOBAL A*>(arguments.partials);
  A value = R::identity();
  if (output < arguments.outputs) {
    for (uint32_t part = thread.index >> shift; part < arguments.parts;
         part += thread.size >> shift) {
      value = R::join(value, partials[part * arguments.outputs + output]);
    }
  }
  MC_GROUP A* const shared = reinterpret_cast<MC_GROUP A*>(memory);
  shared[thread.index] = value;
  for (uint32_t half = thread.size / 2; half >= 1u << shift; half /= 2) {
    group_barrier();
    if (thread.index < half) {
      shared[thread.index] = R::join(shared[thread.index], shared[thread.index + half]);
    }
  }
  if (thread.index >= 1u << shift || output >= arguments.outputs) return;
  store_reduced<T>(arguments.out, output, shared[thread.index], false, kind);
}

// The kind is known before the loops begin. Packets are for what is common: fewer kernels compile
// faster.
#define MC_REDUCE_CASE(kind, function, ...) \
  case kind:                                \
    return function<__VA_ARGS__, kind>(arguments, memory, thread);
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
                             Thread thread) {
  MC_REDUCE_SWITCH(width > 1, reduce_rows_by, T, width)
}
template <typename T, int width>
MC_FUNCTION void reduce_columns(MC_CONSTANT ReduceColumnsArguments& arguments,
                                MC_GROUP char* memory, Thread thread) {
  MC_REDUCE_SWITCH(width > 1, reduce_columns_by, T, width)
}
template <typename T>
MC_FUNCTION void reduce_partials(MC_CONSTANT ReducePartialsArguments& arguments,
                                 MC_GROUP char* memory,
                                 Thread thread){MC_REDUCE_SWITCH(false, reduce_partials_by, T)}

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
