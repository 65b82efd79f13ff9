// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What comes between the products of a linear cross entropy: losses of rows of logits, and their
// derivatives by the logits. A group a row, and of so many threads that a multiprocessor has one at
// a time: then what is read twice, all rows at work, fits the second-level cache of an H100. In the
// dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

MC_FUNCTION int64_t target_of(MC_CONSTANT LossRowsArguments& arguments, int64_t row) {
  return arguments.wide_targets != 0
             ? static_cast<const MC_GLOBAL int64_t*>(arguments.targets)[row]
             : int64_t{static_cast<const MC_GLOBAL int32_t*>(arguments.targets)[row]};
}

// A maximum that can be subtracted: of nothing but -infinity, 0.
MC_FUNCTION float finite_base(float max) { return max > -INFINITY ? max : 0.0f; }

constexpr MC_CONSTANT int kLossThreads = 1024;

// exp(x - base), to two units in the last place.
MC_FUNCTION float exp_from(float x, float base) { return fast_exp2((x - base) * 1.44269504f); }

// Packets of a row that a thread reads at once: the first and those that are a group's size apart.
template <typename T>
struct LossPackets {
  static constexpr MC_CONSTANT int kWidth = 16 / sizeof(T);
  static constexpr MC_CONSTANT int kAtOnce = 4;
  Packet<T, kWidth> at[kAtOnce];

  // How often a thread reads, for all packets to be read.
  static MC_FUNCTION int32_t rounds(int32_t packets, Thread self) {
    const int32_t stride = kAtOnce * int32_t(self.size);
    return (packets + stride - 1) / stride;
  }
  static MC_FUNCTION int32_t first(int32_t round, Thread self) {
    return round * kAtOnce * int32_t(self.size) + int32_t(self.index);
  }
  MC_FUNCTION void load(const MC_GLOBAL T* row, int32_t first, int32_t packets, Thread self) {
    const MC_GLOBAL Packet<T, kWidth>* const from =
        reinterpret_cast<const MC_GLOBAL Packet<T, kWidth>*>(row);
    MC_UNROLL
    for (int a = 0; a < kAtOnce; ++a) {
      const int32_t i = first + a * int32_t(self.size);
      if (i < packets) at[a] = from[i];
    }
  }
};

// The logarithm of the sum of the row's exponentials, for every thread.
template <typename T>
MC_FUNCTION float row_logsumexp(const MC_GLOBAL T* logits, int64_t columns, MC_GROUP float* memory,
                                Thread self) {
  typedef LossPackets<T> Packets;
  const int32_t packets = int32_t(columns / Packets::kWidth);
  const int32_t rounds = Packets::rounds(packets, self);
  float max = -INFINITY;
  float sum = 0.0f;  // Of exp(x - finite_base(max)).
  for (int32_t round = 0; round < rounds; ++round) {
    const int32_t first = Packets::first(round, self);
    Packets x;
    x.load(logits, first, packets, self);
    MC_UNROLL
    for (int a = 0; a < Packets::kAtOnce; ++a) {
      if (first + a * int32_t(self.size) >= packets) continue;
      float most = float(x.at[a].values[0]);
      MC_UNROLL
      for (int j = 1; j < Packets::kWidth; ++j) most = fmaxf(most, float(x.at[a].values[j]));
      if (most > max) {
        sum *= exp_from(max, most);
        max = most;
      }
      MC_UNROLL
      for (int j = 0; j < Packets::kWidth; ++j) {
        sum += exp_from(float(x.at[a].values[j]), finite_base(max));
      }
    }
  }
  for (int64_t i = int64_t(Packets::kWidth) * packets + self.index; i < columns; i += self.size) {
    const float x = float(logits[i]);
    if (x > max) {
      sum *= exp_from(max, x);
      max = x;
    }
    sum += exp_from(x, finite_base(max));
  }
  const float base = finite_base(group_max(max, memory, self));
  sum *= exp_from(max, base);
  group_barrier();
  return base + logf(group_sum(sum, memory, self));
}

// gradient[i] = (exp(logits[i] - logsumexp) - [i == target]) * factor. The gradient may lie where
// the logits do: whoever reads one writes the other. From the end on, which of a row that has just
// been read is still in the device's second-level cache.
template <typename T>
MC_FUNCTION void write_gradient(const MC_GLOBAL T* logits, MC_GLOBAL T* gradient, int64_t columns,
                                float logsumexp, int64_t target, float factor, Thread self) {
  typedef LossPackets<T> Packets;
  const int32_t packets = int32_t(columns / Packets::kWidth);
  MC_GLOBAL Packet<T, Packets::kWidth>* const to =
      reinterpret_cast<MC_GLOBAL Packet<T, Packets::kWidth>*>(gradient);
  for (int32_t round = Packets::rounds(packets, self) - 1; round >= 0; --round) {
    const int32_t first = Packets::first(round, self);
    Packets x;
    x.load(logits, first, packets, self);
    MC_UNROLL
    for (int a = 0; a < Packets::kAtOnce; ++a) {
      const int32_t i = first + a * int32_t(self.size);
      if (i >= packets) continue;
      Packet<T, Packets::kWidth> y;
      MC_UNROLL
      for (int j = 0; j < Packets::kWidth; ++j) {
        const float p = exp_from(float(x.at[a].values[j]), logsumexp);
        y.values[j] = T((int64_t(Packets::kWidth) * i + j == target ? p - 1.0f : p) * factor);
      }
      to[i] = y;
    }
  }
  const int64_t i = int64_t(Packets::kWidth) * packets + self.index;
  if (i >= columns) return;
  const float p = exp_from(float(logits[i]), logsumexp);
  gradient[i] = T((i == target ? p - 1.0f : p) * factor);
}

template <typename T>
MC_FUNCTION void zero_gradient(MC_GLOBAL T* gradient, int64_t columns, Thread self) {
  for (int64_t i = self.index; i < columns; i += self.size) gradient[i] = T(0.0f);
}

// A target that is no class gives NaN: the device cannot throw.
template <typename T>
MC_FUNCTION void loss_rows(MC_CONSTANT LossRowsArguments& arguments, MC_GROUP char* memory,
                           Thread self) {
  const int64_t row = self.group;
  const MC_GLOBAL T* logits =
      static_cast<const MC_GLOBAL T*>(arguments.logits) + row * arguments.stride;
  const int64_t target = target_of(arguments, row);
  const float logsumexp =
      row_logsumexp(logits, arguments.columns, reinterpret_cast<MC_GROUP float*>(memory), self);
  const bool ignored = target == arguments.ignore_index;
  const bool valid = target >= 0 && target < arguments.columns;
  if (self.index == 0) {
    if (arguments.loss != nullptr) {
      static_cast<MC_GLOBAL float*>(arguments.loss)[row] =
          ignored ? 0.0f : (valid ? logsumexp - float(logits[target]) : NAN);
    }
    if (arguments.logsumexp != nullptr) {
      static_cast<MC_GLOBAL float*>(arguments.logsumexp)[row] = logsumexp;
    }
  }
  if (arguments.gradient == nullptr) return;
  group_barrier();  // The target's logit has been read.
  MC_GLOBAL T* gradient = static_cast<MC_GLOBAL T*>(arguments.gradient) + row * arguments.stride;
  if (ignored) {
    zero_gradient(gradient, arguments.columns, self);
  } else {
    write_gradient(logits, gradient, arguments.columns, valid ? logsumexp : NAN, target, 1.0f,
                   self);
  }
}
MC_KERNEL(loss_rows_f32, LossRowsArguments, kLossThreads, 128, loss_rows<float>);
MC_KERNEL(loss_rows_f16, LossRowsArguments, kLossThreads, 128, loss_rows<half>);
MC_KERNEL(loss_rows_bf16, LossRowsArguments, kLossThreads, 128, loss_rows<bfloat>);

template <typename T>
MC_FUNCTION void loss_rows_backward(MC_CONSTANT LossRowsArguments& arguments, MC_GROUP char*,
                                    Thread self) {
  const int64_t row = self.group;
  const int64_t target = target_of(arguments, row);
  MC_GLOBAL T* gradient = static_cast<MC_GLOBAL T*>(arguments.gradient) + row * arguments.stride;
  if (target == arguments.ignore_index) {
    zero_gradient(gradient, arguments.columns, self);
    return;
  }
  const float logsumexp = static_cast<const MC_GLOBAL float*>(arguments.logsumexp)[row];
  const float factor = static_cast<const MC_GLOBAL float*>(arguments.dloss)[row];
  const bool valid = target >= 0 && target < arguments.columns;
  write_gradient(static_cast<const MC_GLOBAL T*>(arguments.logits) + row * arguments.stride,
                 gradient, arguments.columns, valid ? logsumexp : NAN, target, factor, self);
}
MC_KERNEL(loss_rows_backward_f32, LossRowsArguments, kLossThreads, 0, loss_rows_backward<float>);
MC_KERNEL(loss_rows_backward_f16, LossRowsArguments, kLossThreads, 0, loss_rows_backward<half>);
MC_KERNEL(loss_rows_backward_bf16, LossRowsArguments, kLossThreads, 0, loss_rows_backward<bfloat>);
