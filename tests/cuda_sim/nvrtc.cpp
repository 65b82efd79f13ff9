// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// NVRTC's place, beside driver.cpp: any text compiles, to nothing, unless a test says that it does
// not, or not yet (control.h).
#include <nvrtc.h>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <thread>

#include "tests/cuda_sim/control.h"

namespace {

constexpr char kLog[] = "a mistake in it";

void sleep(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

}  // namespace

extern "C" {

metal_candle::cuda_sim::Compiler& metal_candle_cuda_sim_compiler() {
  static metal_candle::cuda_sim::Compiler compiler;
  return compiler;
}

nvrtcResult nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}
const char* nvrtcGetErrorString(nvrtcResult) { return "an error of the compiler's"; }
nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char*, const char*, int,
                               const char* const*, const char* const*) {
  static int any;
  *program = reinterpret_cast<nvrtcProgram>(&any);
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcDestroyProgram(nvrtcProgram*) { return NVRTC_SUCCESS; }
nvrtcResult nvrtcCompileProgram(nvrtcProgram, int, const char* const*) {
  metal_candle::cuda_sim::Compiler& compiler = metal_candle_cuda_sim_compiler();
  ++compiler.begun;
  while (compiler.held) sleep(1);
  sleep(compiler.milliseconds);
  if (compiler.to_fail > 0) {
    --compiler.to_fail;
    return NVRTC_ERROR_COMPILATION;
  }
  ++compiler.compiled;
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram, std::size_t* size) {
  *size = 16;
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetCUBIN(nvrtcProgram, char* image) {
  std::memset(image, 1, 16);
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram, std::size_t* size) {
  *size = sizeof(kLog);
  return NVRTC_SUCCESS;
}
nvrtcResult nvrtcGetProgramLog(nvrtcProgram, char* log) {
  std::memcpy(log, kLog, sizeof(kLog));
  return NVRTC_SUCCESS;
}

}  // extern "C"
