// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What this processor is and which kernels run on it.
#include <fmt/format.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

#include <fstream>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "metal_candle/backend/cpu/cpu_backend.h"
#include "metal_candle/backend/cpu/parallel.h"

namespace metal_candle::backend::cpu {
namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

// The best target that kernels are compiled for and the processor has.
std::string instruction_set() {
  const auto usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable & -usable);
}

}  // namespace

BackendDescription CpuBackend::describe() const {
  const dnnl_version_t* version = dnnl_version();
  return {processor_name(),
          instruction_set(),
          num_threads(),
          {fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch),
           fmt::format("Highway {}.{}.{}", HWY_MAJOR, HWY_MINOR, HWY_PATCH)}};
}

}  // namespace metal_candle::backend::cpu
