// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Temporary memory of a kernel that each thread needs for itself: packed panels and tiles, of a
// size that is bounded by the caches rather than by the operands.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::backend::cpu {

/// Takes memory from a stack that the thread keeps, and gives it all back when it goes out of
/// scope. Scopes nest; they must end in the reverse order of their beginning.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// Uninitialised room for `count` elements of T, 64-byte aligned.
  template <typename T>
  [[nodiscard]] T* take(std::int64_t count) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  void* take_bytes(std::size_t bytes);

  std::size_t block_, used_;  // Where the stack stood at the beginning.
};

}  // namespace metal_candle::backend::cpu
