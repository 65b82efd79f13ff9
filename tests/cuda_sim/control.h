// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What tests tell, and ask, the driver that computes nothing (driver.cpp), and cuBLASLt's and
// NVRTC's places beside it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace metal_candle::cuda_sim {

enum class Control {
  kHold,          // What is launched from now on is not done...
  kLetGo,         // ...until now.
  kFailLaunches,  // The next `count` launches fail.
  kFailGraphs,    // The next `count` graphs find no memory.
};

/// What was asked of the driver.
struct Calls {
  std::atomic<int> kernels_sought{0};
  std::atomic<int> kernels_loaded{0};
  std::atomic<int> blocks_held{0};  // Of memory.
  std::atomic<int> blocks_made{0};
};

/// What was asked of cuBLASLt, and what it does not have.
struct Products {
  std::atomic<int> asked{0};  // For an algorithm.
  std::atomic<int> run{0};
  std::atomic<std::uint32_t> alignment_run{0};    // That the algorithm last run was asked for.
  std::atomic<std::size_t> workspace_allowed{0};  // When it was last asked.
  std::atomic<std::uint32_t> least_alignment{0};  // It has algorithms for this or more.
};

/// What becomes of texts that are given to NVRTC.
struct Compiler {
  std::atomic<bool> held{false};     // They are not compiled until this is false again.
  std::atomic<int> to_fail{0};       // The next so many do not compile.
  std::atomic<int> milliseconds{0};  // That each takes.
  std::atomic<int> begun{0};
  std::atomic<int> compiled{0};
};

}  // namespace metal_candle::cuda_sim

/// Exported by the driver.
extern "C" void metal_candle_cuda_sim(metal_candle::cuda_sim::Control what, int count);
extern "C" metal_candle::cuda_sim::Calls& metal_candle_cuda_sim_calls();
/// How often kernels with this in their names were launched, or put into a graph.
extern "C" int metal_candle_cuda_sim_launches(const char* part_of_name);
/// Exported by NVRTC's place.
extern "C" metal_candle::cuda_sim::Compiler& metal_candle_cuda_sim_compiler();
/// Exported by cuBLASLt's place.
extern "C" metal_candle::cuda_sim::Products& metal_candle_cuda_sim_products();
