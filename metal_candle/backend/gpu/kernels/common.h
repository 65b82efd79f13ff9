// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What kernels share: packets of elements that are loaded at once, and sums and maxima over a warp
// and a group. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/dialect.h"
#include "metal_candle/backend/gpu/kernels/merged.h"

// Of several dispatches in one, that which this group belongs to; makes the thread one of its grid.
template <typename Arguments>
MC_FUNCTION uint32_t merged_item(MC_CONSTANT Merged<Arguments>& all, MC_THREAD Thread& self) {
  uint32_t item = 0;
  while (item + 1 < all.count && self.group >= all.ends[item]) ++item;
  const uint32_t begin = item == 0 ? 0 : all.ends[item - 1];
  self.group -= begin;
  self.groups = all.ends[item] - begin;
  return item;
}

// A kernel for several dispatches in one (kernels/merged.h), called `name`_merged.
#define MC_KERNEL_OF_MANY(name, Arguments, max_threads, group_bytes, ...)                    \
  MC_FUNCTION void name##_of_many(MC_CONSTANT Merged<Arguments>& all, MC_GROUP char* memory, \
                                  Thread self) {                                             \
    const uint32_t item = merged_item(all, self);                                            \
    __VA_ARGS__(all.at[item], memory, self);                                                 \
  }                                                                                          \
  MC_KERNEL(name##_merged, Merged<Arguments>, max_threads, group_bytes, name##_of_many)

// A kernel, and the same for several dispatches in one; or that of them which who compiles the text
// wants.
#if defined(MC_ONLY_ONE)
#define MC_KERNEL_MERGED MC_KERNEL
#elif defined(MC_ONLY_MANY)
#define MC_KERNEL_MERGED MC_KERNEL_OF_MANY
#else
#define MC_KERNEL_MERGED(name, Arguments, max_threads, group_bytes, ...) \
  MC_KERNEL(name, Arguments, max_threads, group_bytes, __VA_ARGS__);     \
  MC_KERNEL_OF_MANY(name, Arguments, max_threads, group_bytes, __VA_ARGS__)
#endif

// N elements, loaded and stored with one instruction when they are 4, 8 or 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Packet {
  T values[N];
};

// A packet at an address that may be any element's, unless kAligned says that it is a packet's.
template <int N, bool kAligned, typename T>
MC_FUNCTION Packet<T, N> load_packet(const MC_GLOBAL T* from) {
  Packet<T, N> packet;
  if (kAligned) {
    packet = *reinterpret_cast<const MC_GLOBAL Packet<T, N>*>(from);
  } else {
    MC_UNROLL
    for (int i = 0; i < N; ++i) packet.values[i] = from[i];
  }
  return packet;
}
template <bool kAligned, typename T, int N>
MC_FUNCTION void store_packet(MC_GLOBAL T* to, Packet<T, N> packet) {
  if (kAligned) {
    *reinterpret_cast<MC_GLOBAL Packet<T, N>*>(to) = packet;
  } else {
    MC_UNROLL
    for (int i = 0; i < N; ++i) to[i] = packet.values[i];
  }
}
// `bytes` is a power of two.
MC_FUNCTION bool is_aligned(const MC_GLOBAL void* address, uint32_t bytes) {
  return (reinterpret_cast<uint64_t>(address) & (bytes - 1)) == 0;
}

// n / d for n < 2^31, by what Divider(d) of divider.h says of d.
MC_FUNCTION uint32_t divide(uint32_t n, uint32_t magic, uint32_t shift) {
  return (uint32_t((uint64_t(n) * magic) >> 32) + n) >> shift;
}

template <typename T, int width>
MC_FUNCTION Packet<T, width> load_packet(const MC_GLOBAL T* address) {
  return *reinterpret_cast<const MC_GLOBAL Packet<T, width>*>(address);
}
template <typename T, int width>
MC_FUNCTION void store_packet(MC_GLOBAL T* address, Packet<T, width> packet) {
  *reinterpret_cast<MC_GLOBAL Packet<T, width>*>(address) = packet;
}

MC_FUNCTION float lane_sum(float x) {
  for (uint32_t mask = 16; mask > 0; mask >>= 1) x += lane_shuffle_xor(x, mask);
  return x;
}

MC_FUNCTION float lane_max(float x) {
  for (uint32_t mask = 16; mask > 0; mask >>= 1) x = fmaxf(x, lane_shuffle_xor(x, mask));
  return x;
}

// exp(x) and 1 / (1 + exp(-x)), as near as elements of type T can show: of 16 bits, by the device's
// own instructions, a quarter as many.
template <typename T>
MC_FUNCTION float exp_for(float x) {
  if (sizeof(T) == 2) return fast_exp2(x * 1.44269504f);
  return expf(x);
}
template <typename T>
MC_FUNCTION float sigmoid_for(float x) {
  if (sizeof(T) == 2) return fast_reciprocal(1.0f + exp_for<T>(-x));
  return 1.0f / (1.0f + expf(-x));
}

// The sum over the group, for every thread. memory: 32 floats, which may be used again after the
// next barrier. thread.size is a multiple of 32.
MC_FUNCTION float group_sum(float x, MC_GROUP float* memory, Thread self) {
  x = lane_sum(x);
  if (self.size == 32) return x;
  if (self.lane == 0) memory[self.warp] = x;
  group_barrier();
  const uint32_t warps = self.size / 32;
  x = self.lane < warps ? memory[self.lane] : 0.0f;
  return lane_sum(x);
}

MC_FUNCTION float group_max(float x, MC_GROUP float* memory, Thread self) {
  x = lane_max(x);
  if (self.size == 32) return x;
  if (self.lane == 0) memory[self.warp] = x;
  group_barrier();
  const uint32_t warps = self.size / 32;
  x = self.lane < warps ? memory[self.lane] : -INFINITY;
  return lane_max(x);
}
