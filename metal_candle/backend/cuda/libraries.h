// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The driver, cuBLASLt and NVRTC, opened when first needed, so that one binary runs on machines
// with and without them. Functions have the libraries' own names: driver().cuInit(0).
#pragma once

#include <cublasLt.h>
#include <cuda.h>
#include <nvrtc.h>

#include <string>

namespace metal_candle::backend::cuda {

// The names are macros in cuda.h for the versions that it declares (cuMemAlloc is cuMemAlloc_v2);
// members have those names too.
#define METAL_CANDLE_DRIVER_FUNCTIONS(X) \
  X(cuInit)                              \
  X(cuDriverGetVersion)                  \
  X(cuGetErrorName)                      \
  X(cuGetErrorString)                    \
  X(cuDeviceGet)                         \
  X(cuDeviceGetCount)                    \
  X(cuDeviceGetName)                     \
  X(cuDeviceGetAttribute)                \
  X(cuDeviceTotalMem)                    \
  X(cuDevicePrimaryCtxRetain)            \
  X(cuCtxSetCurrent)                     \
  X(cuCtxGetCurrent)                     \
  X(cuMemGetInfo)                        \
  X(cuMemAlloc)                          \
  X(cuMemFree)                           \
  X(cuMemcpyHtoDAsync)                   \
  X(cuMemcpyDtoH)                        \
  X(cuMemsetD8Async)                     \
  X(cuStreamCreate)                      \
  X(cuStreamSynchronize)                 \
  X(cuStreamWaitEvent)                   \
  X(cuStreamBeginCapture)                \
  X(cuStreamEndCapture)                  \
  X(cuEventCreate)                       \
  X(cuEventRecord)                       \
  X(cuEventQuery)                        \
  X(cuEventSynchronize)                  \
  X(cuEventElapsedTime)                  \
  X(cuEventDestroy)                      \
  X(cuLibraryLoadData)                   \
  X(cuLibraryGetKernel)                  \
  X(cuLibraryGetKernelCount)             \
  X(cuLibraryEnumerateKernels)           \
  X(cuKernelGetFunction)                 \
  X(cuFuncSetAttribute)                  \
  X(cuLaunchKernel)                      \
  X(cuTensorMapEncodeTiled)              \
  X(cuGraphCreate)                       \
  X(cuGraphDestroy)                      \
  X(cuGraphAddEmptyNode)                 \
  X(cuGraphAddKernelNode)                \
  X(cuGraphAddMemsetNode)                \
  X(cuGraphAddChildGraphNode)            \
  X(cuGraphInstantiate)                  \
  X(cuGraphUpload)                       \
  X(cuGraphLaunch)                       \
  X(cuGraphExecDestroy)                  \
  X(cuGraphExecKernelNodeSetParams)      \
  X(cuGraphExecMemsetNodeSetParams)      \
  X(cuGraphExecChildGraphNodeSetParams)

#define METAL_CANDLE_CUBLASLT_FUNCTIONS(X) \
  X(cublasLtCreate)                        \
  X(cublasLtGetVersion)                    \
  X(cublasLtMatmul)                        \
  X(cublasLtMatmulDescCreate)              \
  X(cublasLtMatmulDescDestroy)             \
  X(cublasLtMatmulDescSetAttribute)        \
  X(cublasLtMatrixLayoutCreate)            \
  X(cublasLtMatrixLayoutDestroy)           \
  X(cublasLtMatrixLayoutSetAttribute)      \
  X(cublasLtMatmulPreferenceCreate)        \
  X(cublasLtMatmulPreferenceDestroy)       \
  X(cublasLtMatmulPreferenceSetAttribute)  \
  X(cublasLtMatmulAlgoGetHeuristic)

#define METAL_CANDLE_NVRTC_FUNCTIONS(X) \
  X(nvrtcVersion)                       \
  X(nvrtcGetErrorString)                \
  X(nvrtcCreateProgram)                 \
  X(nvrtcDestroyProgram)                \
  X(nvrtcCompileProgram)                \
  X(nvrtcGetCUBINSize)                  \
  X(nvrtcGetCUBIN)                      \
  X(nvrtcGetProgramLogSize)             \
  X(nvrtcGetProgramLog)

#define METAL_CANDLE_MEMBER(name) decltype(&::name) name = nullptr;
struct Driver {
  METAL_CANDLE_DRIVER_FUNCTIONS(METAL_CANDLE_MEMBER)
};
struct CublasLt {
  METAL_CANDLE_CUBLASLT_FUNCTIONS(METAL_CANDLE_MEMBER)
};
struct Nvrtc {
  METAL_CANDLE_NVRTC_FUNCTIONS(METAL_CANDLE_MEMBER)
};
#undef METAL_CANDLE_MEMBER

/// Each throws DeviceError, saying what is missing and what to install. Thread safe.
[[nodiscard]] const Driver& driver();
[[nodiscard]] const CublasLt& cublas_lt();
[[nodiscard]] const Nvrtc& nvrtc();

/// Throws OutOfMemoryError or DeviceError, naming the call, unless the result is success.
void check(CUresult result, const char* call);
void check(cublasStatus_t status, const char* call);
void check(nvrtcResult result, const char* call);

}  // namespace metal_candle::backend::cuda
