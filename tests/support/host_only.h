// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// For tests of what only the CPU does, when the tests run on another device (METAL_CANDLE_DEVICE).
#pragma once

#include <gtest/gtest.h>

#include "metal_candle/core/device.h"

/// Skips the test there, saying why.
#define METAL_CANDLE_HOST_ONLY(why) \
  if (!(::metal_candle::default_device() == ::metal_candle::Device::cpu())) GTEST_SKIP() << (why)
