// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See instruments.h.
#include "metal_candle/backend/metal/instruments.h"

#include <fmt/format.h>
#include <os/log.h>
#include <os/signpost.h>

#include <cstdlib>
#include <filesystem>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::metal {
namespace {

os_log_t signpost_log() {
  static os_log_t log = os_log_create("metal-candle", OS_LOG_CATEGORY_POINTS_OF_INTEREST);
  return log;
}

}  // namespace

void SignpostInterval::begin(const std::string& what) {
  if (!os_signpost_enabled(signpost_log())) return;
  id_ = os_signpost_id_generate(signpost_log());
  os_signpost_interval_begin(signpost_log(), id_, "command buffer", "%{public}s", what.c_str());
}

void SignpostInterval::end() {
  if (id_ == 0) return;
  os_signpost_interval_end(signpost_log(), id_, "command buffer");
  id_ = 0;
}

bool start_capture(MTL::Device& device) {
  const char* path = std::getenv("METAL_CANDLE_CAPTURE");
  if (path == nullptr || *path == '\0') return false;
  if (std::filesystem::exists(path)) {
    throw DeviceError(fmt::format("METAL_CANDLE_CAPTURE: {} exists already", path));
  }
  const AutoreleaseScope scope;
  MTL::CaptureManager* manager = MTL::CaptureManager::sharedCaptureManager();
  if (!manager->supportsDestination(MTL::CaptureDestinationGPUTraceDocument)) {
    throw DeviceError("METAL_CANDLE_CAPTURE: Metal captures only with MTL_CAPTURE_ENABLED=1");
  }
  const auto descriptor = NS::TransferPtr(MTL::CaptureDescriptor::alloc()->init());
  descriptor->setCaptureObject(&device);
  descriptor->setDestination(MTL::CaptureDestinationGPUTraceDocument);
  descriptor->setOutputURL(NS::URL::fileURLWithPath(ns_string(path)));
  NS::Error* error = nullptr;
  if (!manager->startCapture(descriptor.get(), &error)) {
    throw DeviceError(
        fmt::format("METAL_CANDLE_CAPTURE: {}", error_text(error, "Metal does not capture")));
  }
  return true;
}

void stop_capture() {
  const AutoreleaseScope scope;
  MTL::CaptureManager* manager = MTL::CaptureManager::sharedCaptureManager();
  if (manager->isCapturing()) manager->stopCapture();
}

}  // namespace metal_candle::backend::metal
