// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What memory can do, and what this process takes of it.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>

#include "bench/harness.h"

namespace metal_candle::bench {

/// Reads `bytes` of memory, once, with all threads: seconds a call.
[[nodiscard]] Contestant memory_reader(std::size_t bytes);

/// The most memory that there was while fn ran, in bytes: on the CPU what this process had
/// resident, weights and libraries included, or nothing where the system does not say; on another
/// device what was in use there.
[[nodiscard]] std::optional<double> peak_bytes(const std::function<void()>& fn);

}  // namespace metal_candle::bench
