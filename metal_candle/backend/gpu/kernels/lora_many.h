// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// out = base + scale * (x @ a) @ b in f32 for many rows and a small rank, in two launches: both
// products are bound by memory, the first by reading x, the second by writing the result. Sums are
// cut by shape alone, and always added in the same order. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"
#include "metal_candle/backend/gpu/kernels/lora_sums.h"

enum { kLoraDownThreads = 256, kLoraRankAtOnce = 8, kLoraMaxManyRank = 64 };
enum { kLoraUpThreads = 256, kLoraUpPackets = 64, kLoraUpLanes = kLoraUpThreads / kLoraUpPackets };

// A packet of 4 along the depth of some rows of x, and the 4 x 8 block of a that goes with it.
template <LoraForm form>
struct LoraBlock;
// a's columns are dense, as in adapter files.
template <>
struct LoraBlock<LoraForm::kColumns> {
  enum { depth = 4 };
  static MC_FUNCTION void load(MC_CONSTANT LoraManyArguments& arguments, uint32_t first,
                               uint32_t column, MC_THREAD Packet<float, 4>* block) {
    const MC_GLOBAL float* a = arguments.a + column * arguments.a_column_stride + first;
    Packet<float, 4> columns[kLoraRankAtOnce] = {};
    MC_UNROLL
    for (int r = 0; r < kLoraRankAtOnce; ++r) {
      if (column + r < arguments.rank) {
        columns[r] = load_packet<float, 4>(a + r * arguments.a_column_stride);
      }
    }
    MC_UNROLL
    for (int k = 0; k < depth; ++k) {
      MC_UNROLL
      for (int r = 0; r < kLoraRankAtOnce; ++r) {
        block[2 * k + r / 4].values[r % 4] = columns[r].values[k];
      }
    }
  }
};
// a's rows are dense, and whole packets.
template <>
struct LoraBlock<LoraForm::kPackets> {
  enum { depth = 4 };
  static MC_FUNCTION void load(MC_CONSTANT LoraManyArguments& arguments, uint32_t first,
                               uint32_t column, MC_THREAD Packet<float, 4>* block) {
    const MC_GLOBAL float* row = arguments.a + first * arguments.a_row_stride + column;
    MC_UNROLL
    for (int k = 0; k < depth; ++k) {
      MC_UNROLL
      for (int half = 0; half < 2; ++half) {
        block[2 * k + half] = {};
        if (column + 4 * half < arguments.rank) {
          block[2 * k + half] = load_packet<float, 4>(row + 4 * half);
        }
      }
      row += arguments.a_row_stride;
    }
  }
};
// Element by element, wherever they are.
template <>
struct LoraBlock<LoraForm::kAny> {
  enum { depth = 1 };
  static MC_FUNCTION void load(MC_CONSTANT LoraManyArguments& arguments, uint32_t first,
                               uint32_t column, MC_THREAD Packet<float, 4>* block) {
    const MC_GLOBAL float* entry =
        arguments.a + first * arguments.a_row_stride + column * arguments.a_column_stride;
    MC_UNROLL
    for (int r = 0; r < kLoraRankAtOnce; ++r) {
      block[r / 4].values[r % 4] = column + r < arguments.rank ? *entry : 0.0f;
      if (column + r < arguments.rank) entry += arguments.a_column_stride;
    }
  }
};

// low[part] = x @ a of a part of the depth: a group has some rows, eight columns and one part.
template <LoraForm form, int rows>
MC_FUNCTION void lora_down(MC_CONSTANT LoraManyArguments& arguments, MC_GROUP char* memory,
                           Thread self) {
  typedef LoraBlock<form> Block;
  enum { sums_of_group = rows * kLoraRankAtOnce };
  const uint32_t row = self.group * rows;
  const uint32_t column = self.group_y * kLoraRankAtOnce;
  const uint32_t begin = self.group_z * arguments.chunk;
  const uint32_t end =
      begin + arguments.chunk < arguments.depth ? begin + arguments.chunk : arguments.depth;
  LoraSums<sums_of_group> sums = {};
  for (uint32_t i = begin + self.index * Block::depth; i < end; i += self.size * Block::depth) {
    Packet<float, Block::depth> x[rows] = {};
    MC_UNROLL
    for (int r = 0; r < rows; ++r) {
      if (row + r < arguments.rows) {
        x[r] =
            load_packet<float, Block::depth>(arguments.x + int64_t(row + r) * arguments.depth + i);
      }
    }
    Packet<float, 4> block[2 * Block::depth];
    Block::load(arguments, i, column, block);
    MC_UNROLL
    for (int k = 0; k < Block::depth; ++k) {
      MC_UNROLL
      for (int r = 0; r < rows; ++r) {
        MC_UNROLL
        for (int c = 0; c < kLoraRankAtOnce; ++c) {
          sums.at[r * kLoraRankAtOnce + c] = fmaf(
              x[r].values[k], block[2 * k + c / 4].values[c % 4], sums.at[r * kLoraRankAtOnce + c]);
        }
      }
    }
  }
  // Of each warp, then of the group.
  MC_GROUP float* const shared = reinterpret_cast<MC_GROUP float*>(memory);
  lora_store_sums<sums_of_group>(sums, shared + self.warp * sums_of_group, self.lane);
  group_barrier();
  if (self.index >= sums_of_group) return;
  float total = 0.0f;
  for (uint32_t warp = 0; warp < self.size / 32; ++warp) {
    total += shared[warp * sums_of_group + self.index];
  }
  const uint32_t its_row = row + self.index / kLoraRankAtOnce;
  const uint32_t its_column = column + self.index % kLoraRankAtOnce;
  if (its_row >= arguments.rows || its_column >= arguments.rank) return;
  arguments.low[(int64_t(self.group_z) * arguments.rows + its_row) * arguments.rank + its_column] =
      total;
}

// Four columns of row r of b, from column on.
template <bool in_packets>
MC_FUNCTION Packet<float, 4> lora_row_of_b(MC_CONSTANT LoraManyArguments& arguments, uint32_t r,
                                           uint32_t column) {
  Packet<float, 4> values = {};
  if (in_packets) {
    values = load_packet<float, 4>(arguments.b + r * arguments.b_row_stride + column);
  } else {
    MC_UNROLL
    for (int c = 0; c < 4; ++c) {
      if (column + c < arguments.columns) {
        values.values[c] =
            arguments.b[r * arguments.b_row_stride + (column + c) * arguments.b_column_stride];
      }
    }
  }
  return values;
}

// out (+)= scale * (the sum of low's parts) @ b: a group has 256 columns and 4 * rows rows, a
// thread 4 columns of each fourth of them. in_packets: b's rows are dense, and those of b and of
// out whole packets.
template <bool in_packets, int rows>
MC_FUNCTION void lora_up(MC_CONSTANT LoraManyArguments& arguments, MC_GROUP char* memory,
                         Thread self) {
  const uint32_t rows_of_group = rows * uint32_t(kLoraUpLanes);
  MC_GROUP float* const low = reinterpret_cast<MC_GROUP float*>(memory);
  const uint32_t first = self.group_y * rows_of_group;
  const uint32_t there =
      arguments.rows - first < rows_of_group ? arguments.rows - first : rows_of_group;
  const uint32_t rank = arguments.rank;
  for (uint32_t i = self.index; i < rows_of_group * rank; i += self.size) {
    float total = 0.0f;
    if (i < there * rank) {
      const MC_GLOBAL float* part = arguments.low + int64_t(first) * rank + i;
      for (uint32_t p = 0; p < arguments.parts; ++p) {
        total += *part;
        part += int64_t(arguments.rows) * rank;
      }
    }
    low[i] = total * arguments.scale;
  }
  group_barrier();
  const uint32_t column = (self.group * kLoraUpPackets + self.index % kLoraUpPackets) * 4;
  const uint32_t lane = self.index / kLoraUpPackets;
  if (column >= arguments.columns) return;
  Packet<float, 4> sums[rows] = {};
  for (uint32_t begin = 0; begin < rank; begin += kLoraRankAtOnce) {
    Packet<float, 4> of_b[kLoraRankAtOnce] = {};
    MC_UNROLL
    for (int r = 0; r < kLoraRankAtOnce; ++r) {
      if (begin + r < rank) of_b[r] = lora_row_of_b<in_packets>(arguments, begin + r, column);
    }
    MC_UNROLL
    for (int r = 0; r < kLoraRankAtOnce; ++r) {
      if (begin + r >= rank) continue;
      MC_UNROLL
      for (int i = 0; i < rows; ++i) {
        const float value = low[(lane + i * kLoraUpLanes) * rank + begin + r];
        MC_UNROLL
        for (int c = 0; c < 4; ++c) {
          sums[i].values[c] = fmaf(value, of_b[r].values[c], sums[i].values[c]);
        }
      }
    }
  }
  MC_UNROLL
  for (int i = 0; i < rows; ++i) {
    const uint32_t row = first + lane + i * kLoraUpLanes;
    if (row >= arguments.rows) continue;
    MC_GLOBAL float* const out = arguments.out + int64_t(row) * arguments.columns + column;
    if (in_packets) {
      Packet<float, 4> base = {};
      if (arguments.adds != 0) base = load_packet<float, 4>(out);
      MC_UNROLL
      for (int c = 0; c < 4; ++c) sums[i].values[c] += base.values[c];
      store_packet<float, 4>(out, sums[i]);
    } else {
      MC_UNROLL
      for (int c = 0; c < 4; ++c) {
        if (column + c >= arguments.columns) continue;
        out[c] = arguments.adds != 0 ? out[c] + sums[i].values[c] : sums[i].values[c];
      }
    }
  }
}

#define MC_LORA_DOWN_KERNELS(name, form)                                              \
  MC_KERNEL(lora_down_##name##_2, LoraManyArguments, kLoraDownThreads, 8 * 2 * 8 * 4, \
            lora_down<form, 2>);                                                      \
  MC_KERNEL(lora_down_##name##_8, LoraManyArguments, kLoraDownThreads, 8 * 8 * 8 * 4, \
            lora_down<form, 8>);
MC_LORA_DOWN_KERNELS(any, LoraForm::kAny)
MC_LORA_DOWN_KERNELS(columns, LoraForm::kColumns)
MC_LORA_DOWN_KERNELS(packets, LoraForm::kPackets)
#undef MC_LORA_DOWN_KERNELS
#define MC_LORA_UP_KERNELS(name, in_packets)                                                  \
  MC_KERNEL(lora_up_##name##_1, LoraManyArguments, kLoraUpThreads, 4 * kLoraMaxManyRank * 4,  \
            lora_up<in_packets, 1>);                                                          \
  MC_KERNEL(lora_up_##name##_4, LoraManyArguments, kLoraUpThreads, 16 * kLoraMaxManyRank * 4, \
            lora_up<in_packets, 4>);
MC_LORA_UP_KERNELS(any, false)
MC_LORA_UP_KERNELS(packets, true)
#undef MC_LORA_UP_KERNELS
