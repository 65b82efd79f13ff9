// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// out = base + scale * (x @ a) @ b for a few rows and a small rank, in one launch: every group
// makes x @ a again, which is little, and some columns of the result. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"
#include "metal_candle/backend/gpu/kernels/lora_sums.h"

constexpr MC_CONSTANT uint32_t kLoraMaxThreads = 512;

// One sum over the lanes that agree in `apart`, and which of n it is, beginning with the highest
// bits.
struct LoraSum {
  float value;
  uint32_t index;
  uint32_t bits;  // Of the lane's number, that say which.
};
template <int n, uint32_t bit>
MC_FUNCTION LoraSum lora_sum(LoraSums<n> sums, uint32_t apart, Thread self) {
  if constexpr (n > 1) {
    LoraSum sum = lora_sum<n / 2, bit / 2>(sums.halves(bit, self.lane), apart, self);
    sum.index += (self.lane & bit) != 0 ? n / 2 : 0;
    sum.bits |= bit;
    return sum;
  } else {
    float value = sums.at[0];
    MC_UNROLL
    for (uint32_t b = bit; b > 0; b /= 2) {
      const float other = lane_shuffle_xor(value, b);
      if (b > apart) value += other;
    }
    return {value, 0, apart};
  }
}

// How the matrix a is read, with loads of several steps under way at once: there is not much to
// read, so that waiting for it is what takes the time.
// kAny: element by element, wherever they are.
template <LoraForm form, typename T, int max_rank>
struct LoraDown {
  static constexpr MC_CONSTANT int kSums = max_rank;

  static MC_FUNCTION void add(MC_CONSTANT LoraRowsArguments& arguments, const MC_GLOBAL T* x,
                              MC_THREAD LoraSums<kSums>& sums, Thread self) {
    const MC_GLOBAL T* const a = static_cast<const MC_GLOBAL T*>(arguments.a);
    for (uint32_t i = self.index; i < arguments.depth; i += self.size) {
      const float value = float(x[i]);
      const MC_GLOBAL T* entry = a + i * arguments.a_row_stride;
      MC_UNROLL
      for (int r = 0; r < max_rank; ++r) {
        if (uint32_t(r) < arguments.rank) sums.at[r] = fmaf(value, float(*entry), sums.at[r]);
        entry += arguments.a_column_stride;
      }
    }
  }
};
// Columns are dense, and all that is read is whole packets.
template <typename T, int max_rank>
struct LoraDown<LoraForm::kColumns, T, max_rank> {
  static constexpr MC_CONSTANT int kSums = max_rank;

  static MC_FUNCTION void add(MC_CONSTANT LoraRowsArguments& arguments, const MC_GLOBAL T* x,
                              MC_THREAD LoraSums<kSums>& sums, Thread self) {
    constexpr int kWidth = int(16 / sizeof(T)), kAtOnce = 8;
    const MC_GLOBAL T* const a = static_cast<const MC_GLOBAL T*>(arguments.a);
    for (uint32_t i = self.index * kWidth; i < arguments.depth; i += self.size * kWidth) {
      const Packet<T, kWidth> values = load_packet<T, kWidth>(x + i);
      const MC_GLOBAL T* column = a + i;
      MC_UNROLL
      for (int first = 0; first < max_rank; first += kAtOnce) {
        Packet<T, kWidth> columns[kAtOnce] = {};
        MC_UNROLL
        for (int r = 0; r < kAtOnce; ++r) {
          if (uint32_t(first + r) < arguments.rank) columns[r] = load_packet<T, kWidth>(column);
          column += arguments.a_column_stride;
        }
        MC_UNROLL
        for (int r = 0; r < kAtOnce; ++r) {
          MC_UNROLL
          for (int k = 0; k < kWidth; ++k) {
            sums.at[first + r] =
                fmaf(float(values.values[k]), float(columns[r].values[k]), sums.at[first + r]);
          }
        }
      }
    }
  }
};
// The matrix is dense and its rows are 1, 2 or 4 packets, of which a thread always takes the same.
template <typename T, int max_rank>
struct LoraDown<LoraForm::kPackets, T, max_rank> {
  static constexpr MC_CONSTANT int kSums = int(16 / sizeof(T));

  static MC_FUNCTION void add(MC_CONSTANT LoraRowsArguments& arguments, const MC_GLOBAL T* x,
                              MC_THREAD LoraSums<kSums>& sums, Thread self) {
    constexpr int kAhead = 4;
    const MC_GLOBAL T* const a = static_cast<const MC_GLOBAL T*>(arguments.a);
    const uint32_t of_row = arguments.rank / kSums;
    const uint32_t packets = arguments.depth * of_row;
    const uint32_t shift = of_row / 2;  // 0, 1, 2: its logarithm.
    for (uint32_t i = self.index; i < packets; i += self.size * kAhead) {
      Packet<T, kSums> parts[kAhead] = {};
      float values[kAhead] = {};
      MC_UNROLL
      for (int p = 0; p < kAhead; ++p) {
        const uint32_t packet = i + self.size * p;
        if (packet >= packets) continue;
        values[p] = float(x[packet >> shift]);
        parts[p] = load_packet<T, kSums>(a + packet * kSums);
      }
      MC_UNROLL
      for (int p = 0; p < kAhead; ++p) {
        MC_UNROLL
        for (int k = 0; k < kSums; ++k) {
          sums.at[k] = fmaf(values[p], float(parts[p].values[k]), sums.at[k]);
        }
      }
    }
  }
};

// One row of x a group in y, a column a thread in x. memory: 16 floats a warp. Registers
// for all loads at once matter more than many groups on a multiprocessor.
template <typename T, LoraForm form, int max_rank>
MC_FUNCTION void lora_rows(MC_CONSTANT LoraRowsArguments& arguments, MC_GROUP char* memory,
                           Thread self) {
  constexpr uint32_t kStride = 16;  // Of a warp's sums.
  MC_GROUP float* const parts = reinterpret_cast<MC_GROUP float*>(memory);
  const uint32_t column = self.group * self.size + self.index;
  const bool there = column < arguments.columns;
  const int64_t place = int64_t{self.group_y} * arguments.columns + column;
  // Asked for before it is needed.
  const MC_GLOBAL T* b =
      static_cast<const MC_GLOBAL T*>(arguments.b) + column * arguments.b_column_stride;
  T right[max_rank] = {};
  MC_UNROLL
  for (int r = 0; r < max_rank; ++r) {
    if (there && uint32_t(r) < arguments.rank) right[r] = *b;
    b += arguments.b_row_stride;
  }
  T base = {};
  const bool adds = there && arguments.base != nullptr;
  if (adds) base = static_cast<const MC_GLOBAL T*>(arguments.base)[place];

  using Down = LoraDown<form, T, max_rank>;
  LoraSums<Down::kSums> sums = {};
  Down::add(arguments,
            static_cast<const MC_GLOBAL T*>(arguments.x) + int64_t{self.group_y} * arguments.depth,
            sums, self);
  // In packets, lanes have sums of different columns.
  const uint32_t apart =
      form == LoraForm::kPackets ? arguments.rank / uint32_t(Down::kSums) - 1 : 0;
  const LoraSum mine = lora_sum<Down::kSums, 16>(sums, apart, self);
  if ((self.lane & ~mine.bits) == 0) {
    parts[self.warp * kStride + (self.lane & apart) * Down::kSums + mine.index] = mine.value;
  }
  group_barrier();
  // Every warp adds them up: half of the lanes take half of the warps' sums each.
  float low = 0.0f;
  MC_UNROLL
  for (uint32_t k = 0; k < kLoraMaxThreads / 64; ++k) {
    const uint32_t warp = 2 * k + self.lane / kStride;
    if (warp * 32 < self.size) low += parts[warp * kStride + self.lane % kStride];
  }
  low += lane_shuffle_xor(low, kStride);
  low = float(T(low));  // As a product of its own would be.
  float sum = 0.0f;
  MC_UNROLL
  for (int r = 0; r < max_rank; ++r) {
    const float left = lane_shuffle(low, uint32_t(r));
    // Beyond the rank there may be anything.
    if (uint32_t(r) < arguments.rank) sum = fmaf(left, float(right[r]), sum);
  }
  if (!there) return;
  float y = arguments.scale * sum;
  if (adds) y += float(base);
  static_cast<MC_GLOBAL T*>(arguments.out)[place] = T(y);
}
#define MC_LORA_KERNELS(type, T)                       \
  MC_LORA_KERNEL(type, T, any, LoraForm::kAny)         \
  MC_LORA_KERNEL(type, T, columns, LoraForm::kColumns) \
  MC_LORA_KERNEL(type, T, packets, LoraForm::kPackets)
#define MC_LORA_KERNEL(type, T, name, form)                                               \
  MC_KERNEL_RESIDENT(lora_rows_##name##_8_##type, LoraRowsArguments, kLoraMaxThreads, 1,  \
                     lora_rows<T, form, 8>);                                              \
  MC_KERNEL_RESIDENT(lora_rows_##name##_16_##type, LoraRowsArguments, kLoraMaxThreads, 1, \
                     lora_rows<T, form, 16>);
MC_LORA_KERNELS(f32, float)
MC_LORA_KERNELS(f16, half)
MC_LORA_KERNELS(bf16, bfloat)
#undef MC_LORA_KERNELS
#undef MC_LORA_KERNEL
