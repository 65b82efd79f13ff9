// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// RMS norm and layer norm over the last axis, and their gradients, in f32. Rows that fit in the
// registers of a group are read once. The gradient of the weight is summed over the rows of each
// group, and over groups afterwards. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/rows.h"

// Weight or bias of the packet at `column`.
template <typename T, int width>
MC_FUNCTION Packet<T, width> load_affine(const MC_GLOBAL void* from, uint32_t column) {
  return load_packet<T, width>(static_cast<const MC_GLOBAL T*>(from) + column);
}

// Both, where there are any, before they are needed. kAhead: else they are loaded then.
template <typename T, int width, bool kAhead>
struct NormAffine {
  Packet<T, width> weight, bias;

  MC_FUNCTION void load(MC_CONSTANT NormArguments& arguments, uint32_t column) {
    if (!kAhead) return;
    if (arguments.weight != nullptr) weight = load_affine<T, width>(arguments.weight, column);
    if (arguments.bias != nullptr) bias = load_affine<T, width>(arguments.bias, column);
  }
};

// (x - mean) * scale * weight + bias of the packet at `column`.
template <typename T, int width, bool kAhead>
MC_FUNCTION void write_normal(MC_CONSTANT NormArguments& arguments, MC_GLOBAL T* out,
                              uint32_t column, Packet<T, width> packet, float mean, float scale,
                              NormAffine<T, width, kAhead> affine) {
  float values[width];
  MC_UNROLL
  for (int i = 0; i < width; ++i) values[i] = (float(packet.values[i]) - mean) * scale;
  if (arguments.weight != nullptr) {
    if (!kAhead) affine.weight = load_affine<T, width>(arguments.weight, column);
    MC_UNROLL
    for (int i = 0; i < width; ++i) values[i] *= float(affine.weight.values[i]);
  }
  if (arguments.bias != nullptr) {
    if (!kAhead) affine.bias = load_affine<T, width>(arguments.bias, column);
    MC_UNROLL
    for (int i = 0; i < width; ++i) values[i] += float(affine.bias.values[i]);
  }
  MC_UNROLL
  for (int i = 0; i < width; ++i) packet.values[i] = T(values[i]);
  store_packet(out + column, packet);
}

template <typename T, int width, int count, bool whole_group>
MC_FUNCTION void norm_rows(MC_CONSTANT NormArguments& arguments, MC_GROUP char* memory,
                           Thread self) {
  const RowTeam<whole_group> team(self, memory, arguments.team_shift);
  const bool there = team.row < arguments.rows;
  const uint32_t n = there ? arguments.n : 0;
  RowPart<T, width, count> x;
  x.load(static_cast<const MC_GLOBAL T*>(arguments.x) +
             (there ? row_offset(arguments.map, team.row) : 0),
         n, team.index, team.size);
  // Of few rows nothing should be waited for twice. Of many, registers for more of them are better.
  constexpr bool kAhead = count * width <= 8;
  NormAffine<T, width, kAhead> affine[count];
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    const uint32_t column = (p * team.size + team.index) * width;
    if (column < n) affine[p].load(arguments, column);
  }
  const float share = 1.0f / float(n);  // While the row is on its way.
  float mean = 0.0f;
  if (arguments.layer != 0) {
    float sum = 0.0f;
    MC_UNROLL
    for (int p = 0; p < count; ++p) {
      MC_UNROLL
      for (int i = 0; i < width; ++i) sum += x.get(p, i);
    }
    mean = team.sum(sum, 0) * share;
  }
  float squares = 0.0f;
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    if ((p * team.size + team.index) * width >= n) continue;
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      const float centred = x.get(p, i) - mean;
      squares = fmaf(centred, centred, squares);
    }
  }
  squares = team.sum(squares, 1);
  if (!there) return;
  const float scale = rsqrtf(fmaf(squares, share, arguments.eps));
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out) + int64_t(team.row) * n;
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    const uint32_t column = (p * team.size + team.index) * width;
    if (column < n) write_normal(arguments, out, column, x.packets[p], mean, scale, affine[p]);
  }
}
MC_ROW_KERNELS(norm_rows, NormArguments, 1024, 8, norm_rows)
MC_ROW_KERNELS(norm_rows, NormArguments, 1024, 16, norm_rows)
MC_ROW_KERNELS(norm_rows, NormArguments, 1024, 32, norm_rows)

// Rows that do not fit in registers are read again in each pass, by a group each.
template <typename T>
MC_FUNCTION void norm_long_rows(MC_CONSTANT NormArguments& arguments, MC_GROUP char* memory,
                                Thread self) {
  MC_GROUP float* const shared = reinterpret_cast<MC_GROUP float*>(memory);
  const uint32_t n = arguments.n;
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.map, self.group);
  float mean = 0.0f;
  if (arguments.layer != 0) {
    float sum = 0.0f;
    for (uint32_t i = self.index; i < n; i += self.size) sum += float(x[i]);
    mean = group_sum(sum, shared, self) / float(n);
  }
  float squares = 0.0f;
  for (uint32_t i = self.index; i < n; i += self.size) {
    const float centred = float(x[i]) - mean;
    squares = fmaf(centred, centred, squares);
  }
  squares = group_sum(squares, shared + 32, self);
  const float scale = 1.0f / sqrtf(squares / float(n) + arguments.eps);
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out) + int64_t(self.group) * n;
  for (uint32_t i = self.index; i < n; i += self.size) {
    const NormAffine<T, 1, false> here{};
    write_normal(arguments, out, i, load_packet<T, 1>(x + i), mean, scale, here);
  }
}

// With g = weight * dy: dx = scale * (g - mean(g) - (x - mean) scale^2 mean(g (x - mean))), where
// mean(g) is left out for RMS norm, which subtracts no mean.
struct NormBackwardSums {
  float squares, g, product;  // Of (x - mean)^2, g, and g (x - mean).
};
struct NormBackwardRow {
  float mean, scale, shift, slope;

  MC_FUNCTION NormBackwardRow(MC_CONSTANT NormBackwardArguments& arguments, float mean_of_x,
                              NormBackwardSums sums)
      : mean(mean_of_x) {
    const float length = float(arguments.n);
    scale = 1.0f / sqrtf(sums.squares / length + arguments.eps);
    shift = arguments.layer != 0 ? sums.g / length : 0.0f;
    slope = scale * scale * (sums.product / length);
  }
  MC_FUNCTION float dx(float x, float g) const {
    return scale * (fmaf(mean - x, slope, g) - shift);
  }
  MC_FUNCTION float dweight(float x, float dy) const { return (x - mean) * scale * dy; }
};

// The sums over the group. memory: 96 floats.
MC_FUNCTION NormBackwardSums group_sums(NormBackwardSums sums, MC_GROUP float* memory,
                                        Thread self) {
  sums = {lane_sum(sums.squares), lane_sum(sums.g), lane_sum(sums.product)};
  if (self.size == 32) return sums;
  if (self.lane == 0) {
    memory[self.warp] = sums.squares;
    memory[32 + self.warp] = sums.g;
    memory[64 + self.warp] = sums.product;
  }
  group_barrier();
  const bool there = self.lane < self.size / 32;
  return {lane_sum(there ? memory[self.lane] : 0.0f),
          lane_sum(there ? memory[32 + self.lane] : 0.0f),
          lane_sum(there ? memory[64 + self.lane] : 0.0f)};
}

// A group takes every self.groups-th row.
template <typename T, int width, int count, bool wants_dweight>
MC_FUNCTION void norm_backward(MC_CONSTANT NormBackwardArguments& arguments, MC_GROUP char* memory,
                               Thread self) {
  MC_GROUP float* const shared = reinterpret_cast<MC_GROUP float*>(memory);
  const MC_GLOBAL T* const weight = static_cast<const MC_GLOBAL T*>(arguments.weight);
  const uint32_t n = arguments.n;
  float dweight[count * width];
  MC_UNROLL
  for (int i = 0; i < count * width; ++i) dweight[i] = 0.0f;
  uint32_t turn = 0;
  for (uint32_t row = self.group; row < arguments.rows; row += self.groups) {
    // All that is read is asked for before anything waits.
    RowPart<T, width, count> x, dy, w, residual;
    x.load(static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.x_map, row), n,
           self.index, self.size);
    dy.load(static_cast<const MC_GLOBAL T*>(arguments.dy) + row_offset(arguments.dy_map, row), n,
            self.index, self.size);
    if (weight != nullptr) w.load(weight, n, self.index, self.size);
    if (arguments.residual != nullptr) {
      residual.load(static_cast<const MC_GLOBAL T*>(arguments.residual) + int64_t(row) * n, n,
                    self.index, self.size);
    }
    float mean = 0.0f;
    if (arguments.layer != 0) {
      float sum = 0.0f;
      MC_UNROLL
      for (int p = 0; p < count; ++p) {
        MC_UNROLL
        for (int i = 0; i < width; ++i) sum += x.get(p, i);
      }
      mean = group_sum(sum, shared, self) / float(n);
    }
    NormBackwardSums sums = {0.0f, 0.0f, 0.0f};
    MC_UNROLL
    for (int p = 0; p < count; ++p) {
      const uint32_t column = (p * self.size + self.index) * width;
      if (column >= n) continue;
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        const float g = dy.get(p, i) * (weight != nullptr ? w.get(p, i) : 1.0f);
        const float centred = x.get(p, i) - mean;
        sums.squares = fmaf(centred, centred, sums.squares);
        sums.g += g;
        sums.product = fmaf(g, centred, sums.product);
      }
    }
    // Two places in turn: what one row reads, the next does not write over.
    sums = group_sums(sums, shared + 32 + 96 * turn, self);
    turn ^= 1;
    const NormBackwardRow values(arguments, mean, sums);
    MC_UNROLL
    for (int p = 0; p < count; ++p) {
      const uint32_t column = (p * self.size + self.index) * width;
      if (column >= n) continue;
      Packet<T, width> dx;
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        const float g = dy.get(p, i) * (weight != nullptr ? w.get(p, i) : 1.0f);
        if (wants_dweight) dweight[p * width + i] += values.dweight(x.get(p, i), dy.get(p, i));
        float y = values.dx(x.get(p, i), g);
        if (arguments.residual != nullptr) y += residual.get(p, i);
        dx.values[i] = T(y);
      }
      if (arguments.dx != nullptr) {
        store_packet(static_cast<MC_GLOBAL T*>(arguments.dx) + int64_t(row) * n + column, dx);
      }
    }
  }
  if (!wants_dweight) return;
  MC_GLOBAL float* const parts = arguments.dweight_parts + int64_t(self.group) * n;
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      const uint32_t column = (p * self.size + self.index) * width + i;
      if (column < n) parts[column] = dweight[p * width + i];
    }
  }
}

// The same of rows that do not fit in registers.
template <typename T>
MC_FUNCTION void norm_backward_long_rows(MC_CONSTANT NormBackwardArguments& arguments,
                                         MC_GROUP char* memory, Thread self) {
  MC_GROUP float* const shared = reinterpret_cast<MC_GROUP float*>(memory);
  const MC_GLOBAL T* const weight = static_cast<const MC_GLOBAL T*>(arguments.weight);
  const uint32_t n = arguments.n;
  MC_GLOBAL float* const parts =
      arguments.dweight_parts + (arguments.dweight_parts == nullptr ? 0 : int64_t(self.group) * n);
  uint32_t turn = 0;
  for (uint32_t row = self.group; row < arguments.rows; row += self.groups) {
    const MC_GLOBAL T* const x =
        static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.x_map, row);
    const MC_GLOBAL T* const dy =
        static_cast<const MC_GLOBAL T*>(arguments.dy) + row_offset(arguments.dy_map, row);
    MC_GLOBAL T* const dx = static_cast<MC_GLOBAL T*>(arguments.dx);
    float mean = 0.0f;
    if (arguments.layer != 0) {
      float sum = 0.0f;
      for (uint32_t i = self.index; i < n; i += self.size) sum += float(x[i]);
      mean = group_sum(sum, shared, self) / float(n);
    }
    NormBackwardSums sums = {0.0f, 0.0f, 0.0f};
    for (uint32_t i = self.index; i < n; i += self.size) {
      const float g = float(dy[i]) * (weight != nullptr ? float(weight[i]) : 1.0f);
      const float centred = float(x[i]) - mean;
      sums.squares = fmaf(centred, centred, sums.squares);
      sums.g += g;
      sums.product = fmaf(g, centred, sums.product);
    }
    sums = group_sums(sums, shared + 32 + 96 * turn, self);
    turn ^= 1;
    const NormBackwardRow values(arguments, mean, sums);
    for (uint32_t i = self.index; i < n; i += self.size) {
      const float x_i = float(x[i]), dy_i = float(dy[i]);
      if (arguments.dweight_parts != nullptr) {
        parts[i] = values.dweight(x_i, dy_i) + (row == self.group ? 0.0f : parts[i]);
      }
      if (dx != nullptr) {
        const float g = dy_i * (weight != nullptr ? float(weight[i]) : 1.0f);
        float y = values.dx(x_i, g);
        if (arguments.residual != nullptr) {
          y += float(static_cast<const MC_GLOBAL T*>(arguments.residual)[int64_t(row) * n + i]);
        }
        dx[int64_t(row) * n + i] = T(y);
      }
    }
  }
}

#define MC_NORM_BACKWARD_KERNELS(name, T, width, elements)                 \
  MC_KERNEL(norm_backward_##name, NormBackwardArguments, 512, 896,         \
            norm_backward<T, width, elements / width, false>);             \
  MC_KERNEL(norm_backward_dweight_##name, NormBackwardArguments, 512, 896, \
            norm_backward<T, width, elements / width, true>);
#define MC_NORM_KERNELS(type, T, width)                                          \
  MC_KERNEL(norm_long_rows_##type, NormArguments, 1024, 256, norm_long_rows<T>); \
  MC_NORM_BACKWARD_KERNELS(type##_8, T, width, 8)                                \
  MC_NORM_BACKWARD_KERNELS(type##_16, T, width, 16)                              \
  MC_NORM_BACKWARD_KERNELS(type##_8_unaligned, T, 1, 8)                          \
  MC_NORM_BACKWARD_KERNELS(type##_16_unaligned, T, 1, 16)                        \
  MC_KERNEL(norm_backward_long_rows_##type, NormBackwardArguments, 1024, 896,    \
            norm_backward_long_rows<T>);
MC_NORM_KERNELS(f32, float, 4)
MC_NORM_KERNELS(f16, half, 8)
MC_NORM_KERNELS(bf16, bfloat, 8)
