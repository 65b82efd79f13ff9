// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Copies between strided places, and of a constant to one. Elements are known by their size. In the
// dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

constexpr int kCopyInFlight = 4;  // Packets that a thread loads before it stores.

// How far the block lies from the beginning, if its place is an input: starts are clamped so that
// the block fits.
MC_FUNCTION int64_t block_offset(MC_CONSTANT CopyArguments& a) {
  int64_t offset = 0;
  for (uint32_t i = 0; i < a.num_starts; ++i) {
    int64_t start = a.wide_starts != 0 ? static_cast<const MC_GLOBAL int64_t*>(a.starts)[i]
                                       : static_cast<const MC_GLOBAL int32_t*>(a.starts)[i];
    start = start < 0 ? 0 : start;
    start = start > a.largest_starts[i] ? a.largest_starts[i] : start;
    offset += start * a.start_strides[i];
  }
  return offset;
}

struct CopyOffsets {
  int64_t in, out;
};

// Of a packet, in elements.
MC_FUNCTION CopyOffsets copy_offsets(MC_CONSTANT CopyArguments& a, int64_t packet) {
  CopyOffsets offsets = {0, 0};
  for (uint32_t axis = a.rank - 1; axis > 0; --axis) {
    const int64_t rest = a.wide != 0
                             ? packet / a.sizes[axis]
                             : int64_t(divide(uint32_t(packet), a.magics[axis], a.shifts[axis]));
    const int64_t index = packet - rest * a.sizes[axis];
    offsets.in += index * a.in_strides[axis];
    offsets.out += index * a.out_strides[axis];
    packet = rest;
  }
  offsets.in += packet * a.in_strides[0];
  offsets.out += packet * a.out_strides[0];
  return offsets;
}

template <typename T, int N, bool kAligned>
MC_FUNCTION void copy_packets(MC_CONSTANT CopyArguments& a, const MC_GLOBAL T* in, MC_GLOBAL T* out,
                              Thread thread) {
  const int64_t step = int64_t(thread.groups) * thread.size * kCopyInFlight;
  int64_t first = int64_t(thread.group) * thread.size * kCopyInFlight + thread.index;
  for (; first < a.packets; first += step) {
    Packet<T, N> packets[kCopyInFlight];
    int64_t to[kCopyInFlight];
    MC_UNROLL
    for (int u = 0; u < kCopyInFlight; ++u) {
      // Those beyond the last are read again and not stored.
      const int64_t next = first + u * int64_t(thread.size);
      const CopyOffsets offsets = copy_offsets(a, next < a.packets ? next : a.packets - 1);
      to[u] = offsets.out;
      packets[u] = load_packet<N, kAligned>(in + offsets.in);
    }
    MC_UNROLL
    for (int u = 0; u < kCopyInFlight; ++u) {
      if (first + u * int64_t(thread.size) < a.packets) {
        store_packet<kAligned>(out + to[u], packets[u]);
      }
    }
  }
}

template <typename T, int N>
MC_FUNCTION void copy(MC_CONSTANT CopyArguments& a, MC_GROUP char*, Thread thread) {
  const MC_GLOBAL T* in = static_cast<const MC_GLOBAL T*>(a.in);
  MC_GLOBAL T* out = static_cast<MC_GLOBAL T*>(a.out);
  if (a.num_starts != 0) {
    const int64_t offset = block_offset(a);
    in += a.starts_in_output != 0 ? 0 : offset;
    out += a.starts_in_output != 0 ? offset : 0;
  }
  if (N > 1 && is_aligned(in, N * sizeof(T)) && is_aligned(out, N * sizeof(T))) {
    copy_packets<T, N, true>(a, in, out, thread);
  } else {
    copy_packets<T, N, false>(a, in, out, thread);
  }
  const int64_t i = a.packets * N + thread.index;
  if (thread.group == 0 && thread.index < a.tail) out[i] = in[i];
}
MC_KERNEL(copy_u8, CopyArguments, 256, 0, copy<uint8_t, 1>);
MC_KERNEL_MERGED(copy_u16, CopyArguments, 256, 0, copy<uint16_t, 1>);
MC_KERNEL_MERGED(copy_u32, CopyArguments, 256, 0, copy<uint32_t, 1>);
MC_KERNEL(copy_u64, CopyArguments, 256, 0, copy<uint64_t, 1>);
MC_KERNEL(copy_packets_u8, CopyArguments, 256, 0, copy<uint8_t, 16>);
MC_KERNEL_MERGED(copy_packets_u16, CopyArguments, 256, 0, copy<uint16_t, 8>);
MC_KERNEL_MERGED(copy_packets_u32, CopyArguments, 256, 0, copy<uint32_t, 4>);
MC_KERNEL(copy_packets_u64, CopyArguments, 256, 0, copy<uint64_t, 2>);

// Stores a.value at the places of the copy's output.
template <typename T>
MC_FUNCTION void fill(MC_CONSTANT CopyArguments& a, MC_GROUP char*, Thread thread) {
  MC_GLOBAL T* out = static_cast<MC_GLOBAL T*>(a.out);
  const int64_t step = int64_t(thread.groups) * thread.size;
  for (int64_t i = int64_t(thread.group) * thread.size + thread.index; i < a.packets; i += step) {
    out[copy_offsets(a, i).out] = T(a.value);
  }
}
MC_KERNEL(fill_u8, CopyArguments, 256, 0, fill<uint8_t>);
MC_KERNEL(fill_u16, CopyArguments, 256, 0, fill<uint16_t>);
MC_KERNEL(fill_u32, CopyArguments, 256, 0, fill<uint32_t>);
MC_KERNEL(fill_u64, CopyArguments, 256, 0, fill<uint64_t>);

// One tile, W elements at a time on either side. Rows are dense in the input, columns in the
// output.
template <typename T, int kTile, int W>
MC_FUNCTION void transpose_tile(MC_CONSTANT TransposeArguments& a, const MC_GLOBAL T* in,
                                MC_GLOBAL T* out, int64_t row, int64_t column, MC_GROUP T* tile,
                                Thread thread) {
  constexpr int kPitch = kTile + (sizeof(T) < 4 ? 4 / int(sizeof(T)) : 1);  // Spreads the banks.
  constexpr int kWarps = 8;
  MC_UNROLL
  for (int i = 0; i < kTile / kWarps; ++i) {
    const int c = i * kWarps + int(thread.warp);
    MC_UNROLL
    for (int j = 0; j < kTile; j += 32 * W) {
      const int r = j + int(thread.lane) * W;
      if (row + r >= a.rows || column + c >= a.columns) continue;
      const Packet<T, W> packet = load_packet<W, true>(in + (row + r) * a.in_row_stride +
                                                       (column + c) * a.in_column_stride);
      MC_UNROLL
      for (int k = 0; k < W; ++k) tile[c * kPitch + r + k] = packet.values[k];
    }
  }
  group_barrier();
  MC_UNROLL
  for (int i = 0; i < kTile / kWarps; ++i) {
    const int r = i * kWarps + int(thread.warp);
    MC_UNROLL
    for (int j = 0; j < kTile; j += 32 * W) {
      const int c = j + int(thread.lane) * W;
      if (row + r >= a.rows || column + c >= a.columns) continue;
      Packet<T, W> packet;
      MC_UNROLL
      for (int k = 0; k < W; ++k) packet.values[k] = tile[(c + k) * kPitch + r];
      store_packet<true>(out + (row + r) * a.out_row_stride + column + c, packet);
    }
  }
}

// What a step of decoding does to its cache, which copy() would take longer to set out for.
MC_FUNCTION void place_rows(MC_CONSTANT PlaceRowsArguments& a, MC_GROUP char*, Thread thread) {
  const int64_t i = int64_t(thread.group) * thread.size + thread.index;
  if (i >= a.outer * a.block) return;
  int64_t start = a.wide_start != 0 ? *static_cast<const MC_GLOBAL int64_t*>(a.start)
                                    : int64_t(*static_cast<const MC_GLOBAL int32_t*>(a.start));
  start = start < 0 ? 0 : start > a.largest_start ? a.largest_start : start;
  const int64_t outer = uint32_t(i) / uint32_t(a.block);
  static_cast<MC_GLOBAL Packet<uint32_t, 4>*>(
      a.out)[outer * a.length + start * a.row + i - outer * a.block] =
      static_cast<const MC_GLOBAL Packet<uint32_t, 4>*>(a.update)[i];
}
MC_KERNEL_MERGED(place_rows, PlaceRowsArguments, 256, 0, place_rows);

// A group a tile; tiles of rows vary fastest, then those of columns, then the other axes.
template <typename T, int kTile, int W>
MC_FUNCTION void transpose(MC_CONSTANT TransposeArguments& a, MC_GROUP char* memory,
                           Thread thread) {
  uint32_t tile = thread.group;
  const int64_t row = int64_t(tile % a.row_tiles) * kTile;
  tile /= a.row_tiles;
  const int64_t column = int64_t(tile % a.column_tiles) * kTile;
  tile /= a.column_tiles;
  const MC_GLOBAL T* in = static_cast<const MC_GLOBAL T*>(a.in);
  MC_GLOBAL T* out = static_cast<MC_GLOBAL T*>(a.out);
  for (uint32_t axis = a.rank; axis-- > 0;) {
    const uint32_t rest = tile / a.sizes[axis];
    const int64_t index = tile - rest * a.sizes[axis];
    in += index * a.in_strides[axis];
    out += index * a.out_strides[axis];
    tile = rest;
  }
  MC_GROUP T* shared = reinterpret_cast<MC_GROUP T*>(memory);
  if (W > 1 && a.divisible != 0 && is_aligned(in, W * sizeof(T)) &&
      is_aligned(out, W * sizeof(T))) {
    transpose_tile<T, kTile, W>(a, in, out, row, column, shared, thread);
  } else {
    transpose_tile<T, kTile, 1>(a, in, out, row, column, shared, thread);
  }
}
MC_KERNEL(transpose_u8, TransposeArguments, 256, 64 * 68, transpose<uint8_t, 64, 2>);
MC_KERNEL(transpose_u16, TransposeArguments, 256, 64 * 66 * 2, transpose<uint16_t, 64, 2>);
MC_KERNEL(transpose_u32, TransposeArguments, 256, 32 * 33 * 4, transpose<uint32_t, 32, 1>);
MC_KERNEL(transpose_u64, TransposeArguments, 256, 32 * 33 * 8, transpose<uint64_t, 32, 1>);
