// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The position of the first maximum or minimum along rows or columns, NaN being more extreme than
// anything. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/keys.h"
#include "metal_candle/backend/gpu/kernels/rows.h"

// The least item is the first of the most extreme.
template <typename T>
MC_FUNCTION Item<typename KeyOf<T>::Type> extreme_item(T x, bool is_max, uint32_t position) {
  typedef typename KeyOf<T>::Type Key;
  const Key key = sort_key(x, is_max);
  return make_item(x != x ? Key(0) : key, position);
}
MC_FUNCTION Item<uint32_t> extreme_item(half x, bool is_max, uint32_t position) {
  return extreme_item(float(x), is_max, position);
}
MC_FUNCTION Item<uint32_t> extreme_item(bfloat x, bool is_max, uint32_t position) {
  return extreme_item(float(x), is_max, position);
}

template <typename T>
MC_FUNCTION void arg_reduce(MC_CONSTANT ArgReduceArguments& arguments, MC_GROUP char* memory,
                            Thread thread) {
  typedef typename KeyOf<T>::Type Key;
  enum { in_flight = 4 };
  const ColumnTile tile(arguments.columns, arguments.tile_shift, thread);
  const uint32_t begin = thread.group_y * arguments.part_length;
  const uint32_t end = begin + arguments.part_length;
  const uint32_t n = !tile.there ? 0 : end < arguments.n ? end : arguments.n;
  const bool is_max = arguments.is_max != 0;
  const MC_GLOBAL T* const x = static_cast<const MC_GLOBAL T*>(arguments.x) +
                               row_offset(arguments.map, tile.outer) + tile.column;
  Item<Key> best = make_item(~Key(0), ~uint32_t(0));
  for (uint32_t first = begin + tile.first; first < n; first += in_flight * tile.down) {
    T values[in_flight];
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      const uint32_t at = first + p * tile.down;
      if (at < n) values[p] = x[at * arguments.stride];
    }
    MC_UNROLL
    for (int p = 0; p < in_flight; ++p) {
      const uint32_t at = first + p * tile.down;
      if (at >= n) continue;
      const Item<Key> item = extreme_item(values[p], is_max, at);
      if (comes_before(item, best)) best = item;
    }
  }
  MC_GROUP Item<Key>* const shared = reinterpret_cast<MC_GROUP Item<Key>*>(memory);
  shared[thread.index] = best;
  for (uint32_t half = thread.size / 2; half >= thread.size / tile.down; half /= 2) {
    group_barrier();
    if (thread.index < half && comes_before(shared[thread.index + half], shared[thread.index])) {
      shared[thread.index] = shared[thread.index + half];
    }
  }
  if (tile.first != 0 || !tile.there) return;
  const int64_t place = tile.outer * arguments.columns + tile.column;
  if (arguments.parts != nullptr) {
    static_cast<MC_GLOBAL Item<Key>*>(arguments.parts)[place * thread.groups_y + thread.group_y] =
        shared[thread.index];
  } else {
    arguments.out[place] = int32_t(position_of(shared[thread.index]));
  }
}

// Joins the parts of a column, a group each. columns: the parts.
constexpr uint32_t kArgReduceParts = 64;
template <typename Key>
MC_FUNCTION void arg_reduce_join(MC_CONSTANT ArgReduceArguments& arguments, MC_GROUP char* memory,
                                 Thread thread) {
  const MC_GLOBAL Item<Key>* const found =
      static_cast<const MC_GLOBAL Item<Key>*>(arguments.parts) +
      int64_t(thread.group) * arguments.columns;
  MC_GROUP Item<Key>* const shared = reinterpret_cast<MC_GROUP Item<Key>*>(memory);
  shared[thread.index] =
      thread.index < arguments.columns ? found[thread.index] : make_item(~Key(0), ~uint32_t(0));
  for (uint32_t half = kArgReduceParts / 2; half > 0; half /= 2) {
    group_barrier();
    if (thread.index < half && comes_before(shared[thread.index + half], shared[thread.index])) {
      shared[thread.index] = shared[thread.index + half];
    }
  }
  if (thread.index == 0) arguments.out[thread.group] = int32_t(position_of(shared[0]));
}
MC_KERNEL(arg_reduce_join_u32, ArgReduceArguments, kArgReduceParts, 1024,
          arg_reduce_join<uint32_t>);
MC_KERNEL(arg_reduce_join_u64, ArgReduceArguments, kArgReduceParts, 1024,
          arg_reduce_join<uint64_t>);

MC_KERNEL(arg_reduce_f32, ArgReduceArguments, 1024, 16384, arg_reduce<float>);
MC_KERNEL(arg_reduce_f16, ArgReduceArguments, 1024, 16384, arg_reduce<half>);
MC_KERNEL(arg_reduce_bf16, ArgReduceArguments, 1024, 16384, arg_reduce<bfloat>);
MC_KERNEL(arg_reduce_u8, ArgReduceArguments, 1024, 16384, arg_reduce<uint8_t>);
MC_KERNEL(arg_reduce_i8, ArgReduceArguments, 1024, 16384, arg_reduce<int8_t>);
MC_KERNEL(arg_reduce_u32, ArgReduceArguments, 1024, 16384, arg_reduce<uint32_t>);
MC_KERNEL(arg_reduce_i32, ArgReduceArguments, 1024, 16384, arg_reduce<int32_t>);
MC_KERNEL(arg_reduce_i64, ArgReduceArguments, 1024, 16384, arg_reduce<int64_t>);
