// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What tests over libraries that compute nothing (tests/cuda_sim) have in common.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "metal_candle/core/device.h"
#include "tests/cuda_sim/control.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::testing {

class CudaSimTest : public ::testing::Test {
 protected:
  CudaSimTest() {
    // What this compiler gives must not stay for another one.
    setenv("METAL_CANDLE_CACHE", cache_.path().c_str(), 1);
    // Tests count what is loaded and run.
    setenv("METAL_CANDLE_WARM_UP", "off", 1);
  }

  /// A function that only ours of these libraries has; null in one of NVIDIA's.
  template <typename Fn>
  [[nodiscard]] static Fn* find(const char* library, const char* name) {
    void* opened = dlopen(library, RTLD_NOW);
    EXPECT_NE(opened, nullptr) << dlerror();
    return opened == nullptr ? nullptr : reinterpret_cast<Fn*>(dlsym(opened, name));
  }

  const TemporaryFolder cache_;
  const Device device_ = parse_device("cuda");
};

}  // namespace metal_candle::testing
