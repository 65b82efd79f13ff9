// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Softmax, log-softmax and log-sum-exp, and the gradient of softmax, in f32. Rows that fit in the
// registers of a group are read once; longer ones are cut in chunks, for statistics and then for
// the output. In the dialect of dialect.h.
//
// Softmax and log-softmax of a row that is -infinity throughout, or has an infinity, are NaN.
#pragma once

#include "metal_candle/backend/gpu/kernels/rows.h"
#include "metal_candle/backend/gpu/kernels/shifted_sum.h"

// Softmax is exp(x - largest) * factor, log-softmax (x - largest) * factor + term.
struct SoftmaxFinish {
  float factor, term;
};
MC_FUNCTION SoftmaxFinish softmax_finish(float sum, bool logarithm) {
  if (logarithm) return {1.0f, -logf(sum)};
  return {1.0f / sum, 0.0f};
}
// The same of sums that do not show that an infinity was there.
MC_FUNCTION SoftmaxFinish softmax_finish(ShiftedSum s, bool logarithm) {
  return softmax_finish(finite_or_zero(s.largest) == s.largest ? s.sum : NAN, logarithm);
}

template <typename T, int width, int count, bool whole_group>
MC_FUNCTION void softmax_rows(MC_CONSTANT SoftmaxArguments& arguments, MC_GROUP char* memory,
                              Thread self) {
  const RowTeam<whole_group> team(self, memory, arguments.team_shift);
  const bool there = team.row < arguments.rows;
  const uint32_t n = there ? arguments.n : 0;
  RowPart<T, width, count> part;
  part.load(static_cast<const MC_GLOBAL T*>(arguments.x) +
                (there ? row_offset(arguments.map, team.row) : 0),
            n, team.index, team.size);
  float values[count * width];
  float largest = -INFINITY;
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    const bool inside = (p * team.size + team.index) * width < n;
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      values[p * width + i] = inside ? part.get(p, i) : -INFINITY;
      largest = fmaxf(largest, values[p * width + i]);
    }
  }
  largest = team.max(largest, 0);
  const bool only_sum = arguments.mode == SoftmaxMode::kLogSumExp;
  const bool logarithm = arguments.mode == SoftmaxMode::kLogSoftmax;
  const float shift = only_sum ? finite_or_zero(largest) : largest;
  float sum = 0.0f;
  MC_UNROLL
  for (int i = 0; i < count * width; ++i) {
    const float shifted = values[i] - shift;
    const float e = exp_for<T>(shifted);
    sum += e;
    values[i] = logarithm ? shifted : e;
  }
  sum = team.sum(sum, 1);
  if (!there) return;
  if (only_sum) {
    if (team.index == 0) static_cast<MC_GLOBAL T*>(arguments.out)[team.row] = T(shift + logf(sum));
    return;
  }
  const SoftmaxFinish finish = softmax_finish(sum, logarithm);
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out) + int64_t(team.row) * n;
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    const uint32_t column = (p * team.size + team.index) * width;
    if (column >= n) continue;
    Packet<T, width> packet;
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      packet.values[i] = T(fmaf(values[p * width + i], finish.factor, finish.term));
    }
    store_packet(out + column, packet);
  }
}
MC_ROW_KERNELS(softmax_rows, SoftmaxArguments, 1024, 8, softmax_rows)
MC_ROW_KERNELS(softmax_rows, SoftmaxArguments, 1024, 16, softmax_rows)
MC_ROW_KERNELS(softmax_rows, SoftmaxArguments, 1024, 32, softmax_rows)

// The partial sum of one chunk of one row.
template <typename T, int width>
MC_FUNCTION void softmax_chunk_sums(MC_CONSTANT SoftmaxArguments& arguments, MC_GROUP char* memory,
                                    Thread self) {
  const uint32_t row = self.group / arguments.chunks;
  const uint32_t begin = self.group % arguments.chunks * arguments.chunk;
  const uint32_t end =
      begin + arguments.chunk < arguments.n ? begin + arguments.chunk : arguments.n;
  const ShiftedSum sum =
      group_combine(sum_columns<T, width>(static_cast<const MC_GLOBAL T*>(arguments.x) +
                                              row_offset(arguments.map, row),
                                          begin, end, self),
                    memory, self);
  if (self.index == 0) {
    reinterpret_cast<MC_GLOBAL ShiftedSum*>(arguments.partials)[self.group] = sum;
  }
}

// The output of one chunk of one row.
template <typename T, int width>
MC_FUNCTION void softmax_chunks(MC_CONSTANT SoftmaxArguments& arguments, MC_GROUP char*,
                                Thread self) {
  const uint32_t row = self.group / arguments.chunks;
  const uint32_t begin = self.group % arguments.chunks * arguments.chunk;
  const uint32_t end =
      begin + arguments.chunk < arguments.n ? begin + arguments.chunk : arguments.n;
  const bool logarithm = arguments.mode == SoftmaxMode::kLogSoftmax;
  const ShiftedSum sum = sum_of_chunks(arguments.partials, row, arguments.chunks, self);
  const SoftmaxFinish finish = softmax_finish(sum, logarithm);
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + row_offset(arguments.map, row);
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out) + int64_t(row) * arguments.n;
  for (uint32_t column = begin + self.index * width; column < end; column += self.size * width) {
    Packet<T, width> packet = load_packet<T, width>(x + column);
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      const float shifted = float(packet.values[i]) - sum.largest;
      packet.values[i] =
          T(fmaf(logarithm ? shifted : exp_for<T>(shifted), finish.factor, finish.term));
    }
    store_packet(out + column, packet);
  }
}

// Log-sum-exp of one row a warp.
template <typename T>
MC_FUNCTION void log_sum_exp_chunks(MC_CONSTANT SoftmaxArguments& arguments, MC_GROUP char*,
                                    Thread self) {
  const uint32_t row = self.group;
  const ShiftedSum sum = sum_of_chunks(arguments.partials, row, arguments.chunks, self);
  if (self.index == 0) static_cast<MC_GLOBAL T*>(arguments.out)[row] = T(log(sum));
}

template <typename T>
MC_FUNCTION void softmax_columns(MC_CONSTANT SoftmaxColumnsArguments& arguments,
                                 MC_GROUP char* memory, Thread self) {
  const ColumnTile tile(arguments.columns, arguments.tile_shift, self);
  const MC_GLOBAL T* const x = static_cast<const MC_GLOBAL T*>(arguments.x) +
                               row_offset(arguments.x_map, tile.outer) + tile.column;
  const uint32_t n = tile.there ? arguments.n : 0;
  ShiftedSum sum = empty_shifted_sum();
  for (uint32_t i = tile.first; i < n; i += 4 * tile.down) {
    float values[4];
    float largest = sum.largest;
    MC_UNROLL
    for (int p = 0; p < 4; ++p) {
      const uint32_t at = i + p * tile.down;
      values[p] = at < n ? float(x[at * arguments.x_stride]) : -INFINITY;
    }
    MC_UNROLL
    for (int p = 0; p < 4; ++p) largest = fmaxf(largest, values[p]);
    sum.sum *= shift_factor(sum.largest, largest);
    sum.largest = largest;
    MC_UNROLL
    for (int p = 0; p < 4; ++p) sum.sum += expf(values[p] - finite_or_zero(largest));
  }
  MC_GROUP ShiftedSum* const shared = reinterpret_cast<MC_GROUP ShiftedSum*>(memory);
  shared[self.index] = sum;
  for (uint32_t reach = self.size / 2; reach >= self.size / tile.down; reach /= 2) {
    group_barrier();
    if (self.index < reach) {
      shared[self.index] = combine(shared[self.index], shared[self.index + reach]);
    }
  }
  group_barrier();
  sum = shared[self.index & ((1u << arguments.tile_shift) - 1)];
  if (!tile.there) return;
  if (arguments.mode == SoftmaxMode::kLogSumExp) {
    if (tile.first == 0) {
      static_cast<MC_GLOBAL T*>(arguments.out)[tile.outer * arguments.columns + tile.column] =
          T(log(sum));
    }
    return;
  }
  const bool logarithm = arguments.mode == SoftmaxMode::kLogSoftmax;
  const SoftmaxFinish finish = softmax_finish(sum, logarithm);
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out) +
                           row_offset(arguments.out_map, tile.outer) + tile.column;
  for (uint32_t i = tile.first; i < n; i += tile.down) {
    const float shifted = float(x[i * arguments.x_stride]) - sum.largest;
    out[i * arguments.out_stride] =
        T(fmaf(logarithm ? shifted : exp_for<T>(shifted), finish.factor, finish.term));
  }
}

template <typename T, int width, int count, bool whole_group>
MC_FUNCTION void softmax_backward_rows(MC_CONSTANT SoftmaxBackwardArguments& arguments,
                                       MC_GROUP char* memory, Thread self) {
  const RowTeam<whole_group> team(self, memory, arguments.team_shift);
  const bool there = team.row < arguments.rows;
  const uint32_t n = there ? arguments.n : 0;
  RowPart<T, width, count> y, dy;
  y.load(static_cast<const MC_GLOBAL T*>(arguments.y) +
             (there ? row_offset(arguments.y_map, team.row) : 0),
         n, team.index, team.size);
  dy.load(static_cast<const MC_GLOBAL T*>(arguments.dy) +
              (there ? row_offset(arguments.dy_map, team.row) : 0),
          n, team.index, team.size);
  float dot = 0.0f;
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    MC_UNROLL
    for (int i = 0; i < width; ++i) dot = fmaf(y.get(p, i), dy.get(p, i), dot);
  }
  dot = team.sum(dot, 0);
  if (!there) return;
  MC_GLOBAL T* const dx = static_cast<MC_GLOBAL T*>(arguments.dx) + int64_t(team.row) * n;
  MC_UNROLL
  for (int p = 0; p < count; ++p) {
    const uint32_t column = (p * team.size + team.index) * width;
    if (column >= n) continue;
    Packet<T, width> packet;
    MC_UNROLL
    for (int i = 0; i < width; ++i) packet.values[i] = T(y.get(p, i) * (dy.get(p, i) - dot));
    store_packet(dx + column, packet);
  }
}
MC_ROW_KERNELS(softmax_backward_rows, SoftmaxBackwardArguments, 1024, 8, softmax_backward_rows)
MC_ROW_KERNELS(softmax_backward_rows, SoftmaxBackwardArguments, 1024, 16, softmax_backward_rows)

// Rows that do not fit in registers are read twice, by a group each.
template <typename T>
MC_FUNCTION void softmax_backward_long_rows(MC_CONSTANT SoftmaxBackwardArguments& arguments,
                                            MC_GROUP char* memory, Thread self) {
  const uint32_t n = arguments.n;
  const MC_GLOBAL T* const y =
      static_cast<const MC_GLOBAL T*>(arguments.y) + row_offset(arguments.y_map, self.group);
  const MC_GLOBAL T* const dy =
      static_cast<const MC_GLOBAL T*>(arguments.dy) + row_offset(arguments.dy_map, self.group);
  MC_GLOBAL T* const dx = static_cast<MC_GLOBAL T*>(arguments.dx) + int64_t(self.group) * n;
  float dot = 0.0f;
  for (uint32_t i = self.index; i < n; i += self.size) {
    dot = fmaf(float(y[i]), float(dy[i]), dot);
  }
  dot = group_sum(dot, reinterpret_cast<MC_GROUP float*>(memory), self);
  for (uint32_t i = self.index; i < n; i += self.size) {
    dx[i] = T(float(y[i]) * (float(dy[i]) - dot));
  }
}

template <typename T>
MC_FUNCTION void softmax_backward_columns(MC_CONSTANT SoftmaxColumnsArguments& arguments,
                                          MC_GROUP char* memory, Thread self) {
  const ColumnTile tile(arguments.columns, arguments.tile_shift, self);
  const MC_GLOBAL T* const y = static_cast<const MC_GLOBAL T*>(arguments.x) +
                               row_offset(arguments.x_map, tile.outer) + tile.column;
  const MC_GLOBAL T* const dy = static_cast<const MC_GLOBAL T*>(arguments.dy) +
                                row_offset(arguments.dy_map, tile.outer) + tile.column;
  const uint32_t n = tile.there ? arguments.n : 0;
  float dot = 0.0f;
  for (uint32_t i = tile.first; i < n; i += tile.down) {
    dot = fmaf(float(y[i * arguments.x_stride]), float(dy[i * arguments.dy_stride]), dot);
  }
  MC_GROUP float* const shared = reinterpret_cast<MC_GROUP float*>(memory);
  shared[self.index] = dot;
  for (uint32_t reach = self.size / 2; reach >= self.size / tile.down; reach /= 2) {
    group_barrier();
    if (self.index < reach) shared[self.index] += shared[self.index + reach];
  }
  group_barrier();
  dot = shared[self.index & ((1u << arguments.tile_shift) - 1)];
  MC_GLOBAL T* const dx = static_cast<MC_GLOBAL T*>(arguments.out) +
                          row_offset(arguments.out_map, tile.outer) + tile.column;
  for (uint32_t i = tile.first; i < n; i += tile.down) {
    dx[i * arguments.out_stride] =
        T(float(y[i * arguments.x_stride]) * (float(dy[i * arguments.dy_stride]) - dot));
  }
}

#define MC_SOFTMAX_KERNELS(type, T, width)                                                        \
  MC_KERNEL(softmax_chunk_sums_##type, SoftmaxArguments, 512, 256, softmax_chunk_sums<T, width>); \
  MC_KERNEL(softmax_chunk_sums_##type##_unaligned, SoftmaxArguments, 512, 256,                    \
            softmax_chunk_sums<T, 1>);                                                            \
  MC_KERNEL(softmax_chunks_##type, SoftmaxArguments, 512, 0, softmax_chunks<T, width>);           \
  MC_KERNEL(softmax_chunks_##type##_unaligned, SoftmaxArguments, 512, 0, softmax_chunks<T, 1>);   \
  MC_KERNEL(log_sum_exp_chunks_##type, SoftmaxArguments, 32, 0, log_sum_exp_chunks<T>);           \
  MC_KERNEL(softmax_columns_##type, SoftmaxColumnsArguments, 256, 2048, softmax_columns<T>);      \
  MC_KERNEL(softmax_backward_long_rows_##type, SoftmaxBackwardArguments, 1024, 128,               \
            softmax_backward_long_rows<T>);                                                       \
  MC_KERNEL(softmax_backward_columns_##type, SoftmaxColumnsArguments, 256, 1024,                  \
            softmax_backward_columns<T>);
MC_SOFTMAX_KERNELS(f32, float, 4)
MC_SOFTMAX_KERNELS(f16, half, 8)
MC_SOFTMAX_KERNELS(bf16, bfloat, 8)
