// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See memory.h.
#include "bench/memory.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/storage.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle::bench {
namespace {

// Eight words of a cache line at a time: faster than memory gives them.
std::uint64_t fold(const std::uint64_t* words, std::int64_t count) {
  std::array<std::uint64_t, 8> lanes{};
  for (std::int64_t i = 0; i + 8 <= count; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) {
      lanes[lane] ^= words[i + static_cast<std::int64_t>(lane)];
    }
  }
  std::uint64_t result = 0;
  for (const std::uint64_t lane : lanes) result ^= lane;
  return result;
}

}  // namespace

Contestant memory_reader(std::size_t bytes) {
  const StoragePtr storage = detail::allocate_storage(Device::cpu(), bytes);
  std::memset(storage->contents(), 1, bytes);
  const auto result = std::make_shared<std::atomic<std::uint64_t>>(0);
  return timed([storage, bytes, result] {
    const auto* words = static_cast<const std::uint64_t*>(storage->contents());
    backend::cpu::parallel_for(
        static_cast<std::int64_t>(bytes / 8), std::int64_t{1} << 17,
        [&](std::int64_t begin, std::int64_t end) { *result ^= fold(words + begin, end - begin); });
  });
}

std::optional<double> peak_bytes(const std::function<void()>& fn) {
  if (!(default_device() == Device::cpu())) {
    reset_peak_memory();
    fn();
    return static_cast<double>(memory_use().peak);
  }
  {
    std::ofstream clear("/proc/self/clear_refs");
    clear << '5';  // The peak becomes what is resident now.
    if (!clear.flush()) return {};
  }
  fn();
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024;
  }
  return {};
}

}  // namespace metal_candle::bench
