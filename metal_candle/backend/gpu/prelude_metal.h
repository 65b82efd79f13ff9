// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The dialect (dialect.h) for the Metal Shading Language 3.1 and later, on Apple GPUs: those have
// 32 lanes, simdgroup matrices, and pointers in the structs that kernels are given. To be compiled
// without fast math, since NaN and infinity mean something here.
#pragma once

#include <metal_stdlib>

using namespace metal;

#define MC_FUNCTION inline __attribute__((always_inline))
#define MC_GLOBAL device
#define MC_GROUP threadgroup
#define MC_CONSTANT constant
#define MC_THREAD thread
#define MC_PRAGMA(text) _Pragma(#text)
#define MC_UNROLL MC_PRAGMA(clang loop unroll(full))
#define MC_UNROLL_BY(count) MC_PRAGMA(clang loop unroll_count(count))
// Built-in values are of one shape: all of a dimension are uint3.
#define MC_KERNEL_BUILTINS                                                                        \
  uint3 mc_index [[thread_position_in_threadgroup]], uint3 mc_size [[threads_per_threadgroup]],   \
      uint3 mc_group [[threadgroup_position_in_grid]], uint3 mc_groups [[threadgroups_per_grid]], \
      uint mc_lane [[thread_index_in_simdgroup]], uint mc_warp [[simdgroup_index_in_threadgroup]]
#define MC_KERNEL_THREAD                                                                 \
  Thread {                                                                               \
    mc_index.x, mc_size.x, mc_group.x, mc_group.y, mc_group.z, mc_groups.x, mc_groups.y, \
        mc_groups.z, mc_lane, mc_warp                                                    \
  }
#define MC_KERNEL(name, Arguments, max_threads, group_bytes, ...)                          \
  [[kernel, max_total_threads_per_threadgroup(max_threads)]] void name(                    \
      constant Arguments& arguments [[buffer(0)]], MC_KERNEL_BUILTINS) {                   \
    threadgroup uint4 memory[(group_bytes) > 16 ? ((group_bytes) + 15) / 16 : 1];          \
    __VA_ARGS__(arguments, reinterpret_cast<threadgroup char*>(memory), MC_KERNEL_THREAD); \
  }
#define MC_KERNEL_DYNAMIC(name, Arguments, max_threads, ...)                                    \
  [[kernel, max_total_threads_per_threadgroup(max_threads)]] void name(                         \
      constant Arguments& arguments [[buffer(0)]], threadgroup char* memory [[threadgroup(0)]], \
      MC_KERNEL_BUILTINS) {                                                                     \
    __VA_ARGS__(arguments, memory, MC_KERNEL_THREAD);                                           \
  }
// How many registers there are is for the compiler to know.
#define MC_KERNEL_RESIDENT(name, Arguments, max_threads, groups, ...) \
  MC_KERNEL_DYNAMIC(name, Arguments, max_threads, __VA_ARGS__)

struct Thread {
  uint32_t index, size;
  uint32_t group, group_y, group_z;
  uint32_t groups, groups_y, groups_z;
  uint32_t lane, warp;
};

MC_FUNCTION void group_barrier() {
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
}
template <typename T>
MC_FUNCTION T lane_shuffle(T value, uint32_t lane) {
  return simd_shuffle(value, ushort(lane));
}
template <typename T>
MC_FUNCTION T lane_shuffle_xor(T value, uint32_t mask) {
  return simd_shuffle_xor(value, ushort(mask));
}
template <typename T>
MC_FUNCTION T lane_shuffle_down(T value, uint32_t delta) {
  return simd_shuffle_down(value, ushort(delta));
}
template <typename T>
MC_FUNCTION T lane_shuffle_up(T value, uint32_t delta) {
  return simd_shuffle_up(value, ushort(delta));
}
MC_FUNCTION uint32_t lane_ballot(bool value) {
  return uint32_t(static_cast<simd_vote::vote_t>(simd_ballot(value)));
}

MC_FUNCTION float atomic_add(device float* address, float value) {
  return atomic_fetch_add_explicit(reinterpret_cast<device atomic_float*>(address), value,
                                   memory_order_relaxed);
}
MC_FUNCTION uint32_t atomic_add(device uint32_t* address, uint32_t value) {
  return atomic_fetch_add_explicit(reinterpret_cast<device atomic_uint*>(address), value,
                                   memory_order_relaxed);
}
// A template, so that it is no second definition of the one above where tests take both address
// spaces for one.
template <typename T>
MC_FUNCTION T atomic_add(threadgroup T* address, T value) {
  return atomic_fetch_add_explicit(reinterpret_cast<threadgroup atomic_uint*>(address), value,
                                   memory_order_relaxed);
}

MC_FUNCTION uint32_t as_uint(float x) { return as_type<uint32_t>(x); }
MC_FUNCTION float as_float(uint32_t x) { return as_type<float>(x); }

// ---- C's functions
MC_FUNCTION float fabsf(float x) { return metal::fabs(x); }
MC_FUNCTION float fmaf(float x, float y, float z) { return metal::fma(x, y, z); }
MC_FUNCTION float fmaxf(float x, float y) { return metal::fmax(x, y); }
MC_FUNCTION float fminf(float x, float y) { return metal::fmin(x, y); }
MC_FUNCTION float fmodf(float x, float y) { return metal::fmod(x, y); }
MC_FUNCTION float copysignf(float x, float y) { return metal::copysign(x, y); }
MC_FUNCTION float floorf(float x) { return metal::floor(x); }
MC_FUNCTION float ceilf(float x) { return metal::ceil(x); }
MC_FUNCTION float truncf(float x) { return metal::trunc(x); }
MC_FUNCTION float rintf(float x) { return metal::rint(x); }
MC_FUNCTION float sqrtf(float x) { return metal::precise::sqrt(x); }
MC_FUNCTION float rsqrtf(float x) { return metal::precise::rsqrt(x); }
MC_FUNCTION float expf(float x) { return metal::precise::exp(x); }
MC_FUNCTION float exp2f(float x) { return metal::precise::exp2(x); }
MC_FUNCTION float logf(float x) { return metal::precise::log(x); }
MC_FUNCTION float log2f(float x) { return metal::precise::log2(x); }
MC_FUNCTION float log10f(float x) { return metal::precise::log10(x); }
MC_FUNCTION float powf(float x, float y) { return metal::precise::pow(x, y); }
MC_FUNCTION float sinf(float x) { return metal::precise::sin(x); }
MC_FUNCTION float cosf(float x) { return metal::precise::cos(x); }
MC_FUNCTION float tanf(float x) { return metal::precise::tan(x); }
MC_FUNCTION float asinf(float x) { return metal::precise::asin(x); }
MC_FUNCTION float acosf(float x) { return metal::precise::acos(x); }
MC_FUNCTION float atanf(float x) { return metal::precise::atan(x); }
MC_FUNCTION float atan2f(float y, float x) { return metal::precise::atan2(y, x); }
MC_FUNCTION float coshf(float x) { return metal::precise::cosh(x); }
MC_FUNCTION float acoshf(float x) { return metal::precise::acosh(x); }

// Those that Metal does not have, or not to the last digits near 0. Polynomials are fitted to the
// functions over the intervals named, with errors below 2^-24.
MC_FUNCTION float expm1f(float x) {
  if (metal::fabs(x) >= 0.5f) return expf(x) - 1.0f;
  float sum = 2.48015873e-5f;  // The series of (exp(x) - 1) / x.
  sum = fmaf(sum, x, 1.98412698e-4f);
  sum = fmaf(sum, x, 1.38888889e-3f);
  sum = fmaf(sum, x, 8.33333333e-3f);
  sum = fmaf(sum, x, 4.16666667e-2f);
  sum = fmaf(sum, x, 1.66666667e-1f);
  sum = fmaf(sum, x, 0.5f);
  return fmaf(sum * x, x, x);
}
// What rounding 1 + x loses is made good by the slope of log.
MC_FUNCTION float log1pf(float x) {
  const float y = 1.0f + x;
  if (y == 1.0f) return x;
  if (metal::fabs(y) == INFINITY || y <= 0.0f) return logf(y);
  return logf(y) * (x / (y - 1.0f));
}
MC_FUNCTION float sinhf(float x) {
  if (metal::fabs(x) > 1.0f) return metal::precise::sinh(x);
  const float e = expm1f(x);
  return 0.5f * (e + e / (e + 1.0f));
}
MC_FUNCTION float tanhf(float x) {
  const float a = metal::fabs(x);
  if (a > 9.1f) return copysignf(1.0f, x);  // To half a unit in the last place.
  const float e = expm1f(2.0f * a);
  return a != a ? x : copysignf(e / (e + 2.0f), x);
}
MC_FUNCTION float asinhf(float x) {
  const float a = metal::fabs(x);
  if (a > 1e9f) return copysignf(logf(a) + 0.69314718f, x);
  const float square = a * a;
  return copysignf(log1pf(a + square / (1.0f + sqrtf(1.0f + square))), x);
}
MC_FUNCTION float atanhf(float x) { return 0.5f * log1pf(2.0f * x / (1.0f - x)); }
MC_FUNCTION float hypotf(float x, float y) {
  const float a = metal::fabs(x), b = metal::fabs(y);
  if (a == INFINITY || b == INFINITY) return INFINITY;
  const float most = metal::fmax(a, b), least = metal::fmin(a, b);
  if (most == 0.0f || a != a || b != b) return a + b;
  const float ratio = least / most;
  return most * sqrtf(fmaf(ratio, ratio, 1.0f));
}
MC_FUNCTION float erff(float x) {
  const float a = metal::fabs(x);
  if (a < 1.0f) {  // erf(x) / x in x^2.
    const float z = x * x;
    float sum = -9.68013217e-6f;
    sum = fmaf(sum, z, 1.1270543e-4f);
    sum = fmaf(sum, z, -8.48471124e-4f);
    sum = fmaf(sum, z, 5.22107486e-3f);
    sum = fmaf(sum, z, -2.68654458e-2f);
    sum = fmaf(sum, z, 1.12837827e-1f);
    sum = fmaf(sum, z, -3.76126385e-1f);
    return x * fmaf(sum, z, 1.12837917f);
  }
  if (a != a || a > 4.0f) return a != a ? x : copysignf(1.0f, x);
  const float t = 1.0f / fmaf(0.5f, a, 1.0f);  // erfc(x) exp(x^2) in t, for 1 < x < 4.
  float sum = 1.71166077e-2f;
  sum = fmaf(sum, t, 5.18849873e-2f);
  sum = fmaf(sum, t, -3.55904086e-1f);
  sum = fmaf(sum, t, 4.5168883e-1f);
  sum = fmaf(sum, t, -3.67330575e-2f);
  sum = fmaf(sum, t, 3.22379628e-1f);
  sum = fmaf(sum, t, 2.65673902e-1f);
  sum = fmaf(sum, t, 2.8411415e-1f);
  sum = fmaf(sum, t, -1.07999576e-4f);
  return copysignf(fmaf(-sum, expf(-a * a), 1.0f), x);
}
// erfinv(x) / x in w = -log(1 - x^2), which is at most 16 where x is not 1.
MC_FUNCTION float erfinvf(float x) {
  if (!(metal::fabs(x) < 1.0f)) return metal::fabs(x) == 1.0f ? x * INFINITY : NAN;
  float w = -logf((1.0f - x) * (1.0f + x));
  float sum;
  if (w < 5.0f) {
    w -= 2.5f;
    sum = 2.853479e-8f;
    sum = fmaf(sum, w, 3.4372706e-7f);
    sum = fmaf(sum, w, -3.52885955e-6f);
    sum = fmaf(sum, w, -4.39678125e-6f);
    sum = fmaf(sum, w, 2.18602194e-4f);
    sum = fmaf(sum, w, -1.25370752e-3f);
    sum = fmaf(sum, w, -4.17770774e-3f);
    sum = fmaf(sum, w, 2.46640726e-1f);
    sum = fmaf(sum, w, 1.50140942f);
  } else {
    w = sqrtf(w) - 3.0f;
    sum = -1.21606564e-4f;
    sum = fmaf(sum, w, 5.10641849e-5f);
    sum = fmaf(sum, w, 1.23944591e-3f);
    sum = fmaf(sum, w, -3.62304726e-3f);
    sum = fmaf(sum, w, 5.79065991e-3f);
    sum = fmaf(sum, w, -7.63584716e-3f);
    sum = fmaf(sum, w, 9.43089025e-3f);
    sum = fmaf(sum, w, 1.00167483f);
    sum = fmaf(sum, w, 2.83297711f);
  }
  return sum * x;
}
MC_FUNCTION float max_or_nan(float a, float b) { return a > b || a != a ? a : b; }
MC_FUNCTION float min_or_nan(float a, float b) { return a < b || a != a ? a : b; }
MC_FUNCTION float fast_exp2(float x) { return metal::fast::exp2(x); }
MC_FUNCTION float fast_reciprocal(float x) { return metal::fast::divide(1.0f, x); }

// ---- Tiles. A lane has two neighbouring elements of a simdgroup matrix. Right operands are kept
// with rows and columns exchanged, as the product wants them.
struct Tiles4 {
  uint32_t at[4];
};
struct TileSums {
  float at[4];
};

MC_FUNCTION uint32_t tile_row(uint32_t lane) { return (lane / 4 & 4) + lane / 2 % 4; }
MC_FUNCTION uint32_t tile_column(uint32_t lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2; }

template <typename T>
MC_FUNCTION uint32_t pack_elements(T first, T second) {
  return as_type<uint32_t>(vec<T, 2>(first, second));
}
template <typename T>
MC_FUNCTION uint32_t pack_tile(float first, float second) {
  return pack_elements(T(first), T(second));
}
template <typename T>
MC_FUNCTION float tile_element(uint32_t packed, uint32_t index) {
  return float(as_type<T>(uint16_t(packed >> (16 * index))));
}

template <typename T>
MC_FUNCTION Tiles4 load_tiles(const threadgroup T* from, uint32_t stride, uint32_t lane) {
  Tiles4 tiles;
  MC_UNROLL
  for (uint32_t i = 0; i < 4; ++i) {
    const threadgroup T* at =
        from + (i % 2 * 8 + tile_row(lane)) * stride + i / 2 * 8 + tile_column(lane);
    tiles.at[i] = pack_elements(at[0], at[1]);
  }
  return tiles;
}
template <typename T>
MC_FUNCTION Tiles4 load_right_tiles(const threadgroup T* from, uint32_t stride, uint32_t lane) {
  Tiles4 tiles;
  MC_UNROLL
  for (uint32_t i = 0; i < 4; ++i) {
    const threadgroup T* at =
        from + (i % 2 * 8 + tile_column(lane)) * stride + i / 2 * 8 + tile_row(lane);
    tiles.at[i] = pack_elements(at[0], at[stride]);
  }
  return tiles;
}
template <typename T>
MC_FUNCTION Tiles4 load_right_tiles_transposed(const threadgroup T* from, uint32_t stride,
                                               uint32_t lane) {
  return load_tiles(from, stride, lane);
}

template <typename T>
MC_FUNCTION simdgroup_matrix<T, 8, 8> tile_matrix(uint32_t elements) {
  simdgroup_matrix<T, 8, 8> matrix;
  const vec<T, 2> both = as_type<vec<T, 2>>(elements);
  matrix.thread_elements()[0] = both[0];
  matrix.thread_elements()[1] = both[1];
  return matrix;
}
template <typename T>
MC_FUNCTION TileSums multiply_tiles(TileSums sums, Tiles4 a, uint32_t b_left, uint32_t b_right) {
  const simdgroup_matrix<T, 8, 8> left = tile_matrix<T>(b_left), right = tile_matrix<T>(b_right);
  MC_UNROLL
  for (int half_block = 0; half_block < 2; ++half_block) {
    simdgroup_matrix<float, 8, 8> sum;
    sum.thread_elements()[0] = sums.at[2 * half_block];
    sum.thread_elements()[1] = sums.at[2 * half_block + 1];
    simdgroup_multiply_accumulate(sum, tile_matrix<T>(a.at[half_block]), left, sum);
    simdgroup_multiply_accumulate(sum, tile_matrix<T>(a.at[2 + half_block]), right, sum);
    sums.at[2 * half_block] = sum.thread_elements()[0];
    sums.at[2 * half_block + 1] = sum.thread_elements()[1];
  }
  return sums;
}

// The lanes of a row differ in bits 0 and 3.
MC_FUNCTION float tile_row_sum(float x) {
  x += lane_shuffle_xor(x, 1);
  return x + lane_shuffle_xor(x, 8);
}
MC_FUNCTION float tile_row_max(float x) {
  x = fmaxf(x, lane_shuffle_xor(x, 1));
  return fmaxf(x, lane_shuffle_xor(x, 8));
}

// ---- Copies, done when they are started, as they may be.
template <int kBytes>
struct CopiedAs;
template <>
struct CopiedAs<4> {
  typedef uint Type;
};
template <>
struct CopiedAs<8> {
  typedef uint2 Type;
};
template <>
struct CopiedAs<16> {
  typedef uint4 Type;
};
template <int kBytes>
MC_FUNCTION void copy_async(threadgroup void* to, const device void* from, bool valid) {
  typedef typename CopiedAs<kBytes>::Type Type;
  *static_cast<threadgroup Type*>(to) = valid ? *static_cast<const device Type*>(from) : Type(0);
}
MC_FUNCTION void copy_commit() {}
template <int kCommits>
MC_FUNCTION void copy_wait() {}
