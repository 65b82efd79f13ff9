// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The dialect (dialect.h) for nvcc and NVRTC. It includes nothing, so that kernels generated at run
// time compile in milliseconds.
#pragma once

#if defined(__CUDACC_RTC__)
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#else
#include <math.h>
#include <stdint.h>
#endif

#define MC_FUNCTION __device__ __forceinline__
#define MC_GLOBAL
#define MC_GROUP
#define MC_CONSTANT const
#define MC_UNROLL _Pragma("unroll")
#define MC_KERNEL(name, Arguments, max_threads, group_bytes, ...)                          \
  extern "C" __global__ void __launch_bounds__(max_threads)                                \
      name(const __grid_constant__ Arguments arguments) {                                  \
    __shared__ __align__(16) char memory[(group_bytes) > 16 ? (group_bytes) : 16];         \
    __VA_ARGS__(arguments, memory, Thread::current());                                     \
  }
#define MC_KERNEL_DYNAMIC(name, Arguments, max_threads, ...)                               \
  extern "C" __global__ void __launch_bounds__(max_threads)                                \
      name(const __grid_constant__ Arguments arguments) {                                  \
    extern __shared__ __align__(16) char memory[];                                         \
    __VA_ARGS__(arguments, memory, Thread::current());                                     \
  }

struct Thread {
  uint32_t index, size;
  uint32_t group, group_y, group_z;
  uint32_t groups, groups_y, groups_z;
  uint32_t lane, warp;

  static MC_FUNCTION Thread current() {
    return {threadIdx.x, blockDim.x, blockIdx.x, blockIdx.y,       blockIdx.z,
            gridDim.x,   gridDim.y,  gridDim.z,  threadIdx.x & 31, threadIdx.x >> 5};
  }
};

MC_FUNCTION void group_barrier() { __syncthreads(); }
template <typename T>
MC_FUNCTION T lane_shuffle(T value, uint32_t lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <typename T>
MC_FUNCTION T lane_shuffle_xor(T value, uint32_t mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <typename T>
MC_FUNCTION T lane_shuffle_down(T value, uint32_t delta) {
  return __shfl_down_sync(0xffffffffu, value, delta);
}
template <typename T>
MC_FUNCTION T lane_shuffle_up(T value, uint32_t delta) {
  return __shfl_up_sync(0xffffffffu, value, delta);
}
MC_FUNCTION uint32_t lane_ballot(bool value) { return __ballot_sync(0xffffffffu, value); }

MC_FUNCTION float atomic_add(float* address, float value) { return atomicAdd(address, value); }
MC_FUNCTION uint32_t atomic_add(uint32_t* address, uint32_t value) {
  return atomicAdd(address, value);
}

MC_FUNCTION uint32_t as_uint(float x) { return __float_as_uint(x); }
MC_FUNCTION float as_float(uint32_t x) { return __uint_as_float(x); }

struct half {
  uint16_t bits;
  half() = default;
  MC_FUNCTION explicit half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  MC_FUNCTION explicit operator float() const {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
  }
};

struct bfloat {
  uint16_t bits;
  bfloat() = default;
  MC_FUNCTION explicit bfloat(float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  MC_FUNCTION explicit operator float() const { return as_float(uint32_t{bits} << 16); }
};
