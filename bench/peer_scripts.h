// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The scripts of bench/peers/, which CMake puts into the binary, so that it can be run from
// anywhere.
#pragma once

namespace metal_candle::bench {

/// What all have in common; goes before each of them.
extern const char* const kPeerLoopScript;
extern const char* const kTorchEngineScript;
/// What the scripts of ops have in common; goes between.
extern const char* const kOpsLoopScript;
extern const char* const kTorchOpsScript;
extern const char* const kMlxOpsScript;
extern const char* const kJaxOpsScript;
/// What the scripts of generate and train have in common; goes between.
extern const char* const kModelLoopScript;
extern const char* const kTorchModelsScript;
extern const char* const kMlxModelsScript;
extern const char* const kJaxModelsScript;

}  // namespace metal_candle::bench
