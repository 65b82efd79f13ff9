// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What comes between the products of a linear cross entropy: losses of rows of f32 logits, and
// their derivatives by the logits, rounded to the type in which they are multiplied. A group a row.
// In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

MC_FUNCTION int64_t target_of(MC_CONSTANT LossRowsArguments& arguments, int64_t row) {
  return arguments.wide_targets != 0
             ? static_cast<const MC_GLOBAL int64_t*>(arguments.targets)[row]
             : int64_t{static_cast<const MC_GLOBAL int32_t*>(arguments.targets)[row]};
}

MC_FUNCTION const MC_GLOBAL float* logits_of(MC_CONSTANT LossRowsArguments& arguments,
                                             int64_t row) {
  return static_cast<const MC_GLOBAL float*>(arguments.logits) + row * arguments.stride;
}

// A maximum that can be subtracted: of nothing but -infinity, 0.
MC_FUNCTION float finite_base(float max) { return max > -INFINITY ? max : 0.0f; }

// The logarithm of the sum of the row's exponentials, for every thread.
MC_FUNCTION float row_logsumexp(const MC_GLOBAL float* logits, int64_t columns,
                                MC_GROUP float* memory, Thread self) {
  float max = -INFINITY;
  float sum = 0.0f;  // Of exp(x - finite_base(max)).
  const int64_t packets = columns / 4;
  const MC_GLOBAL Packet<float, 4>* row =
      reinterpret_cast<const MC_GLOBAL Packet<float, 4>*>(logits);
  for (int64_t i = self.index; i < packets; i += self.size) {
    const Packet<float, 4> x = row[i];
    const float most = fmaxf(fmaxf(x.values[0], x.values[1]), fmaxf(x.values[2], x.values[3]));
    if (most > max) {
      sum *= expf(max - most);
      max = most;
    }
    for (int j = 0; j < 4; ++j) sum += expf(x.values[j] - finite_base(max));
  }
  for (int64_t i = 4 * packets + self.index; i < columns; i += self.size) {
    const float x = logits[i];
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
// the logits do: they are read some at a time, before anything is written over them.
template <typename T>
MC_FUNCTION void write_gradient(const MC_GLOBAL float* logits, MC_GLOBAL T* gradient,
                                int64_t columns, float logsumexp, int64_t target, float factor,
                                Thread self) {
  constexpr int kAtOnce = 4;
  const int64_t packets = columns / 4;
  const MC_GLOBAL Packet<float, 4>* from =
      reinterpret_cast<const MC_GLOBAL Packet<float, 4>*>(logits);
  MC_GLOBAL Packet<T, 4>* to = reinterpret_cast<MC_GLOBAL Packet<T, 4>*>(gradient);
  for (int64_t start = 0; start < packets; start += int64_t(kAtOnce) * self.size) {
    Packet<float, 4> x[kAtOnce];
    MC_UNROLL
    for (int a = 0; a < kAtOnce; ++a) {
      const int64_t i = start + int64_t(a) * self.size + self.index;
      if (i < packets) x[a] = from[i];
    }
    group_barrier();
    MC_UNROLL
    for (int a = 0; a < kAtOnce; ++a) {
      const int64_t i = start + int64_t(a) * self.size + self.index;
      if (i >= packets) continue;
      Packet<T, 4> y;
      MC_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float p = expf(x[a].values[j] - logsumexp);
        y.values[j] = T((4 * i + j == target ? p - 1.0f : p) * factor);
      }
      to[i] = y;
    }
  }
  const int64_t i = 4 * packets + self.index;
  const float p = i < columns ? expf(logits[i] - logsumexp) : 0.0f;
  group_barrier();
  if (i < columns) gradient[i] = T((i == target ? p - 1.0f : p) * factor);
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
  const MC_GLOBAL float* logits = logits_of(arguments, row);
  const int64_t target = target_of(arguments, row);
  const float logsumexp =
      row_logsumexp(logits, arguments.columns, reinterpret_cast<MC_GROUP float*>(memory), self);
  const bool ignored = target == arguments.ignore_index;
  const bool valid = target >= 0 && target < arguments.columns;
  if (self.index == 0) {
    if (arguments.loss != nullptr) {
      static_cast<MC_GLOBAL float*>(arguments.loss)[row] =
          ignored ? 0.0f : (valid ? logsumexp - logits[target] : NAN);
    }
    if (arguments.logsumexp != nullptr) {
      static_cast<MC_GLOBAL float*>(arguments.logsumexp)[row] = logsumexp;
    }
  }
  if (arguments.gradient == nullptr) return;
  MC_GLOBAL T* gradient =
      static_cast<MC_GLOBAL T*>(arguments.gradient) + row * arguments.gradient_stride;
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
  MC_GLOBAL T* gradient =
      static_cast<MC_GLOBAL T*>(arguments.gradient) + row * arguments.gradient_stride;
  if (target == arguments.ignore_index) {
    zero_gradient(gradient, arguments.columns, self);
    return;
  }
  const float logsumexp = static_cast<const MC_GLOBAL float*>(arguments.logsumexp)[row];
  const float factor = static_cast<const MC_GLOBAL float*>(arguments.dloss)[row];
  const bool valid = target >= 0 && target < arguments.columns;
  write_gradient(logits_of(arguments, row), gradient, arguments.columns, valid ? logsumexp : NAN,
                 target, factor, self);
}
MC_KERNEL(loss_rows_backward_f32, LossRowsArguments, 512, 0, loss_rows_backward<float>);
MC_KERNEL(loss_rows_backward_f16, LossRowsArguments, 512, 0, loss_rows_backward<half>);
MC_KERNEL(loss_rows_backward_bf16, LossRowsArguments, 512, 0, loss_rows_backward<bfloat>);
