// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A driver in the place of NVIDIA's, which computes nothing: memory is the host's, work is done as
// soon as it is launched, or, while the device is held (control.h), when it is let go. So what the
// CUDA backend does around kernels is tested where no GPU is.
#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "tests/cuda_sim/control.h"

struct CUstream_st {
  std::uint64_t launched = 0;
  std::uint64_t done = 0;
};
struct CUevent_st {
  CUstream stream = nullptr;
  std::uint64_t position = 0;  // Of its stream, that is to be done.
};
struct CUgraph_st {};
struct CUgraphExec_st {};
struct CUgraphNode_st {};

namespace {

using metal_candle::cuda_sim::Control;

std::mutex& mutex() {
  static auto* instance = new std::mutex;  // Threads of the library outlive static objects.
  return *instance;
}
// Guarded by the mutex.
bool held = false;
int launches_to_fail = 0, graphs_to_fail = 0;
struct Launches {
  std::string name;
  int count = 0;
};
std::map<const void*, Launches>& kernels() {
  static auto* instance = new std::map<const void*, Launches>;
  return *instance;
}
void note_launch(CUfunction function) {
  const std::lock_guard lock(mutex());
  ++kernels()[function].count;
}

CUresult launch(CUstream stream) {
  const std::lock_guard lock(mutex());
  if (launches_to_fail > 0) {
    --launches_to_fail;
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  }
  ++stream->launched;
  if (!held) stream->done = stream->launched;
  return CUDA_SUCCESS;
}

// What was launched while it was held is done when somebody asks.
bool is_done(CUstream stream, std::uint64_t position) {
  const std::lock_guard lock(mutex());
  if (!held) stream->done = stream->launched;
  return stream->done >= position;
}

template <typename T>
CUresult make(T** out) {
  *out = new T;
  return CUDA_SUCCESS;
}

CUgraphNode any_node() {
  static CUgraphNode_st node;
  return &node;
}

}  // namespace

extern "C" {

void metal_candle_cuda_sim(Control what, int count) {
  const std::lock_guard lock(mutex());
  switch (what) {
    case Control::kHold:
      held = true;
      break;
    case Control::kLetGo:
      held = false;
      break;
    case Control::kFailLaunches:
      launches_to_fail = count;
      break;
    case Control::kFailGraphs:
      graphs_to_fail = count;
      break;
  }
}

int metal_candle_cuda_sim_launches(const char* part_of_name) {
  const std::lock_guard lock(mutex());
  int count = 0;
  for (const auto& [function, launches] : kernels()) {
    if (launches.name.find(part_of_name) != std::string::npos) count += launches.count;
  }
  return count;
}

metal_candle::cuda_sim::Calls& metal_candle_cuda_sim_calls() {
  static metal_candle::cuda_sim::Calls calls;
  return calls;
}

CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult, const char** text) {
  *text = "CUDA_ERROR_OF_THE_SIM";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult result, const char** text) {
  *text = result == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error of the driver's";
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int) {
  *device = 0;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) {
  *count = 1;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int length, CUdevice) {
  std::strncpy(name, "A driver that computes nothing", static_cast<std::size_t>(length));
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = 9;
      break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = 0;
      break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = 16;
      break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = 1024;
      break;
    default:
      *value = 1 << 16;
  }
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(std::size_t* bytes, CUdevice) {
  *bytes = std::size_t{1} << 30;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = nullptr;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = nullptr;
  return CUDA_SUCCESS;
}
CUresult cuMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = std::size_t{1} << 30;
  return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr* address, std::size_t bytes) {
  *address = reinterpret_cast<CUdeviceptr>(std::calloc(1, bytes));
  if (*address == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  ++metal_candle_cuda_sim_calls().blocks_held;
  ++metal_candle_cuda_sim_calls().blocks_made;
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  std::free(reinterpret_cast<void*>(address));
  if (address != 0) --metal_candle_cuda_sim_calls().blocks_held;
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t bytes, CUstream) {
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, std::size_t bytes) {
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr, unsigned char, std::size_t, CUstream stream) {
  return launch(stream);
}
CUresult cuStreamCreate(CUstream* stream, unsigned) { return make(stream); }
CUresult cuStreamSynchronize(CUstream stream) {
  std::uint64_t position = 0;
  {
    const std::lock_guard lock(mutex());
    position = stream->launched;
  }
  while (!is_done(stream, position)) std::this_thread::yield();
  return CUDA_SUCCESS;
}
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
CUresult cuStreamBeginCapture(CUstream, CUstreamCaptureMode) { return CUDA_SUCCESS; }
CUresult cuStreamEndCapture(CUstream, CUgraph* graph) { return make(graph); }
CUresult cuEventCreate(CUevent* event, unsigned) { return make(event); }
CUresult cuEventRecord(CUevent event, CUstream stream) {
  const std::lock_guard lock(mutex());
  *event = {stream, stream->launched};
  return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) {
  CUevent_st now;
  {
    const std::lock_guard lock(mutex());
    now = *event;
  }
  return now.stream == nullptr || is_done(now.stream, now.position) ? CUDA_SUCCESS
                                                                    : CUDA_ERROR_NOT_READY;
}
CUresult cuEventSynchronize(CUevent event) {
  while (cuEventQuery(event) != CUDA_SUCCESS) std::this_thread::yield();
  return CUDA_SUCCESS;
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent, CUevent) {
  *milliseconds = 0;
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
  delete event;
  return CUDA_SUCCESS;
}
CUresult cuLibraryLoadData(CUlibrary* library, const void*, CUjit_option*, void**, unsigned,
                           CUlibraryOption*, void**, unsigned) {
  static int any;
  *library = reinterpret_cast<CUlibrary>(&any);
  return CUDA_SUCCESS;
}
// There is a kernel of any name but this.
CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary, const char* name) {
  ++metal_candle_cuda_sim_calls().kernels_sought;
  if (std::strcmp(name, "no_such_kernel") == 0) return CUDA_ERROR_NOT_FOUND;
  *kernel = reinterpret_cast<CUkernel>(new int);  // Each unlike the others.
  const std::lock_guard lock(mutex());
  kernels()[*kernel].name = name;
  return CUDA_SUCCESS;
}
// Of any name, so that these are not all.
CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary) {
  *count = 2;
  return CUDA_SUCCESS;
}
CUresult cuLibraryEnumerateKernels(CUkernel* kernel, unsigned count, CUlibrary library) {
  for (unsigned i = 0; i < count; ++i) {
    cuLibraryGetKernel(kernel + i, library, i == 0 ? "one" : "another");
  }
  return CUDA_SUCCESS;
}
CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  ++metal_candle_cuda_sim_calls().kernels_loaded;
  *function = reinterpret_cast<CUfunction>(kernel);
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuLaunchKernel(CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned,
                        unsigned, unsigned, CUstream stream, void**, void**) {
  note_launch(function);
  return launch(stream);
}
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_SUCCESS;
}
CUresult cuGraphCreate(CUgraph* graph, unsigned) { return make(graph); }
CUresult cuGraphDestroy(CUgraph graph) {
  delete graph;
  return CUDA_SUCCESS;
}
CUresult cuGraphAddEmptyNode(CUgraphNode* node, CUgraph, const CUgraphNode*, std::size_t) {
  *node = any_node();
  return CUDA_SUCCESS;
}
CUresult cuGraphAddKernelNode(CUgraphNode* node, CUgraph, const CUgraphNode*, std::size_t,
                              const CUDA_KERNEL_NODE_PARAMS* parameters) {
  note_launch(parameters->func);
  *node = any_node();
  return CUDA_SUCCESS;
}
CUresult cuGraphAddMemsetNode(CUgraphNode* node, CUgraph, const CUgraphNode*, std::size_t,
                              const CUDA_MEMSET_NODE_PARAMS*, CUcontext) {
  *node = any_node();
  return CUDA_SUCCESS;
}
CUresult cuGraphAddChildGraphNode(CUgraphNode* node, CUgraph, const CUgraphNode*, std::size_t,
                                  CUgraph) {
  *node = any_node();
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiate(CUgraphExec* executable, CUgraph, unsigned long long) {
  {
    const std::lock_guard lock(mutex());
    if (graphs_to_fail > 0) {
      --graphs_to_fail;
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
  return make(executable);
}
CUresult cuGraphUpload(CUgraphExec, CUstream) { return CUDA_SUCCESS; }
CUresult cuGraphLaunch(CUgraphExec, CUstream stream) { return launch(stream); }
CUresult cuGraphExecDestroy(CUgraphExec executable) {
  delete executable;
  return CUDA_SUCCESS;
}
CUresult cuGraphExecKernelNodeSetParams(CUgraphExec, CUgraphNode, const CUDA_KERNEL_NODE_PARAMS*) {
  return CUDA_SUCCESS;
}
CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec, CUgraphNode, const CUDA_MEMSET_NODE_PARAMS*,
                                        CUcontext) {
  return CUDA_SUCCESS;
}
CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec, CUgraphNode, CUgraph) {
  return CUDA_SUCCESS;
}

}  // extern "C"
