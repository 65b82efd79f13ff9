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
#define MC_THREAD
#define MC_UNROLL _Pragma("unroll")
#define MC_PRAGMA(text) _Pragma(#text)
#define MC_UNROLL_BY(count) MC_PRAGMA(unroll count)
#define MC_KERNEL(name, Arguments, max_threads, group_bytes, ...)                  \
  extern "C" __global__ void __launch_bounds__(max_threads)                        \
      name(const __grid_constant__ Arguments arguments) {                          \
    __shared__ __align__(16) char memory[(group_bytes) > 16 ? (group_bytes) : 16]; \
    __VA_ARGS__(arguments, memory, Thread::current());                             \
  }
#define MC_KERNEL_DYNAMIC(name, Arguments, max_threads, ...) \
  extern "C" __global__ void __launch_bounds__(max_threads)  \
      name(const __grid_constant__ Arguments arguments) {    \
    extern __shared__ __align__(16) char memory[];           \
    __VA_ARGS__(arguments, memory, Thread::current());       \
  }
#define MC_KERNEL_RESIDENT(name, Arguments, max_threads, groups, ...) \
  extern "C" __global__ void __launch_bounds__(max_threads, groups)   \
      name(const __grid_constant__ Arguments arguments) {             \
    extern __shared__ __align__(16) char memory[];                    \
    __VA_ARGS__(arguments, memory, Thread::current());                \
  }

// Groups 2 i and 2 i + 1 run together.
#define MC_KERNEL_PAIRED(name, Arguments, max_threads, ...)                              \
  extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(max_threads, 1) \
      name(const __grid_constant__ Arguments arguments) {                                \
    extern __shared__ __align__(16) char memory[];                                       \
    __VA_ARGS__(arguments, memory, Thread::current());                                   \
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

MC_FUNCTION float max_or_nan(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}
MC_FUNCTION float min_or_nan(float a, float b) {
  float y;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}
MC_FUNCTION float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
MC_FUNCTION float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#if !defined(__CUDACC_RTC__)  // No text that is made at run time multiplies matrices.

// ---- Tiles
struct Tiles4 {
  uint32_t at[4];
};
struct TileSums {
  float at[4];
};

MC_FUNCTION uint32_t tile_row(uint32_t lane) { return lane / 4; }
MC_FUNCTION uint32_t tile_column(uint32_t lane) { return lane % 4 * 2; }

template <typename T>
MC_FUNCTION uint32_t tile_address(const T* from, uint32_t stride, uint32_t lane) {
  return static_cast<uint32_t>(
      __cvta_generic_to_shared(from + (lane % 16 * stride + lane / 16 * 8)));
}
template <typename T>
MC_FUNCTION Tiles4 load_tiles(const T* from, uint32_t stride, uint32_t lane) {
  Tiles4 t;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(t.at[0]), "=r"(t.at[1]), "=r"(t.at[2]), "=r"(t.at[3])
               : "r"(tile_address(from, stride, lane))
               : "memory");
  return t;
}
template <typename T>
MC_FUNCTION Tiles4 load_right_tiles(const T* from, uint32_t stride, uint32_t lane) {
  return load_tiles(from, stride, lane);
}
template <typename T>
MC_FUNCTION Tiles4 load_right_tiles_transposed(const T* from, uint32_t stride, uint32_t lane) {
  Tiles4 t;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(t.at[0]), "=r"(t.at[1]), "=r"(t.at[2]), "=r"(t.at[3])
               : "r"(tile_address(from, stride, lane))
               : "memory");
  return t;
}

template <typename T>
struct TileOperations;
#define MC_TILE_OPERATIONS(T, name)                                                        \
  template <>                                                                              \
  struct TileOperations<T> {                                                               \
    static MC_FUNCTION TileSums multiply(TileSums c, Tiles4 a, uint32_t b0, uint32_t b1) { \
      asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name                           \
          ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"           \
          : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])                     \
          : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b0), "r"(b1));     \
      return c;                                                                            \
    }                                                                                      \
    static MC_FUNCTION uint32_t pack(float first, float second) {                          \
      uint32_t bits;                                                                       \
      asm("cvt.rn." name "x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));     \
      return bits;                                                                         \
    }                                                                                      \
  };
MC_TILE_OPERATIONS(half, "f16")
MC_TILE_OPERATIONS(bfloat, "bf16")
#undef MC_TILE_OPERATIONS

template <typename T>
MC_FUNCTION TileSums multiply_tiles(TileSums sums, Tiles4 a, uint32_t b_left, uint32_t b_right) {
  return TileOperations<T>::multiply(sums, a, b_left, b_right);
}
template <typename T>
MC_FUNCTION uint32_t pack_tile(float first, float second) {
  return TileOperations<T>::pack(first, second);
}
template <typename T>
MC_FUNCTION float tile_element(uint32_t packed, uint32_t index);
template <>
MC_FUNCTION float tile_element<half>(uint32_t packed, uint32_t index) {
  half element;
  element.bits = uint16_t(packed >> (16 * index));
  return float(element);
}
template <>
MC_FUNCTION float tile_element<bfloat>(uint32_t packed, uint32_t index) {
  return as_float(index == 0 ? packed << 16 : packed & 0xffff0000u);
}

MC_FUNCTION float tile_row_sum(float x) {
  x += lane_shuffle_xor(x, 1);
  return x + lane_shuffle_xor(x, 2);
}
MC_FUNCTION float tile_row_max(float x) {
  x = fmaxf(x, lane_shuffle_xor(x, 1));
  return fmaxf(x, lane_shuffle_xor(x, 2));
}

template <int kBytes>
MC_FUNCTION void copy_async(void* to, const void* from, bool valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const uint32_t read = valid ? kBytes : 0;
  if constexpr (kBytes == 16) {  // Past L1, which has nothing to gain.
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(from), "r"(read)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :
                 : "r"(address), "l"(from), "n"(kBytes), "r"(read)
                 : "memory");
  }
}
MC_FUNCTION void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kCommits>
MC_FUNCTION void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kCommits) : "memory");
}

// ---- Wide products, by four warps: those of compute capability 9.0 (sm_90a).
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define MC_HAS_WIDE_PRODUCTS

MC_FUNCTION void wide_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
MC_FUNCTION void wide_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
MC_FUNCTION void wide_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kCommits>
MC_FUNCTION void wide_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kCommits) : "memory");
}

// What describes a block to the device: its address in units of 16 bytes, that groups of 8 rows are
// 1024 bytes apart, and that the chunks of a row of 128 bytes are exchanged.
template <typename T>
MC_FUNCTION uint64_t wide_descriptor(const T* block) {
  const uint64_t address = static_cast<uint32_t>(__cvta_generic_to_shared(block));
  return (address & 0x3ffff) >> 4 | uint64_t{64} << 16 | uint64_t{64} << 32 | uint64_t{1} << 62;
}

#define MC_SUMS_OF_8(s, i)                                                                      \
  "+f"(s[i].at[0]), "+f"(s[i].at[1]), "+f"(s[i].at[2]), "+f"(s[i].at[3]), "+f"(s[i + 1].at[0]), \
      "+f"(s[i + 1].at[1]), "+f"(s[i + 1].at[2]), "+f"(s[i + 1].at[3])
#define MC_SUMS_OF_32(s) \
  MC_SUMS_OF_8(s, 0), MC_SUMS_OF_8(s, 2), MC_SUMS_OF_8(s, 4), MC_SUMS_OF_8(s, 6)
#define MC_LIST_OF_32                                                                      \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
  "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"

// The sums as the device left them: nothing that uses them comes before.
template <int kCount>
MC_FUNCTION void wide_settle(TileSums (&sums)[kCount]) {
  MC_UNROLL
  for (int i = 0; i < kCount; i += 2) asm volatile("" : MC_SUMS_OF_8(sums, i)::"memory");
}

template <typename T>
struct WideOperations;
#define MC_WIDE_OPERATIONS(T, name)                                                              \
  template <>                                                                                    \
  struct WideOperations<T> {                                                                     \
    static MC_FUNCTION void rows(TileSums (&s)[8], uint64_t a, uint64_t b, int32_t add) {        \
      asm volatile(                                                                              \
          "{ .reg .pred add; setp.ne.b32 add, %34, 0; "                                          \
          "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " " MC_LIST_OF_32          \
          ", %32, %33, add, 1, 1, 0, 0; }"                                                       \
          : MC_SUMS_OF_32(s)                                                                     \
          : "l"(a), "l"(b), "r"(add)                                                             \
          : "memory");                                                                           \
    }                                                                                            \
    static MC_FUNCTION void by_columns(TileSums (&s)[8], uint64_t a, uint64_t b, int32_t add) {  \
      asm volatile(                                                                              \
          "{ .reg .pred add; setp.ne.b32 add, %34, 0; "                                          \
          "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " " MC_LIST_OF_32          \
          ", %32, %33, add, 1, 1, 0, 1; }"                                                       \
          : MC_SUMS_OF_32(s)                                                                     \
          : "l"(a), "l"(b), "r"(add)                                                             \
          : "memory");                                                                           \
    }                                                                                            \
    static MC_FUNCTION void held_rows(TileSums (&s)[8], const Tiles4& a, uint64_t b,             \
                                      int32_t add) {                                             \
      asm volatile(                                                                              \
          "{ .reg .pred add; setp.ne.b32 add, %37, 0; "                                          \
          "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " " MC_LIST_OF_32          \
          ", {%32, %33, %34, %35}, %36, add, 1, 1, 0; }"                                         \
          : MC_SUMS_OF_32(s)                                                                     \
          : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "l"(b), "r"(add)             \
          : "memory");                                                                           \
    }                                                                                            \
    static MC_FUNCTION void columns(TileSums (&s)[8], const Tiles4& a, uint64_t b) {             \
      asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " " MC_LIST_OF_32 \
                   ", {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"                                    \
                   : MC_SUMS_OF_32(s)                                                            \
                   : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "l"(b)              \
                   : "memory");                                                                  \
    }                                                                                            \
  };
MC_WIDE_OPERATIONS(half, "f16")
MC_WIDE_OPERATIONS(bfloat, "bf16")
#undef MC_WIDE_OPERATIONS

// A panel of 224 or 256 columns, as one instruction.
#define MC_SUMS_OF_112(s)                                                                 \
  MC_SUMS_OF_8(s, 0), MC_SUMS_OF_8(s, 2), MC_SUMS_OF_8(s, 4), MC_SUMS_OF_8(s, 6),         \
      MC_SUMS_OF_8(s, 8), MC_SUMS_OF_8(s, 10), MC_SUMS_OF_8(s, 12), MC_SUMS_OF_8(s, 14),  \
      MC_SUMS_OF_8(s, 16), MC_SUMS_OF_8(s, 18), MC_SUMS_OF_8(s, 20), MC_SUMS_OF_8(s, 22), \
      MC_SUMS_OF_8(s, 24), MC_SUMS_OF_8(s, 26)
#define MC_SUMS_OF_128(s) MC_SUMS_OF_112(s), MC_SUMS_OF_8(s, 28), MC_SUMS_OF_8(s, 30)
#define MC_NAMES_OF_112                                                          \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "  \
  "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "  \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "  \
  "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "  \
  "%62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, "  \
  "%77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, "  \
  "%92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, " \
  "%106, %107, %108, %109, %110, %111"
#define MC_LIST_OF_112 "{" MC_NAMES_OF_112 "}"
#define MC_LIST_OF_128                                             \
  "{" MC_NAMES_OF_112                                              \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, " \
  "%122, %123, %124, %125, %126, %127}"
template <typename T, int kTiles, int kColumnMajor>
struct PanelOperations;
#define MC_PANEL_OPERATION(T, name, columns, registers, left, right, adds, column_major)           \
  template <>                                                                                      \
  struct PanelOperations<T, columns / 8, column_major> {                                           \
    static MC_FUNCTION void run(TileSums (&s)[columns / 8], uint64_t a, uint64_t b, int32_t add) { \
      asm volatile("{ .reg .pred add; setp.ne.b32 add, " adds                                      \
                   ", 0; wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." name "." name      \
                   " " MC_LIST_OF_##registers ", " left ", " right                                 \
                                              ", add, 1, 1, 0, " #column_major "; }"               \
                   : MC_SUMS_OF_##registers(s)                                                     \
                   : "l"(a), "l"(b), "r"(add)                                                      \
                   : "memory");                                                                    \
    }                                                                                              \
  };
#define MC_PANEL_OPERATIONS(T, name)                               \
  MC_PANEL_OPERATION(T, name, 224, 112, "%112", "%113", "%114", 0) \
  MC_PANEL_OPERATION(T, name, 224, 112, "%112", "%113", "%114", 1) \
  MC_PANEL_OPERATION(T, name, 256, 128, "%128", "%129", "%130", 0) \
  MC_PANEL_OPERATION(T, name, 256, 128, "%128", "%129", "%130", 1)
MC_PANEL_OPERATIONS(half, "f16")
MC_PANEL_OPERATIONS(bfloat, "bf16")
#undef MC_PANEL_OPERATIONS
#undef MC_PANEL_OPERATION
#undef MC_LIST_OF_112
#undef MC_NAMES_OF_112
#undef MC_LIST_OF_128
#undef MC_SUMS_OF_112
#undef MC_SUMS_OF_128
#undef MC_LIST_OF_32
#undef MC_SUMS_OF_32
#undef MC_SUMS_OF_8

template <typename T>
MC_FUNCTION void multiply_wide_rows(TileSums (&sums)[8], const T* a, const T* b, bool add, Thread) {
  const uint64_t left = wide_descriptor(a), right = wide_descriptor(b);
  MC_UNROLL
  for (int step = 0; step < 4; ++step) {  // 16 columns are 32 bytes.
    WideOperations<T>::rows(sums, left + 2 * step, right + 2 * step, add || step > 0);
  }
}
template <typename T>
MC_FUNCTION void multiply_wide_by_columns(TileSums (&sums)[8], const T* a, const T* b, bool add,
                                          Thread) {
  const uint64_t left = wide_descriptor(a), right = wide_descriptor(b);
  MC_UNROLL
  for (int step = 0; step < 4; ++step) {  // 16 rows are 2048 bytes.
    WideOperations<T>::by_columns(sums, left + 2 * step, right + 128 * step, add || step > 0);
  }
}
template <typename T>
MC_FUNCTION void multiply_held_rows(TileSums (&sums)[8], const Tiles4 (&a)[4], const T* b, bool add,
                                    Thread) {
  const uint64_t right = wide_descriptor(b);
  MC_UNROLL
  for (int step = 0; step < 4; ++step) {
    WideOperations<T>::held_rows(sums, a[step], right + 2 * step, add || step > 0);
  }
}
template <typename T>
MC_FUNCTION void multiply_wide_columns(TileSums (&sums)[8], const Tiles4 (&a)[4], const T* b,
                                       Thread) {
  const uint64_t right = wide_descriptor(b);
  MC_UNROLL
  for (int step = 0; step < 4; ++step) {  // 16 rows are 2048 bytes.
    WideOperations<T>::columns(sums, a[step], right + 128 * step);
  }
}

template <typename T, bool kRows, int kTiles>
MC_FUNCTION void multiply_panel(TileSums (&sums)[kTiles], const T* a, const T* b, bool add,
                                Thread) {
  const uint64_t left = wide_descriptor(a);
  // By columns, it is 8192 bytes from 64 of them to the next 64.
  constexpr uint64_t kLead = kRows ? 64 : 512;
  const uint64_t right = (wide_descriptor(b) & ~(uint64_t{0x3fff} << 16)) | kLead << 16;
  MC_UNROLL
  for (int step = 0; step < 4; ++step) {
    PanelOperations<T, kTiles, kRows ? 0 : 1>::run(
        sums, left + 2 * step, right + (kRows ? 2 : 128) * step, add || step > 0);
  }
}

template <typename T>
MC_FUNCTION void store_tiles(T* row, Tiles4 tiles, Thread) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row))), "r"(tiles.at[0]),
                 "r"(tiles.at[1]), "r"(tiles.at[2]), "r"(tiles.at[3])
               : "memory");
}

// ---- Signals, and copies by the device's own engine.
constexpr uint32_t kPair = 2;
using Signal = uint64_t;
struct TileMap;  // kernels/arguments.h

MC_FUNCTION uint32_t group_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}
MC_FUNCTION void pair_barrier() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
}
MC_FUNCTION void signal_init(Signal* signal, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(group_address(signal)), "r"(count)
               : "memory");
}
MC_FUNCTION void signals_publish() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
MC_FUNCTION void signal_arrive(Signal* signal) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(group_address(signal)) : "memory");
}
MC_FUNCTION void signal_arrive_pair(Signal* signal) {
  MC_UNROLL
  for (uint32_t rank = 0; rank < kPair; ++rank) {
    asm volatile(
        "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; "
        "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(group_address(signal)),
        "r"(rank)
        : "memory");
  }
}
MC_FUNCTION void signal_expect(Signal* signal, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(group_address(signal)),
      "r"(bytes)
      : "memory");
}
MC_FUNCTION void signal_wait(Signal* signal, uint32_t phase) {
  asm volatile(
      "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; "
      "@!done bra again; }" ::"r"(group_address(signal)),
      "r"(phase)
      : "memory");
}
MC_FUNCTION void copy_tile(void* to, const TileMap& map, int32_t column, int32_t row,
                           Signal* signal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(group_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(group_address(signal))
      : "memory");
}
MC_FUNCTION void copy_tile_pair(void* to, const TileMap& map, int32_t column, int32_t row,
                                Signal* signal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(group_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(group_address(signal)),
      "h"(static_cast<uint16_t>((1 << kPair) - 1))
      : "memory");
}
template <int kRegisters>
MC_FUNCTION void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
MC_FUNCTION void leave_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
#endif

#endif  // !defined(__CUDACC_RTC__)
