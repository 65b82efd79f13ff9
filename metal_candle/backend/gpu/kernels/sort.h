// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sorting of lines of any length: blocks in a group's memory, then merges of two runs at a time, in
// which every item looks up its place. Items are all different, so the order is stable. In the
// dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/keys.h"
#include "metal_candle/backend/gpu/kernels/rows.h"

// Where a line begins in x or in the output.
MC_FUNCTION int64_t line_offset(MC_CONSTANT RowMap& map, int64_t columns, uint32_t line) {
  if (columns == 1) return row_offset(map, line);
  return row_offset(map, uint32_t(line / columns)) + line % columns;
}

// What is written for the element at `position` of a line, as the `rank`-th.
template <typename T>
MC_FUNCTION void write_sorted(MC_CONSTANT SortArguments& arguments, uint32_t line, uint32_t rank,
                              uint32_t position) {
  const int64_t at =
      line_offset(arguments.out_map, arguments.columns, line) + rank * arguments.out_stride;
  if (arguments.positions != 0) {
    static_cast<MC_GLOBAL int32_t*>(arguments.out)[at] = int32_t(position);
  } else {
    static_cast<MC_GLOBAL T*>(arguments.out)[at] = static_cast<const MC_GLOBAL T*>(
        arguments.x)[line_offset(arguments.x_map, arguments.columns, line) +
                     position * arguments.x_stride];
  }
}

// Sorts `run` elements a group, a power of two.
template <typename T>
MC_FUNCTION void sort_blocks(MC_CONSTANT SortArguments& arguments, MC_GROUP char* memory,
                             Thread self) {
  typedef typename KeyOf<T>::Type Key;
  MC_GROUP Item<Key>* const shared = reinterpret_cast<MC_GROUP Item<Key>*>(memory);
  const uint32_t run = arguments.run;
  const uint32_t blocks = (arguments.n + run - 1) / run;
  const uint32_t line = self.group / blocks;
  const uint32_t block = self.group % blocks;
  const MC_GLOBAL T* const x = static_cast<const MC_GLOBAL T*>(arguments.x) +
                               line_offset(arguments.x_map, arguments.columns, line);
  for (uint32_t i = self.index; i < run; i += self.size) {
    const uint32_t position = block * run + i;
    shared[i] = make_item(~Key(0), ~uint32_t(0));
    if (position < arguments.n) {
      shared[i] = make_item(sort_key(x[position * arguments.x_stride], arguments.descending != 0),
                            position);
    }
  }
  // Bitonic: sequences of `size` become sorted, ascending and descending in turn.
  for (uint32_t size = 2; size <= run; size *= 2) {
    for (uint32_t distance = size / 2; distance > 0; distance /= 2) {
      group_barrier();
      for (uint32_t pair = self.index; pair < run / 2; pair += self.size) {
        const uint32_t low = 2 * pair - (pair & (distance - 1));
        const uint32_t high = low + distance;
        const bool up = (low & size) == 0;
        const Item<Key> a = shared[low], b = shared[high];
        if (comes_before(b, a) == up) {
          shared[low] = b;
          shared[high] = a;
        }
      }
    }
  }
  group_barrier();
  const uint32_t left = arguments.n - block * run;
  const uint32_t most = run < arguments.keep ? run : arguments.keep;
  const uint32_t count = left < most ? left : most;
  MC_GLOBAL Item<Key>* const merged = static_cast<MC_GLOBAL Item<Key>*>(arguments.merged);
  for (uint32_t i = self.index; i < count; i += self.size) {
    if (merged == nullptr) {
      write_sorted<T>(arguments, line, i, position_of(shared[i]));
    } else {
      merged[int64_t(line) * arguments.merged_slots + block * most + i] = shared[i];
    }
  }
}

// One slot a thread.
template <typename T>
MC_FUNCTION void sort_merge(MC_CONSTANT SortArguments& arguments, MC_GROUP char*, Thread self) {
  typedef typename KeyOf<T>::Type Key;
  const uint32_t groups_a_line = (arguments.slots + self.size - 1) / self.size;
  const uint32_t line = self.group / groups_a_line;
  const uint32_t slot = self.group % groups_a_line * self.size + self.index;
  const uint32_t run = arguments.run, keep = arguments.keep;
  const uint32_t stride = run < keep ? run : keep;  // Slots of a run.
  const uint32_t number = slot / stride, index = slot % stride;
  const uint32_t first_left = number * run < arguments.n ? arguments.n - number * run : 0;
  if (slot >= arguments.slots || index >= first_left) return;
  const MC_GLOBAL Item<Key>* const items =
      static_cast<const MC_GLOBAL Item<Key>*>(arguments.items) + int64_t(line) * arguments.slots;
  const Item<Key> item = items[slot];
  // The other run's items that come before.
  const uint32_t other = number ^ 1;
  const uint32_t other_left = int64_t(other) * run < arguments.n ? arguments.n - other * run : 0;
  const MC_GLOBAL Item<Key>* const others = items + int64_t(other) * stride;
  uint32_t low = 0, high = other_left < stride ? other_left : stride;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (comes_before(others[middle], item)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const uint32_t rank = index + low;
  if (rank >= keep) return;
  if (arguments.merged == nullptr) return write_sorted<T>(arguments, line, rank, position_of(item));
  const uint32_t merged_stride = 2 * run < keep ? 2 * run : keep;
  static_cast<MC_GLOBAL Item<Key>*>(arguments.merged)[int64_t(line) * arguments.merged_slots +
                                                      number / 2 * merged_stride + rank] = item;
}

#define MC_SORT_KERNELS(type, T)                                            \
  MC_KERNEL(sort_blocks_##type, SortArguments, 512, 32768, sort_blocks<T>); \
  MC_KERNEL(sort_merge_##type, SortArguments, 256, 0, sort_merge<T>);
MC_SORT_KERNELS(f32, float)
MC_SORT_KERNELS(f16, half)
MC_SORT_KERNELS(bf16, bfloat)
MC_SORT_KERNELS(u8, uint8_t)
MC_SORT_KERNELS(i8, int8_t)
MC_SORT_KERNELS(u32, uint32_t)
MC_SORT_KERNELS(i32, int32_t)
MC_SORT_KERNELS(i64, int64_t)
