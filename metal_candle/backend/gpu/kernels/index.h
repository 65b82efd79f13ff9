// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading and adding at indices along one axis of a tensor seen as [outer, length, inner]. Negative
// indices count from the end. What an index out of range would read is 0, and what it would add to
// nothing. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

// Index i, in [0, length); -1 if it is out of range.
MC_FUNCTION int64_t read_index(MC_CONSTANT IndexArguments& a, int64_t i) {
  int64_t index = a.wide_indices != 0 ? static_cast<const MC_GLOBAL int64_t*>(a.indices)[i]
                                      : static_cast<const MC_GLOBAL int32_t*>(a.indices)[i];
  index += index < 0 ? a.length : 0;
  return index >= 0 && index < a.length ? index : -1;
}

// Packet i of N elements of the rows that the indices name, [outer, count, inner].
template <typename T, int N, bool kAligned>
MC_FUNCTION void take_packet(MC_CONSTANT IndexArguments& a, int64_t i) {
  const int64_t packets = a.inner / N;
  const int64_t row = i / packets;
  const int64_t column = (i - row * packets) * N;
  const int64_t outer = row / a.count;
  const int64_t index = read_index(a, row - outer * a.count);
  Packet<T, N> packet = {};
  if (index >= 0) {
    packet = load_packet<N, kAligned>(static_cast<const MC_GLOBAL T*>(a.x) +
                                      (outer * a.length + index) * a.inner + column);
  }
  store_packet<kAligned>(static_cast<MC_GLOBAL T*>(a.out) + i * N, packet);
}

template <typename T, int N>
MC_FUNCTION void take(MC_CONSTANT IndexArguments& a, MC_GROUP char*, Thread self) {
  const int64_t i = int64_t(self.group) * self.size + self.index;
  if (i >= a.outer * a.count * (a.inner / N)) return;
  if (N > 1 && is_aligned(a.x, N * sizeof(T)) && is_aligned(a.out, N * sizeof(T))) {
    take_packet<T, N, true>(a, i);
  } else {
    take_packet<T, N, false>(a, i);
  }
}
MC_KERNEL(take_u8, IndexArguments, 256, 0, take<uint8_t, 1>);
MC_KERNEL(take_u16, IndexArguments, 256, 0, take<uint16_t, 1>);
MC_KERNEL(take_u32, IndexArguments, 256, 0, take<uint32_t, 1>);
MC_KERNEL(take_u64, IndexArguments, 256, 0, take<uint64_t, 1>);
MC_KERNEL(take_packets_u8, IndexArguments, 256, 0, take<uint8_t, 16>);
MC_KERNEL(take_packets_u16, IndexArguments, 256, 0, take<uint16_t, 8>);
MC_KERNEL(take_packets_u32, IndexArguments, 256, 0, take<uint32_t, 4>);
MC_KERNEL(take_packets_u64, IndexArguments, 256, 0, take<uint64_t, 2>);

// out[o, j, c] = x[o, indices[o, j, c], c].
template <typename T>
MC_FUNCTION void take_along_axis(MC_CONSTANT IndexArguments& a, MC_GROUP char*, Thread self) {
  const int64_t i = int64_t(self.group) * self.size + self.index;
  if (i >= a.outer * a.count * a.inner) return;
  const int64_t row = i / a.inner;
  const int64_t column = i - row * a.inner;
  const int64_t index = read_index(a, i);
  T value = T(0);
  if (index >= 0) {
    value =
        static_cast<const MC_GLOBAL T*>(a.x)[(row / a.count * a.length + index) * a.inner + column];
  }
  static_cast<MC_GLOBAL T*>(a.out)[i] = value;
}
MC_KERNEL(take_along_axis_u8, IndexArguments, 256, 0, take_along_axis<uint8_t>);
MC_KERNEL(take_along_axis_u16, IndexArguments, 256, 0, take_along_axis<uint16_t>);
MC_KERNEL(take_along_axis_u32, IndexArguments, 256, 0, take_along_axis<uint32_t>);
MC_KERNEL(take_along_axis_u64, IndexArguments, 256, 0, take_along_axis<uint64_t>);

// How elements add up: integers wrap, which does not depend on the sign; half precision adds up in
// f32 and is rounded once.
template <typename T>
struct Sum {
  T value;
  MC_FUNCTION void add(T x) { value = T(value + x); }
  MC_FUNCTION T result() const { return value; }
};
template <>
struct Sum<half> {
  float value;
  MC_FUNCTION explicit Sum(half x) : value(float(x)) {}
  MC_FUNCTION void add(half x) { value += float(x); }
  MC_FUNCTION half result() const { return half(value); }
};
template <>
struct Sum<bfloat> {
  float value;
  MC_FUNCTION explicit Sum(bfloat x) : value(float(x)) {}
  MC_FUNCTION void add(bfloat x) { value += float(x); }
  MC_FUNCTION bfloat result() const { return bfloat(value); }
};
constexpr MC_CONSTANT uint32_t kFirst = 0x80000000u;  // No earlier position has this index.
constexpr MC_CONSTANT uint32_t kNoNext = 0x7fffffffu;

// For each position the next one with the same index, and whether there is none before: what adding
// up in order of position takes. A thread a position, which compares it with all.
MC_FUNCTION void link_indices(MC_CONSTANT IndexArguments& a, MC_GROUP char* memory, Thread self) {
  MC_GROUP int64_t* others = reinterpret_cast<MC_GROUP int64_t*>(memory);
  const int64_t i = int64_t(self.group) * self.size + self.index;
  const int64_t mine = i < a.count ? read_index(a, i) : -1;
  uint32_t next = kNoNext;
  bool is_first = true;
  for (int64_t begin = 0; begin < a.count; begin += self.size) {
    const int64_t j = begin + self.index;
    others[self.index] = j < a.count ? read_index(a, j) : -1;
    group_barrier();
    for (uint32_t k = 0; k < self.size; ++k) {
      if (others[k] != mine) continue;
      const int64_t position = begin + k;
      is_first = is_first && position >= i;
      if (position > i && next == kNoNext) next = uint32_t(position);
    }
    group_barrier();
  }
  if (i >= a.count) return;
  static_cast<MC_GLOBAL uint32_t*>(a.links)[i] = (is_first && mine >= 0 ? kFirst : 0u) | next;
}
MC_KERNEL(link_indices, IndexArguments, 256, 2048, link_indices);

// out[o, indices[j], c] += updates[o, j, c]. A thread an element of the updates; those of the first
// position of an index add them all.
template <typename T>
MC_FUNCTION void scatter_add(MC_CONSTANT IndexArguments& a, MC_GROUP char*, Thread self) {
  const int64_t i = int64_t(self.group) * self.size + self.index;
  if (i >= a.outer * a.count * a.inner) return;
  const int64_t row = i / a.inner;
  const int64_t column = i - row * a.inner;
  const int64_t outer = row / a.count;
  const int64_t position = row - outer * a.count;
  const MC_GLOBAL uint32_t* links = static_cast<const MC_GLOBAL uint32_t*>(a.links);
  uint32_t link = links[position];
  if ((link & kFirst) == 0) return;
  MC_GLOBAL T* target = static_cast<MC_GLOBAL T*>(a.out) +
                        (outer * a.length + read_index(a, position)) * a.inner + column;
  const MC_GLOBAL T* updates =
      static_cast<const MC_GLOBAL T*>(a.updates) + outer * a.count * a.inner + column;
  Sum<T> sum{*target};
  sum.add(updates[position * a.inner]);
  for (uint32_t next = link & kNoNext; next != kNoNext; next = links[next] & kNoNext) {
    sum.add(updates[int64_t(next) * a.inner]);
  }
  *target = sum.result();
}
MC_KERNEL(scatter_add_u8, IndexArguments, 256, 0, scatter_add<uint8_t>);
MC_KERNEL(scatter_add_u32, IndexArguments, 256, 0, scatter_add<uint32_t>);
MC_KERNEL(scatter_add_u64, IndexArguments, 256, 0, scatter_add<uint64_t>);
MC_KERNEL(scatter_add_f16, IndexArguments, 256, 0, scatter_add<half>);
MC_KERNEL(scatter_add_bf16, IndexArguments, 256, 0, scatter_add<bfloat>);
MC_KERNEL(scatter_add_f32, IndexArguments, 256, 0, scatter_add<float>);

// out[o, indices[o, j, c], c] += updates[o, j, c]. As above, but every line along the axis has
// indices of its own, which each thread goes through.
template <typename T>
MC_FUNCTION void scatter_add_along_axis(MC_CONSTANT IndexArguments& a, MC_GROUP char*,
                                        Thread self) {
  const int64_t i = int64_t(self.group) * self.size + self.index;
  if (i >= a.outer * a.count * a.inner) return;
  const int64_t row = i / a.inner;
  const int64_t column = i - row * a.inner;
  const int64_t outer = row / a.count;
  const int64_t position = row - outer * a.count;
  const int64_t line = outer * a.count * a.inner + column;
  const int64_t index = read_index(a, i);
  if (index < 0) return;
  for (int64_t j = 0; j < position; ++j) {
    if (read_index(a, line + j * a.inner) == index) return;
  }
  const MC_GLOBAL T* updates = static_cast<const MC_GLOBAL T*>(a.updates) + line;
  MC_GLOBAL T* target =
      static_cast<MC_GLOBAL T*>(a.out) + (outer * a.length + index) * a.inner + column;
  Sum<T> sum{*target};
  for (int64_t j = position; j < a.count; ++j) {
    if (read_index(a, line + j * a.inner) == index) sum.add(updates[j * a.inner]);
  }
  *target = sum.result();
}
MC_KERNEL(scatter_add_along_axis_u8, IndexArguments, 256, 0, scatter_add_along_axis<uint8_t>);
MC_KERNEL(scatter_add_along_axis_u32, IndexArguments, 256, 0, scatter_add_along_axis<uint32_t>);
MC_KERNEL(scatter_add_along_axis_u64, IndexArguments, 256, 0, scatter_add_along_axis<uint64_t>);
MC_KERNEL(scatter_add_along_axis_f16, IndexArguments, 256, 0, scatter_add_along_axis<half>);
MC_KERNEL(scatter_add_along_axis_bf16, IndexArguments, 256, 0, scatter_add_along_axis<bfloat>);
MC_KERNEL(scatter_add_along_axis_f32, IndexArguments, 256, 0, scatter_add_along_axis<float>);
