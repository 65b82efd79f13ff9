// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The scripts of bench/peers/, which CMake puts into the binary, so that it can be run from
// anywhere.
#pragma once

namespace metal_candle::bench {

extern const char* const kTorchEngineScript;
extern const char* const kTorchModelsScript;
/// What the scripts of the suite ops have in common; goes before each of them.
extern const char* const kPeerLoopScript;
extern const char* const kTorchOpsScript;
extern const char* const kMlxOpsScript;
extern const char* const kJaxOpsScript;

}  // namespace metal_candle::bench
