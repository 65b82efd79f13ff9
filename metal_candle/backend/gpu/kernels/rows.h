// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rows that threads keep in registers between the passes over them, so that memory is read once.
// In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

MC_FUNCTION int64_t row_offset(MC_CONSTANT RowMap& map, uint32_t row) {
  int64_t offset = 0;
  for (uint32_t axis = map.rank - 1; axis > 0; --axis) {
    const uint32_t rest = row / map.sizes[axis];
    offset += int64_t(row - rest * map.sizes[axis]) * map.strides[axis];
    row = rest;
  }
  return offset + int64_t(row) * map.strides[0];
}

// The elements of a row that a thread keeps: `count` packets of `width`, those of neighbouring
// threads being neighbours. Packets beyond the end hold zeros.
template <typename T, int width, int count>
struct RowPart {
  Packet<T, width> packets[count];

  MC_FUNCTION void load(const MC_GLOBAL T* row, uint32_t n, uint32_t index, uint32_t size) {
    MC_UNROLL
    for (int p = 0; p < count; ++p) {
      const uint32_t column = (p * size + index) * width;
      if (column < n) {
        packets[p] = load_packet<T, width>(row + column);
      } else {
        MC_UNROLL
        for (int i = 0; i < width; ++i) packets[p].values[i] = T(0.0f);
      }
    }
  }
  MC_FUNCTION float get(int p, int i) const { return float(packets[p].values[i]); }
};

// The threads that work on one row: 1 << shift neighbouring lanes of a warp, or the whole group.
template <bool whole_group>
struct RowTeam {
  Thread self;
  MC_GROUP float* memory;  // 64 floats
  uint32_t size, index;
  uint32_t row;  // May be beyond the last.

  MC_FUNCTION RowTeam(Thread who, MC_GROUP char* bytes, uint32_t shift)
      : self(who), memory(reinterpret_cast<MC_GROUP float*>(bytes)) {
    if (whole_group) {
      size = self.size;
      index = self.index;
      row = self.group;
    } else {
      size = 1u << shift;
      index = self.lane & (size - 1);
      row = self.group * (self.size >> shift) + (self.index >> shift);
    }
  }
  // For every thread of the team; all teams of the group take part. The calls of one kernel take
  // turns with `slot` 0 and 1, so that nobody writes over what others still read.
  MC_FUNCTION float sum(float x, int slot) const {
    if constexpr (whole_group) {
      return group_sum(x, memory + 32 * slot, self);
    } else {
      for (uint32_t mask = size / 2; mask > 0; mask >>= 1) x += lane_shuffle_xor(x, mask);
      return x;
    }
  }
  MC_FUNCTION float max(float x, int slot) const {
    if constexpr (whole_group) {
      return group_max(x, memory + 32 * slot, self);
    } else {
      for (uint32_t mask = size / 2; mask > 0; mask >>= 1) x = fmaxf(x, lane_shuffle_xor(x, mask));
      return x;
    }
  }
};

// Where a thread of a columns kernel works: at column `column` of group `outer` of columns, of
// which it takes the elements first, first + down, ...
struct ColumnTile {
  int64_t column;
  uint32_t outer;
  uint32_t first, down;
  bool there;

  MC_FUNCTION ColumnTile(int64_t columns, uint32_t shift, Thread self) {
    const uint32_t tiles = uint32_t((columns + (1u << shift) - 1) >> shift);
    outer = self.group / tiles;
    column = (int64_t(self.group % tiles) << shift) + (self.index & ((1u << shift) - 1));
    there = column < columns;
    first = self.index >> shift;
    down = self.size >> shift;
  }
};

// Makes kernels of function<T, packet width, packets a thread, whole group>: one for each element
// type, with `elements` a thread, by lanes or whole groups of up to `threads`; and for rows that
// are not aligned, whose elements cost more registers, so that groups are of half as many threads.
#define MC_ROW_KERNELS(name, Arguments, threads, elements, function)             \
  MC_ROW_KERNELS_OF(name, f32, float, 4, Arguments, threads, elements, function) \
  MC_ROW_KERNELS_OF(name, f16, half, 8, Arguments, threads, elements, function)  \
  MC_ROW_KERNELS_OF(name, bf16, bfloat, 8, Arguments, threads, elements, function)
#define MC_ROW_KERNELS_OF(name, type, T, width, Arguments, threads, elements, function) \
  MC_KERNEL(name##_##type##_lanes_##elements, Arguments, 128, 256,                      \
            function<T, width, elements / width, false>);                               \
  MC_KERNEL(name##_##type##_group_##elements, Arguments, threads, 256,                  \
            function<T, width, elements / width, true>);                                \
  MC_KERNEL(name##_##type##_lanes_##elements##_unaligned, Arguments, 128, 256,          \
            function<T, 1, elements, false>);                                           \
  MC_KERNEL(name##_##type##_group_##elements##_unaligned, Arguments, threads / 2, 256,  \
            function<T, 1, elements, true>);
