// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The loops of reductions along dense rows and down columns, over elements that a Source gives: of
// one operand (reduce.h), or computed from several as a generated kernel says. Large reductions are
// cut in chunks, whose results another kernel reduces: always in the same order. In the dialect of
// dialect.h.
//
// A Source has
//   width                  Elements side by side that it gives at a time.
//   in_flight              How often it is asked before the first answer is used.
//   Elements               What they are made of, as loaded.
//   begin(arguments, ...)  (output), along rows: whose elements are next; (group, column), down
//                          columns.
//   load(arguments, unit)  -> Elements: packet `unit` of the row, or row `unit` of the columns.
//   value(arguments, elements, i)
//                          Element i < width of them.
// Arguments have the fields of ReduceRows or ReduceColumns (arguments.h).
#pragma once

#include "metal_candle/backend/gpu/kernels/reduction.h"

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

// Joins units first, first + step, ... before `end` to parts[], one for each element of a packet.
template <typename R, typename Source, typename Arguments, typename A>
MC_FUNCTION void reduce_units(MC_CONSTANT Arguments& arguments, MC_THREAD const Source& source,
                              uint32_t first, uint32_t step, uint32_t end, MC_THREAD A* parts) {
  for (; first < end; first += Source::in_flight * step) {
    typename Source::Elements elements[Source::in_flight];
    MC_UNROLL
    for (int p = 0; p < Source::in_flight; ++p) {
      const uint32_t unit = first + p * step;
      if (unit < end) elements[p] = source.load(arguments, unit);
    }
    MC_UNROLL
    for (int p = 0; p < Source::in_flight; ++p) {
      if (first + p * step >= end) continue;
      MC_UNROLL
      for (int i = 0; i < Source::width; ++i) {
        parts[i] = R::join(parts[i], R::read(source.value(arguments, elements[p], i)));
      }
    }
  }
}

// T: of what is reduced, as it would lie in memory.
template <typename T, int kind, typename Source, typename Arguments>
MC_FUNCTION void reduce_rows_of(MC_CONSTANT Arguments& arguments, MC_GROUP char* memory,
                                Thread self) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  const bool whole = arguments.whole_group != 0;
  const uint32_t shift = arguments.team_shift;
  const uint32_t size = whole ? self.size : 1u << shift;
  const uint32_t index = whole ? self.index : self.lane & (size - 1);
  const uint32_t chunk = whole ? self.group % arguments.chunks : 0;
  const uint32_t output = whole ? self.group / arguments.chunks
                                : self.group * (self.size >> shift) + (self.index >> shift);
  const bool there = output < arguments.outputs;
  const uint32_t begin = chunk * arguments.chunk;
  uint32_t end =
      begin + arguments.chunk < arguments.units ? begin + arguments.chunk : arguments.units;
  if (!there) end = 0;
  Source source;
  source.begin(arguments, there ? output : 0);
  A parts[Source::width];
  MC_UNROLL
  for (int i = 0; i < Source::width; ++i) parts[i] = R::identity();
  reduce_units<R>(arguments, source, begin + index, size, end, parts);
  MC_UNROLL
  for (int reach = Source::width / 2; reach > 0; reach /= 2) {
    MC_UNROLL
    for (int i = 0; i < reach; ++i) parts[i] = R::join(parts[i], parts[i + reach]);
  }
  const A value = whole ? group_reduce<R>(parts[0], memory, self) : lane_reduce<R>(parts[0], size);
  if (!there || index != 0) return;
  store_reduced<T>(arguments.out, int64_t(chunk) * arguments.outputs + output, value,
                   arguments.chunks > 1, kind);
}

template <typename T, int kind, typename Source, typename Arguments>
MC_FUNCTION void reduce_columns_of(MC_CONSTANT Arguments& arguments, MC_GROUP char* memory,
                                   Thread self) {
  typedef typename AccumulatorOf<T>::Type A;
  typedef Reducer<kind, A> R;
  const uint32_t shift = arguments.tile_shift;
  const uint32_t packets_across = uint32_t((arguments.columns + Source::width - 1) / Source::width);
  const uint32_t tiles = (packets_across + (1u << shift) - 1) >> shift;
  const uint32_t chunk = self.group % arguments.chunks;
  const uint32_t tile = self.group / arguments.chunks % tiles;
  const uint32_t outer = self.group / arguments.chunks / tiles;
  const uint32_t across = self.index & ((1u << shift) - 1);
  const int64_t column = ((int64_t(tile) << shift) + across) * Source::width;
  const uint32_t down = self.size >> shift;
  const uint32_t begin = chunk * arguments.chunk;
  uint32_t end =
      begin + arguments.chunk < arguments.rows ? begin + arguments.chunk : arguments.rows;
  if (column >= arguments.columns) end = 0;
  Source source;
  source.begin(arguments, outer, column < arguments.columns ? column : 0);
  A parts[Source::width];
  MC_UNROLL
  for (int i = 0; i < Source::width; ++i) parts[i] = R::identity();
  reduce_units<R>(arguments, source, begin + (self.index >> shift), down, end, parts);
  // Element i of all threads, then element i + 1: no conflicts of banks.
  MC_GROUP A* const shared = reinterpret_cast<MC_GROUP A*>(memory);
  MC_UNROLL
  for (int i = 0; i < Source::width; ++i) shared[i * self.size + self.index] = parts[i];
  for (uint32_t reach = self.size / 2; reach >= 1u << shift; reach /= 2) {
    group_barrier();
    if (self.index < reach) {
      MC_UNROLL
      for (int i = 0; i < Source::width; ++i) {
        MC_GROUP A* const part = shared + i * self.size + self.index;
        *part = R::join(*part, part[reach]);
      }
    }
  }
  if (self.index >= 1u << shift || column >= arguments.columns) return;
  const int64_t output = int64_t(chunk) * arguments.outputs + outer * arguments.columns + column;
  MC_UNROLL
  for (int i = 0; i < Source::width; ++i) {
    store_reduced<T>(arguments.out, output + i, shared[i * self.size + self.index],
                     arguments.chunks > 1, kind);
  }
}
