// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The threshold of nucleus sampling, given each row sorted. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/scan.h"

// One row a group.
template <typename T>
MC_FUNCTION void top_p(MC_CONSTANT TopPArguments& arguments, MC_GROUP char* memory, Thread self) {
  MC_GROUP float* const shared = reinterpret_cast<MC_GROUP float*>(memory);
  const uint32_t n = arguments.n;
  const MC_GLOBAL T* const x =
      static_cast<const MC_GLOBAL T*>(arguments.x) + int64_t(self.group) * n;
  const MC_GLOBAL T* const sorted =
      static_cast<const MC_GLOBAL T*>(arguments.sorted) + int64_t(self.group) * n;
  MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out);
  const float largest = float(sorted[0]);
  float total = 0.0f;
  for (uint32_t i = self.index; i < n; i += self.size) total += expf(float(x[i]) - largest);
  total = group_sum(total, shared, self);
  if (total != total) {
    if (self.index == 0) out[self.group] = T(INFINITY);
    return;
  }
  const float target = arguments.p * total;
  float before = 0.0f;
  for (uint32_t start = 0; start < n; start += self.size) {
    const uint32_t i = start + self.index;
    const float weight = i < n ? expf(float(sorted[i]) - largest) : 0.0f;
    const Scanned<float> scanned =
        group_scan<Reducer<kReduceSum, float>>(weight, memory + 128, self);
    // How many of these elements have less than `target` before them: those that come first.
    const bool inside = i < n && (before + scanned.before < target || i == 0);
    const float count = group_sum(inside ? 1.0f : 0.0f, shared + 64, self);
    before += scanned.total;
    const uint32_t here = n - start < self.size ? n - start : self.size;
    if (count < float(here) || start + here == n) {
      // With none inside, it is the last of the elements before.
      if (self.index == 0) out[self.group] = sorted[start + uint32_t(count) - 1];
      return;
    }
  }
}
MC_KERNEL(top_p_f32, TopPArguments, 1024, 384, top_p<float>);
MC_KERNEL(top_p_f16, TopPArguments, 1024, 384, top_p<half>);
MC_KERNEL(top_p_bf16, TopPArguments, 1024, 384, top_p<bfloat>);
