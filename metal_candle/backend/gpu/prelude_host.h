// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The dialect (dialect.h) for a C++ compiler of the host, so that tests run kernels without a GPU.
// The threads of a group are fibres, which run until they wait for each other; whoever includes
// this links the scheduler, tests/gpu_sim/.
#pragma once

#include <math.h>

#include <bit>
#include <cstdint>
#include <cstring>

#include "metal_candle/core/dtype.h"

#define MC_FUNCTION inline
#define MC_GLOBAL
#define MC_GROUP
#define MC_CONSTANT const
#define MC_UNROLL
#define MC_KERNEL(name, Arguments, max_threads, group_bytes, ...) \
  MC_REGISTER_KERNEL(name, Arguments, max_threads, group_bytes, __VA_ARGS__)
#define MC_KERNEL_DYNAMIC(name, Arguments, max_threads, ...) \
  MC_REGISTER_KERNEL(name, Arguments, max_threads, -1, __VA_ARGS__)
#define MC_REGISTER_KERNEL(name, Arguments, max_threads, group_bytes, ...)              \
  static const ::metal_candle::gpu_sim::Registration mc_registration_##name(            \
      #name, sizeof(Arguments), max_threads, group_bytes,                               \
      [](const void* mc_arguments, char* mc_memory, const Thread& mc_thread) {          \
        __VA_ARGS__(*static_cast<const Arguments*>(mc_arguments), mc_memory, mc_thread); \
      })

struct Thread {
  uint32_t index, size;
  uint32_t group, group_y, group_z;
  uint32_t groups, groups_y, groups_z;
  uint32_t lane, warp;
};

namespace metal_candle::gpu_sim {

using Body = void (*)(const void* arguments, char* memory, const Thread& thread);

/// Makes a kernel known by its name; group_bytes is -1 where the dispatch says.
class Registration {
 public:
  Registration(const char* name, std::size_t argument_bytes, int max_threads, int group_bytes,
               Body body);
};

/// Waits for all threads of the group. Throws std::logic_error out of the dispatch when some can
/// never come.
void wait_for_group();
/// Gives bits to the other lanes of the warp and takes those of lane `from`.
uint32_t exchange(uint32_t bits, uint32_t from);
/// The lanes of the warp that gave true.
uint32_t ballot(bool value);
/// The lane of the running thread.
uint32_t current_lane();

}  // namespace metal_candle::gpu_sim

MC_FUNCTION void group_barrier() { metal_candle::gpu_sim::wait_for_group(); }
template <typename T>
MC_FUNCTION T lane_shuffle(T value, uint32_t lane) {
  static_assert(sizeof(T) == 4);
  return std::bit_cast<T>(
      metal_candle::gpu_sim::exchange(std::bit_cast<uint32_t>(value), lane & 31));
}
template <typename T>
MC_FUNCTION T lane_shuffle_xor(T value, uint32_t mask) {
  return lane_shuffle(value, metal_candle::gpu_sim::current_lane() ^ mask);
}
template <typename T>
MC_FUNCTION T lane_shuffle_down(T value, uint32_t delta) {
  const uint32_t lane = metal_candle::gpu_sim::current_lane();
  return lane_shuffle(value, lane + delta < 32 ? lane + delta : lane);
}
template <typename T>
MC_FUNCTION T lane_shuffle_up(T value, uint32_t delta) {
  const uint32_t lane = metal_candle::gpu_sim::current_lane();
  return lane_shuffle(value, lane >= delta ? lane - delta : lane);
}
MC_FUNCTION uint32_t lane_ballot(bool value) { return metal_candle::gpu_sim::ballot(value); }

// Threads switch only where they wait, so a plain addition is atomic.
MC_FUNCTION float atomic_add(float* address, float value) {
  const float old = *address;
  *address = old + value;
  return old;
}
MC_FUNCTION uint32_t atomic_add(uint32_t* address, uint32_t value) {
  const uint32_t old = *address;
  *address = old + value;
  return old;
}

MC_FUNCTION uint32_t as_uint(float x) { return std::bit_cast<uint32_t>(x); }
MC_FUNCTION float as_float(uint32_t x) { return std::bit_cast<float>(x); }
MC_FUNCTION float rsqrtf(float x) { return 1.0f / sqrtf(x); }
// Newton's method from Winitzki's approximation: on erf, or on erfc where that is precise.
MC_FUNCTION float erfinvf(float y) {
  if (!(fabsf(y) < 1.0f)) return fabsf(y) == 1.0f ? y * INFINITY : NAN;
  const double a = 0.147;
  const double log = ::log1p(-double(y) * y);
  const double b = 2 / (M_PI * a) + log / 2;
  double x = ::sqrt(::sqrt(b * b - log / a) - b);
  for (int step = 0; step < 4; ++step) {
    const double target = fabsf(y);
    const double above = target < 0.5 ? ::erf(x) - target : (1 - target) - ::erfc(x);
    x -= above * ::sqrt(M_PI) / 2 * ::exp(x * x);
  }
  return copysignf(float(x), y);
}

struct half {
  uint16_t bits;
  half() = default;
  explicit half(float x) : bits(metal_candle::Float16(x).bits) {}
  explicit operator float() const {
    return static_cast<float>(std::bit_cast<metal_candle::Float16>(bits));
  }
};

struct bfloat {
  uint16_t bits;
  bfloat() = default;
  explicit bfloat(float x) : bits(metal_candle::BFloat16(x).bits) {}
  explicit operator float() const {
    return static_cast<float>(std::bit_cast<metal_candle::BFloat16>(bits));
  }
};
