// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See libraries.h.
#include "metal_candle/backend/cuda/libraries.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

// Where the toolkit puts libraries when it does not tell the loader.
constexpr const char* kToolkitFolder = "/usr/local/cuda/lib64/";

void* open_first(const std::vector<std::string>& names, const char* remedy) {
  for (const std::string& name : names) {
    for (const std::string& path : {name, kToolkitFolder + name}) {
      if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    }
  }
  throw DeviceError(fmt::format("cuda: cannot open {}: {}", fmt::join(names, " or "), remedy));
}

template <typename Function>
void bind(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    throw DeviceError(fmt::format("cuda: {} is missing; the installed version is too old", name));
  }
}

#define METAL_CANDLE_STRING(text) #text
#define METAL_CANDLE_SYMBOL(name) METAL_CANDLE_STRING(name)
#define METAL_CANDLE_BIND(name) bind(library, METAL_CANDLE_SYMBOL(name), table.name);

Driver open_driver() {
  void* library = open_first({"libcuda.so.1"}, "install NVIDIA's driver, or use --device cpu");
  Driver table;
  METAL_CANDLE_DRIVER_FUNCTIONS(METAL_CANDLE_BIND)
  if (const CUresult result = table.cuInit(0); result != CUDA_SUCCESS) {
    const char* text = "unknown error";
    table.cuGetErrorString(result, &text);
    throw DeviceError(fmt::format("cuda: the driver does not start: {}", text));
  }
  return table;
}

CublasLt open_cublas_lt() {
  void* library = open_first({"libcublasLt.so.13", "libcublasLt.so.12"},
                             "install NVIDIA's cuBLAS (CUDA 12 or later) and tell the loader "
                             "where it is (LD_LIBRARY_PATH)");
  CublasLt table;
  METAL_CANDLE_CUBLASLT_FUNCTIONS(METAL_CANDLE_BIND)
  return table;
}

Nvrtc open_nvrtc() {
  void* library = open_first({"libnvrtc.so.13", "libnvrtc.so.12"},
                             "install NVIDIA's NVRTC (CUDA 12 or later) and tell the loader where "
                             "it is (LD_LIBRARY_PATH)");
  Nvrtc table;
  METAL_CANDLE_NVRTC_FUNCTIONS(METAL_CANDLE_BIND)
  return table;
}

}  // namespace

const Driver& driver() {
  static const Driver table = open_driver();
  return table;
}

const CublasLt& cublas_lt() {
  static const CublasLt table = open_cublas_lt();
  return table;
}

const Nvrtc& nvrtc() {
  static const Nvrtc table = open_nvrtc();
  return table;
}

void check(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return;
  const char* text = "unknown error";
  driver().cuGetErrorString(result, &text);
  const std::string message = fmt::format("cuda: {}: {}", call, text);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) throw OutOfMemoryError(message);
  throw DeviceError(message);
}

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(fmt::format("cuda: {}: cuBLAS status {}", call, static_cast<int>(status)));
}

void check(nvrtcResult result, const char* call) {
  if (result == NVRTC_SUCCESS) return;
  throw DeviceError(fmt::format("cuda: {}: {}", call, nvrtc().nvrtcGetErrorString(result)));
}

}  // namespace metal_candle::backend::cuda
