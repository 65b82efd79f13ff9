// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What comes between the products of a linear cross entropy: losses of rows of logits, and their
// derivatives by the logits. A group a row. In the dialect of dialect.h.
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

// The logarithm of the sum of the row's exponentials, for every thread.
template <typename T>
MC_FUNCTION float row_logsumexp(const MC_GLOBAL T* logits, int64_t columns, MC_GROUP float* memory,
                                Thread self) {
  constexpr int kWidth = 16 / sizeof(T);
  float max = -INFINITY;
  float sum = 0.0f;  // Of exp(x - finite_base(max)).
  const int64_t packets = columns / kWidth;
  const MC_GLOBAL Packet<T, kWidth>* row =
      reinterpret_cast<const MC_GLOBAL Packet<T, kWidth>*>(logits);
  for (int64_t i = self.index; i < packets; i += self.size) {
    const Packet<T, kWidth> x = row[i];
    float most = float(x.values[0]);
    MC_UNROLL
    for (int j = 1; j < kWidth; ++j) most = fmaxf(most, float(x.values[j]));
    if (most > max) {
      sum *= expf(max - most);
      max = most;
    }
    MC_UNROLL
    for (int j = 0; j < kWidth; ++j) sum += expf(float(x.values[j]) - finite_base(max));
  }
  for (int64_t i = kWidth * packets + self.index; i < columns; i += self.size) {
    const float x = float(logits[i]);
    if (x > max) {
      sum *= expf(max - x);
      max = x;
    }
    sum += expf(x - finite_base(max));
  }
  const float base = finite_base(group_max(max, memory, self));
  sum *= expf(max - base);
  group_barrier();
  return base + logf(group_sum(sum, memory, self));
}

// gradient[i] = (exp(logits[i] - logsumexp) - [i == target]) * factor. The gradient may lie where
// the logits do: whoever reads one writes the other.
template <typename T>
MC_FUNCTION void write_gradient(const MC_GLOBAL T* logits, MC_GLOBAL T* gradient, int64_t columns,
                                float logsumexp, int64_t target, float factor, Thread self) {
  constexpr int kAtOnce = 4;
  constexpr int kWidth = 16 / sizeof(T);
  const int64_t packets = columns / kWidth;
  const MC_GLOBAL Packet<T, kWidth>* from =
      reinterpret_cast<const MC_GLOBAL Packet<T, kWidth>*>(logits);
  MC_GLOBAL Packet<T, kWidth>* to = reinterpret_cast<MC_GLOBAL Packet<T, kWidth>*>(gradient);
  for (int64_t start = self.index; start < packets; start += int64_t(kAtOnce) * self.size) {
    Packet<T, kWidth> x[kAtOnce];
    MC_UNROLL
    for (int a = 0; a < kAtOnce; ++a) {
      const int64_t i = start + int64_t(a) * self.size;
      if (i < packets) x[a] = from[i];
    }
    MC_UNROLL
    for (int a = 0; a < kAtOnce; ++a) {
      const int64_t i = start + int64_t(a) * self.size;
      if (i >= packets) continue;
      Packet<T, kWidth> y;
      MC_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const float p = expf(float(x[a].values[j]) - logsumexp);
        y.values[j] = T((kWidth * i + j == target ? p - 1.0f : p) * factor);
      }
      to[i] = y;
    }
  }
  const int64_t i = kWidth * packets + self.index;
  if (i >= columns) return;
  const float p = expf(float(logits[i]) - logsumexp);
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
MC_KERNEL(loss_rows_f32, LossRowsArguments, 512, 128, loss_rows<float>);
MC_KERNEL(loss_rows_f16, LossRowsArguments, 512, 128, loss_rows<half>);
MC_KERNEL(loss_rows_bf16, LossRowsArguments, 512, 128, loss_rows<bfloat>);

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
MC_KERNEL(loss_rows_backward_f32, LossRowsArguments, 512, 0, loss_rows_backward<float>);
MC_KERNEL(loss_rows_backward_f16, LossRowsArguments, 512, 0, loss_rows_backward<half>);
MC_KERNEL(loss_rows_backward_bf16, LossRowsArguments, 512, 0, loss_rows_backward<bfloat>);
