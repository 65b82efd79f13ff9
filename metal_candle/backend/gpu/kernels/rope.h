// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding. A thread finds the angles of a few neighbouring pairs at one position
// and turns those pairs in several heads. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/rows.h"

struct Turn {
  float cosine, sine;
};

// Within two units in the last place up to a few million radians, without the slow path (and its
// local memory) that sinf has for more.
MC_FUNCTION Turn turn_by(float angle) {
  // Multiples of pi / 2 are taken off, pi / 2 being the sum of three floats.
  const float quarters = rintf(angle * 0.63661977f);
  float r = fmaf(quarters, -1.57079637e0f, angle);
  r = fmaf(quarters, 4.37113883e-8f, r);
  r = fmaf(quarters, 1.71512489e-15f, r);
  const float z = r * r;
  float sine = fmaf(z, -1.9515295891e-4f, 8.3321608736e-3f);
  sine = fmaf(sine, z, -1.6666654611e-1f);
  sine = fmaf(sine * z, r, r);
  float cosine = fmaf(z, 2.443315711809948e-5f, -1.388731625493765e-3f);
  cosine = fmaf(cosine, z, 4.166664568298827e-2f);
  cosine = fmaf(cosine * z, z, fmaf(z, -0.5f, 1.0f));
  const int32_t quadrant = int32_t(quarters);
  const bool swapped = (quadrant & 1) != 0;
  const float s = swapped ? cosine : sine, c = swapped ? sine : cosine;
  return {((quadrant + 1) & 2) != 0 ? -c : c, (quadrant & 2) != 0 ? -s : s};
}

// A row is `width` pairs an item, and after them what is only copied, `width` elements an item.
template <typename T, int width>
MC_FUNCTION void rope(MC_CONSTANT RopeArguments& arguments, MC_GROUP char*, Thread self) {
  const uint32_t half_dims = arguments.dims / 2;
  const uint32_t pair_items = half_dims / width;
  const uint32_t items = pair_items + (arguments.n - arguments.dims) / width;
  const uint32_t head_blocks =
      (arguments.heads + arguments.heads_at_once - 1) / arguments.heads_at_once;
  const uint32_t blocks = uint32_t((int64_t(arguments.length) * items + self.size - 1) / self.size);
  const uint32_t place = self.group % blocks * self.size + self.index;
  const uint32_t position = place / items;
  const uint32_t item = place % items;
  if (position >= arguments.length) return;
  const uint32_t group = self.group / blocks / head_blocks;
  const uint32_t head = self.group / blocks % head_blocks * arguments.heads_at_once;
  const uint32_t last = head + arguments.heads_at_once < arguments.heads
                            ? head + arguments.heads_at_once
                            : arguments.heads;
  const bool turns = item < pair_items;
  // Where the first and the second packet of an item begin.
  uint32_t first = arguments.dims + (item - pair_items) * width, second = first;
  if (turns) {
    first = arguments.interleaved != 0 ? 2 * item * width : item * width;
    second = arguments.interleaved != 0 ? first + width : first + half_dims;
  }
  Turn turn[width];
  if (turns) {
    const int32_t offset = arguments.offsets[arguments.offset_per_group != 0 ? group : 0];
    // Rounded in the order of the decomposition, since large angles magnify a difference.
    const float scaled = float(offset + int32_t(position)) * arguments.scale;
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      turn[i] = turn_by(scaled * arguments.frequencies[item * width + i]);
      if (arguments.inverse != 0) turn[i].sine = -turn[i].sine;
    }
  }
  for (uint32_t h = head; h < last; ++h) {
    const uint32_t matrix = group * arguments.heads + h;
    const MC_GLOBAL T* const x = static_cast<const MC_GLOBAL T*>(arguments.x) +
                                 row_offset(arguments.map, matrix) +
                                 position * arguments.position_stride;
    MC_GLOBAL T* const out = static_cast<MC_GLOBAL T*>(arguments.out) +
                             row_offset(arguments.out_map, matrix) +
                             position * arguments.out_position_stride;
    Packet<T, width> a = load_packet<T, width>(x + first);
    if (!turns) {
      store_packet(out + first, a);
      continue;
    }
    Packet<T, width> b = load_packet<T, width>(x + second);
    float values[2 * width];
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      values[i] = float(a.values[i]);
      values[width + i] = float(b.values[i]);
    }
    if (arguments.interleaved != 0) {
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        const float u = values[2 * i], v = values[2 * i + 1];
        values[2 * i] = fmaf(-v, turn[i].sine, u * turn[i].cosine);
        values[2 * i + 1] = fmaf(u, turn[i].sine, v * turn[i].cosine);
      }
    } else {
      MC_UNROLL
      for (int i = 0; i < width; ++i) {
        const float u = values[i], v = values[width + i];
        values[i] = fmaf(-v, turn[i].sine, u * turn[i].cosine);
        values[width + i] = fmaf(u, turn[i].sine, v * turn[i].cosine);
      }
    }
    MC_UNROLL
    for (int i = 0; i < width; ++i) {
      a.values[i] = T(values[i]);
      b.values[i] = T(values[width + i]);
    }
    store_packet(out + first, a);
    store_packet(out + second, b);
  }
}

#define MC_ROPE_KERNELS(type, T)                                    \
  MC_KERNEL_MERGED(rope_##type, RopeArguments, 128, 0, rope<T, 4>); \
  MC_KERNEL_MERGED(rope_##type##_unaligned, RopeArguments, 128, 0, rope<T, 1>);
MC_ROPE_KERNELS(f32, float)
MC_ROPE_KERNELS(f16, half)
MC_ROPE_KERNELS(bf16, bfloat)
