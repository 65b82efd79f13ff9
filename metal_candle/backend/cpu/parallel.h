// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Intra-operation threads of the CPU backend: one pool for the process, shared by every queue and
// by every thread that evaluates inline. oneDNN is called on these threads with OpenMP teams of
// one, so that there is no second pool to compete with.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace metal_candle::backend::cpu {

/// Threads that parallel_for() uses, the caller included. METAL_CANDLE_NUM_THREADS, or else what
/// the machine, its affinity mask and a container's quota allow.
[[nodiscard]] int num_threads();

/// Sets it; 1 runs everything on the calling thread. Not while kernels run.
void set_num_threads(int count);

namespace detail {
using RangeFn = void (*)(void* context, std::int64_t begin, std::int64_t end);
void parallel_for(std::int64_t count, std::int64_t grain, RangeFn fn, void* context);
}  // namespace detail

/// Calls fn(begin, end) over consecutive ranges that cover [0, count), concurrently when count >
/// grain, and returns when all are done. Ranges begin at multiples of grain, so fn may rely on that
/// for determinism: a result must not depend on how many ranges there are. When the pool is busy
/// with another caller, or in a nested call, runs on the calling thread alone. The first exception
/// thrown by fn is rethrown here.
template <typename Fn>
void parallel_for(std::int64_t count, std::int64_t grain, Fn&& fn) {
  if (count <= 0) return;
  if (count <= grain) {
    fn(std::int64_t{0}, count);
    return;
  }
  using F = std::remove_reference_t<Fn>;
  detail::parallel_for(
      count, grain,
      [](void* context, std::int64_t begin, std::int64_t end) {
        (*static_cast<F*>(context))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

}  // namespace metal_candle::backend::cpu
