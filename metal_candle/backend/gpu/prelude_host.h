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
#define MC_THREAD
#define MC_UNROLL
#define MC_UNROLL_BY(count)
#define MC_KERNEL(name, Arguments, max_threads, group_bytes, ...) \
  MC_REGISTER_KERNEL(name, Arguments, max_threads, group_bytes, __VA_ARGS__)
#define MC_KERNEL_DYNAMIC(name, Arguments, max_threads, ...) \
  MC_REGISTER_KERNEL(name, Arguments, max_threads, -1, __VA_ARGS__)
#define MC_KERNEL_RESIDENT(name, Arguments, max_threads, groups, ...) \
  MC_REGISTER_KERNEL(name, Arguments, max_threads, -1, __VA_ARGS__)
#define MC_KERNEL_PAIRED(name, Arguments, max_threads, ...) \
  MC_REGISTER_KERNEL(name, Arguments, max_threads, -1, __VA_ARGS__)
#define MC_REGISTER_KERNEL(name, Arguments, max_threads, group_bytes, ...)               \
  static const ::metal_candle::gpu_sim::Registration mc_registration_##name(             \
      #name, sizeof(Arguments), max_threads, group_bytes,                                \
      [](const void* mc_arguments, char* mc_memory, const Thread& mc_thread) {           \
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
/// What a warp does together: each lane gives something of its own, the last to arrive runs `run`
/// on what all 32 gave, and then all go on.
using WarpWork = void (*)(void* const* given);
void run_as_warp(void* mine, WarpWork run);
/// Gives bits to the other lanes of the warp and takes those of lane `from`.
uint32_t exchange(uint32_t bits, uint32_t from);
/// The lanes of the warp that gave true.
uint32_t ballot(bool value);
/// The lane of the running thread.
uint32_t current_lane();
/// Copies of the running thread, which happen as late as they may: when it waits for them. From
/// null they are zeros.
void start_copy(void* to, const void* from, uint32_t bytes);
void commit_copies();
void wait_for_copies(uint32_t commits_left);

/// What threads of a group, and copies to it, tell each other: a phase ends when as many have
/// arrived as it was made for and all bytes that they expect are there. A phase's number is 0 or 1.
struct SignalState {
  uint32_t phase : 1;
  uint32_t count : 15;
  uint32_t pending : 16;
  int32_t bytes;  // That are still to come.
};
void arrive(SignalState& signal, int32_t bytes_expected);
void bytes_came(SignalState& signal, int32_t bytes);
/// Until the phase of that number has ended.
void wait_for_signal(const SignalState& signal, uint32_t phase);
/// A box of a matrix of 16-bit elements, by its description.
void copy_box(void* to, const void* map, int32_t column, int32_t row, SignalState& signal);

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

MC_FUNCTION float max_or_nan(float a, float b) { return a > b || a != a ? a : b; }
MC_FUNCTION float min_or_nan(float a, float b) { return a < b || a != a ? a : b; }
MC_FUNCTION float fast_exp2(float x) { return exp2f(x); }
MC_FUNCTION float fast_reciprocal(float x) { return 1.0f / x; }

// ---- Tiles. Lanes lie as in prelude_cuda.h.
struct Tiles4 {
  uint32_t at[4];
};
struct TileSums {
  float at[4];
};

MC_FUNCTION uint32_t tile_row(uint32_t lane) { return lane / 4; }
MC_FUNCTION uint32_t tile_column(uint32_t lane) { return lane % 4 * 2; }

template <typename T>
MC_FUNCTION uint32_t pack_elements(T first, T second) {
  return uint32_t{first.bits} | uint32_t{second.bits} << 16;
}
template <typename T>
MC_FUNCTION uint32_t pack_tile(float first, float second) {
  return pack_elements(T(first), T(second));
}
template <typename T>
MC_FUNCTION float tile_element(uint32_t packed, uint32_t index) {
  T element;
  element.bits = static_cast<uint16_t>(packed >> (16 * index));
  return static_cast<float>(element);
}

template <typename T>
MC_FUNCTION Tiles4 load_tiles(const T* from, uint32_t stride, uint32_t lane) {
  Tiles4 tiles;
  for (uint32_t i = 0; i < 4; ++i) {
    const T* at = from + (i % 2 * 8 + tile_row(lane)) * stride + i / 2 * 8 + tile_column(lane);
    tiles.at[i] = pack_elements(at[0], at[1]);
  }
  return tiles;
}
template <typename T>
MC_FUNCTION Tiles4 load_right_tiles(const T* from, uint32_t stride, uint32_t lane) {
  return load_tiles(from, stride, lane);
}
template <typename T>
MC_FUNCTION Tiles4 load_right_tiles_transposed(const T* from, uint32_t stride, uint32_t lane) {
  Tiles4 tiles;
  for (uint32_t i = 0; i < 4; ++i) {
    const T* at = from + (i % 2 * 8 + tile_column(lane)) * stride + i / 2 * 8 + tile_row(lane);
    tiles.at[i] = pack_elements(at[0], at[stride]);
  }
  return tiles;
}

struct TileProduct {
  TileSums sums;
  Tiles4 a;
  uint32_t b[2];
};
template <typename T>
void run_tile_product(void* const* given) {
  float a[16][16];
  float b[8][16];
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const TileProduct*>(given[lane]);
    for (uint32_t i = 0; i < 8; ++i) {
      a[i / 2 % 2 * 8 + tile_row(lane)][i / 4 * 8 + tile_column(lane) + i % 2] =
          tile_element<T>(mine.a.at[i / 2], i % 2);
    }
    for (uint32_t i = 0; i < 4; ++i) {
      b[tile_row(lane)][i / 2 * 8 + tile_column(lane) + i % 2] =
          tile_element<T>(mine.b[i / 2], i % 2);
    }
  }
  for (uint32_t lane = 0; lane < 32; ++lane) {
    auto& mine = *static_cast<TileProduct*>(given[lane]);
    for (uint32_t i = 0; i < 4; ++i) {
      const float* row = a[i / 2 * 8 + tile_row(lane)];
      const float* column = b[tile_column(lane) + i % 2];
      for (uint32_t k = 0; k < 16; ++k) mine.sums.at[i] += row[k] * column[k];
    }
  }
}
template <typename T>
MC_FUNCTION TileSums multiply_tiles(TileSums sums, Tiles4 a, uint32_t b_left, uint32_t b_right) {
  TileProduct product{sums, a, {b_left, b_right}};
  metal_candle::gpu_sim::run_as_warp(&product, run_tile_product<T>);
  return product.sums;
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
  metal_candle::gpu_sim::start_copy(to, valid ? from : nullptr, kBytes);
}
MC_FUNCTION void copy_commit() { metal_candle::gpu_sim::commit_copies(); }
template <int kCommits>
MC_FUNCTION void copy_wait() {
  metal_candle::gpu_sim::wait_for_copies(kCommits);
}

// ---- Wide products, which are done at once.
#define MC_HAS_WIDE_PRODUCTS

MC_FUNCTION void wide_publish() {}
MC_FUNCTION void wide_begin() {}
MC_FUNCTION void wide_commit() {}
template <int kCommits>
MC_FUNCTION void wide_wait() {}
template <int kCount>
MC_FUNCTION void wide_settle(TileSums (&)[kCount]) {}

template <typename T>
MC_FUNCTION float wide_element(const T* block, uint32_t row, uint32_t column) {
  return static_cast<float>(block[row * 64 + (column / 8 ^ row % 8) * 8 + column % 8]);
}

template <typename T, bool kRows>
MC_FUNCTION void multiply_wide_blocks(TileSums (&sums)[8], const T* a, const T* b, bool add,
                                      const Thread& self) {
  for (uint32_t i = 0; i < 32; ++i) {
    const uint32_t row = self.warp * 16 + i / 2 % 2 * 8 + tile_row(self.lane);
    const uint32_t column = i / 4 * 8 + tile_column(self.lane) + i % 2;
    float sum = add ? sums[i / 4].at[i % 4] : 0.0f;
    for (uint32_t k = 0; k < 64; ++k) {
      sum += wide_element(a, row, k) *
             (kRows ? wide_element(b, column, k) : wide_element(b, k, column));
    }
    sums[i / 4].at[i % 4] = sum;
  }
}
template <typename T>
MC_FUNCTION void multiply_wide_rows(TileSums (&sums)[8], const T* a, const T* b, bool add,
                                    const Thread& self) {
  multiply_wide_blocks<T, true>(sums, a, b, add, self);
}
template <typename T>
MC_FUNCTION void multiply_wide_by_columns(TileSums (&sums)[8], const T* a, const T* b, bool add,
                                          const Thread& self) {
  multiply_wide_blocks<T, false>(sums, a, b, add, self);
}

// A product whose left operand is in registers; kRows: of rows of b, transposed.
template <typename T, bool kRows>
struct HeldProduct {
  TileSums (*sums)[8];
  const Tiles4 (*a)[4];
  const T* b;
  bool add;

  static void run(void* const* given) {
    float a[16][64];
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const auto& mine = *static_cast<const HeldProduct*>(given[lane]);
      for (uint32_t i = 0; i < 32; ++i) {
        const uint32_t row = i / 2 % 2 * 8 + tile_row(lane);
        const uint32_t column = i / 8 * 16 + i / 4 % 2 * 8 + tile_column(lane) + i % 2;
        a[row][column] = tile_element<T>((*mine.a)[i / 8].at[i / 2 % 4], i % 2);
      }
    }
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const auto& mine = *static_cast<const HeldProduct*>(given[lane]);
      for (uint32_t i = 0; i < 32; ++i) {
        const float* row = a[i / 2 % 2 * 8 + tile_row(lane)];
        const uint32_t column = i / 4 * 8 + tile_column(lane) + i % 2;
        float sum = mine.add ? (*mine.sums)[i / 4].at[i % 4] : 0.0f;
        for (uint32_t k = 0; k < 64; ++k) {
          sum +=
              row[k] * (kRows ? wide_element(mine.b, column, k) : wide_element(mine.b, k, column));
        }
        (*mine.sums)[i / 4].at[i % 4] = sum;
      }
    }
  }
};
template <typename T>
MC_FUNCTION void multiply_held_rows(TileSums (&sums)[8], const Tiles4 (&a)[4], const T* b, bool add,
                                    const Thread&) {
  HeldProduct<T, true> product{&sums, &a, b, add};
  metal_candle::gpu_sim::run_as_warp(&product, product.run);
}
template <typename T>
MC_FUNCTION void multiply_wide_columns(TileSums (&sums)[8], const Tiles4 (&a)[4], const T* b,
                                       const Thread&) {
  HeldProduct<T, false> product{&sums, &a, b, true};
  metal_candle::gpu_sim::run_as_warp(&product, product.run);
}

// ---- Panels: more columns at once. Where they are given by columns, 64 of them are a block.
template <typename T, bool kRows, int kTiles>
MC_FUNCTION void multiply_panel(TileSums (&sums)[kTiles], const T* a, const T* b, bool add,
                                const Thread& self) {
  float left[2][64];
  for (uint32_t k = 0; k < 128; ++k) {
    const uint32_t row = self.warp % 4 * 16 + k / 64 * 8 + tile_row(self.lane);
    left[k / 64][k % 64] = wide_element(a, row, k % 64);
  }
  for (uint32_t tile = 0; tile < kTiles; ++tile) {
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t column = tile * 8 + tile_column(self.lane) + i % 2;
      const T* const block = kRows ? b : b + column / 64 * (64 * 64);
      float sum = add ? sums[tile].at[i] : 0.0f;
      for (uint32_t k = 0; k < 64; ++k) {
        sum += left[i / 2][k] *
               (kRows ? wide_element(block, column, k) : wide_element(block, k, column % 64));
      }
      sums[tile].at[i] = sum;
    }
  }
}
template <typename T>
struct StoredTiles {
  T* row;
  Tiles4 tiles;

  static void run(void* const* given) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const auto& mine = *static_cast<const StoredTiles*>(given[lane]);
      for (uint32_t i = 0; i < 4; ++i) {
        T* const row = static_cast<const StoredTiles*>(given[8 * i + tile_row(lane)])->row;
        std::memcpy(row + tile_column(lane), &mine.tiles.at[i], 4);
      }
    }
  }
};
template <typename T>
MC_FUNCTION void store_tiles(T* row, Tiles4 tiles, const Thread&) {
  StoredTiles<T> mine{row, tiles};
  metal_candle::gpu_sim::run_as_warp(&mine, mine.run);
}

// ---- Signals and copies by descriptions. Groups are alone here.
constexpr uint32_t kPair = 1;
using Signal = metal_candle::gpu_sim::SignalState;
struct TileMap;

MC_FUNCTION void pair_barrier() { group_barrier(); }
MC_FUNCTION void signal_init(Signal* signal, uint32_t count) {
  *signal = {0, count & 0x7fff, count & 0xffff, 0};
}
MC_FUNCTION void signals_publish() {}
MC_FUNCTION void signal_arrive(Signal* signal) { metal_candle::gpu_sim::arrive(*signal, 0); }
MC_FUNCTION void signal_arrive_pair(Signal* signal) { signal_arrive(signal); }
MC_FUNCTION void signal_expect(Signal* signal, uint32_t bytes) {
  metal_candle::gpu_sim::arrive(*signal, static_cast<int32_t>(bytes));
}
MC_FUNCTION void signal_wait(Signal* signal, uint32_t phase) {
  metal_candle::gpu_sim::wait_for_signal(*signal, phase);
}
MC_FUNCTION void copy_tile(void* to, const TileMap& map, int32_t column, int32_t row,
                           Signal* signal) {
  metal_candle::gpu_sim::copy_box(to, &map, column, row, *signal);
}
MC_FUNCTION void copy_tile_pair(void* to, const TileMap& map, int32_t column, int32_t row,
                                Signal* signal) {
  copy_tile(to, map, column, row, signal);
}
template <int kRegisters>
MC_FUNCTION void take_registers() {}
template <int kRegisters>
MC_FUNCTION void leave_registers() {}
