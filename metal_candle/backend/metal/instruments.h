// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What Apple's tools see: intervals in Instruments (os_signpost), and captures of the GPU's work
// for Xcode.
#pragma once

#include <cstdint>
#include <string>

#include "metal_candle/backend/metal/metal_api.h"

namespace metal_candle::backend::metal {

/// A command buffer on a queue, from its commit to its completion: an interval "command buffer" of
/// the subsystem "metal-candle". Costs a load where nobody records.
class SignpostInterval {
 public:
  void begin(const std::string& what);
  void end();

 private:
  std::uint64_t id_ = 0;
};

/// Captures all work of a device in a file that Xcode opens (*.gputrace), if METAL_CANDLE_CAPTURE
/// names one that does not exist yet. MTL_CAPTURE_ENABLED=1 has to be set as well, or Metal
/// refuses, which is a DeviceError. Returns whether it captures.
bool start_capture(MTL::Device& device);
void stop_capture();

}  // namespace metal_candle::backend::metal
