// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Dispatches of one kernel that do not depend on each other, as one dispatch over the groups of all
// of them: most of what a small dispatch costs is that there is another one. For the host and for
// the dialect (dialect.h) alike.
#pragma once

#ifndef MC_GLOBAL
#include <cstdint>
#endif

// How many dispatches one may hold whose arguments have `bytes` bytes each: the arguments of a
// kernel are 4 KiB at most. Odd, so that what comes after 1 + capacity words is aligned. A macro,
// because functions are either the host's or the device's.
#define MC_MERGED_FIT(bytes) ((4096u - 4u) / ((bytes) + 4u))
#define MC_MERGED_CAPACITY(bytes)     \
  (MC_MERGED_FIT(bytes) >= 31u  ? 31u \
   : MC_MERGED_FIT(bytes) == 0u ? 1u  \
                                : ((MC_MERGED_FIT(bytes) - 1u) | 1u))

template <typename Arguments>
struct Merged {
  static constexpr uint32_t kCapacity = MC_MERGED_CAPACITY(uint32_t(sizeof(Arguments)));
  uint32_t count;
  uint32_t ends[kCapacity];  // Where each one's groups end.
  Arguments at[kCapacity];
};
