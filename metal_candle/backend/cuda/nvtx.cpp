// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// NVTX 3 is headers alone: they open the tool's library when first called.
#include "metal_candle/backend/cuda/nvtx.h"

#include <cstdlib>
#include <mutex>

#include "metal_candle/core/host_observer.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

namespace metal_candle::backend::cuda {
namespace {

class NvtxMarker final : public RangeMarker {
 public:
  void push(const char* name) override { nvtxRangePushA(name); }
  void pop() override { nvtxRangePop(); }
};

}  // namespace

void add_nvtx_marker() {
  static std::once_flag once;
  std::call_once(once, [] {
    const char* tool = std::getenv("NVTX_INJECTION64_PATH");
    if (tool != nullptr && *tool != '\0') add_range_marker(new NvtxMarker);
  });
}

}  // namespace metal_candle::backend::cuda

#else

namespace metal_candle::backend::cuda {
void add_nvtx_marker() {}
}  // namespace metal_candle::backend::cuda

#endif
