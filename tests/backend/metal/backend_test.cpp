// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The Metal backend on the Metal in software.
#include <gtest/gtest.h>

namespace metal_candle {
namespace {
TEST(Placeholder, Links) {}
}  // namespace
}  // namespace metal_candle
