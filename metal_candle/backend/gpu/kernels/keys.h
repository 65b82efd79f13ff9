// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Unsigned keys that order as elements do, and items of a key and a position, of which no two are
// equal. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/common.h"

template <typename T>
struct KeyOf {
  typedef uint32_t Type;
};
template <>
struct KeyOf<int64_t> {
  typedef uint64_t Type;
};

// Ascending in the order asked for. NaN has the key ~0, which no number has: infinity has
// 0xff800000, and descending -infinity has that. No number has the key 0 either.
MC_FUNCTION uint32_t float_key(float x, bool descending) {
  if (x != x) return ~uint32_t(0);
  const uint32_t bits = as_uint(x + 0.0f);  // Which makes -0 equal to 0.
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return descending ? ~ascending : ascending;
}
MC_FUNCTION uint32_t sort_key(float x, bool descending) { return float_key(x, descending); }
MC_FUNCTION uint32_t sort_key(half x, bool descending) { return float_key(float(x), descending); }
MC_FUNCTION uint32_t sort_key(bfloat x, bool descending) { return float_key(float(x), descending); }
MC_FUNCTION uint32_t sort_key(uint32_t x, bool descending) { return descending ? ~x : x; }
MC_FUNCTION uint32_t sort_key(int32_t x, bool descending) {
  return sort_key(uint32_t(x) ^ 0x80000000u, descending);
}
MC_FUNCTION uint32_t sort_key(uint8_t x, bool descending) {
  return sort_key(uint32_t(x), descending);
}
MC_FUNCTION uint32_t sort_key(int8_t x, bool descending) {
  return sort_key(int32_t(x), descending);
}
MC_FUNCTION uint64_t sort_key(int64_t x, bool descending) {
  const uint64_t ascending = uint64_t(x) ^ (uint64_t(1) << 63);
  return descending ? ~ascending : ascending;
}

template <typename Key>
struct Item;
template <>
struct Item<uint32_t> {
  uint64_t both;  // The key above the position.
};
template <>
struct Item<uint64_t> {
  uint64_t key, position;
};
MC_FUNCTION Item<uint32_t> make_item(uint32_t key, uint32_t position) {
  return {uint64_t(key) << 32 | position};
}
MC_FUNCTION Item<uint64_t> make_item(uint64_t key, uint32_t position) { return {key, position}; }
MC_FUNCTION bool comes_before(Item<uint32_t> a, Item<uint32_t> b) { return a.both < b.both; }
MC_FUNCTION bool comes_before(Item<uint64_t> a, Item<uint64_t> b) {
  return a.key != b.key ? a.key < b.key : a.position < b.position;
}
MC_FUNCTION uint32_t position_of(Item<uint32_t> item) { return uint32_t(item.both); }
MC_FUNCTION uint32_t position_of(Item<uint64_t> item) { return uint32_t(item.position); }
