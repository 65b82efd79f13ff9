// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cuda_device.h.
#include "metal_candle/backend/cuda/cuda_device.h"

#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <string_view>
#include <utility>

#include "metal_candle/backend/cuda/embedded.h"
#include "metal_candle/backend/cuda/warm_up.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

constexpr std::string_view kOne = "MC_ONLY_ONE", kMany = "MC_ONLY_MANY";

// Users may want to wait for compilers rather than see kernels change.
bool compiles_at_once() {
  const char* when = std::getenv("METAL_CANDLE_COMPILE");
  if (when == nullptr || *when == 0 || std::string_view(when) == "later") return false;
  if (std::string_view(when) == "now") return true;
  throw DeviceError(fmt::format("METAL_CANDLE_COMPILE is \"{}\", neither now nor later", when));
}

int attribute(CUdevice device, CUdevice_attribute which) {
  int value = 0;
  check(driver().cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

// Loaded when one of its kernels is first used, and never unloaded.
CUlibrary load(const void* image) {
  CUlibrary library = nullptr;
  check(driver().cuLibraryLoadData(&library, image, nullptr, nullptr, 0, nullptr, nullptr, 0),
        "cuLibraryLoadData");
  return library;
}

std::unique_ptr<CudaFunction> require(const CudaDevice& device, CUlibrary library,
                                      std::string_view name) {
  std::unique_ptr<CudaFunction> function = CudaFunction::find(device, library, std::string(name));
  if (!function) throw DeviceError(fmt::format("cuda: no kernel {}", name));
  return function;
}

}  // namespace

std::unique_ptr<CudaFunction> CudaFunction::find(const CudaDevice& device, CUlibrary library,
                                                 std::string name) {
  CUkernel kernel = nullptr;
  const CUresult result = driver().cuLibraryGetKernel(&kernel, library, name.c_str());
  if (result == CUDA_ERROR_NOT_FOUND) return nullptr;
  check(result, name.c_str());
  return std::unique_ptr<CudaFunction>(new CudaFunction(device, library, kernel, std::move(name)));
}

// Threads that come at once get the same from the driver.
CUfunction CudaFunction::load() const {
  device_.enter();
  CUfunction function = nullptr;
  check(driver().cuKernelGetFunction(&function, kernel_), name_.c_str());
  handle_.store(function, std::memory_order_release);
  return function;
}

const gpu::Function* CudaFunction::merged() const {
  std::call_once(merged_made_, [&] {
    device_.enter();
    if (make_merged_) {
      merged_later_ = make_merged_();
    } else {
      merged_ = find(device_, library_, fmt::format("{}_merged", name_));
    }
  });
  return merged_later_ ? merged_later_->get() : merged_.get();
}

void CudaFunction::allow_group_bytes(std::uint32_t bytes) const {
  const std::lock_guard lock(mutex_);
  if (bytes <= allowed_group_bytes_) return;
  check(driver().cuFuncSetAttribute(handle(), CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                    static_cast<int>(bytes)),
        "cuFuncSetAttribute");
  allowed_group_bytes_ = bytes;
}

CudaDevice::CudaDevice(int index)
    : id_{DeviceType::kCuda, static_cast<std::uint8_t>(index)},
      compiles_at_once_(compiles_at_once()) {
  int count = 0;
  check(driver().cuDeviceGetCount(&count), "cuDeviceGetCount");
  if (index >= count) {
    throw DeviceError(fmt::format("cuda:{}: this machine has {} NVIDIA GPU{}", index, count,
                                  count == 1 ? "" : "s"));
  }
  check(driver().cuDeviceGet(&device_, index), "cuDeviceGet");
  check(driver().cuDevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain");
  enter();
  const auto value = [&](CUdevice_attribute which) {
    return static_cast<std::uint32_t>(attribute(device_, which));
  };
  limits_.multiprocessors = value(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  limits_.max_threads = value(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  limits_.max_group_bytes = value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  limits_.architecture = static_cast<int>(10 * value(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
                                          value(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
  check(driver().cuDeviceTotalMem(&total_memory_, device_), "cuDeviceTotalMem");
  library_ = load(kernel_image());
  // There where the library was compiled for exactly this architecture.
  const auto wide = CudaFunction::find(*this, library_, "attention_dq_wide_64_bf16");
  limits_.wide_products = wide != nullptr;
  // The first function that is loaded brings the library onto the device.
  if (wide) static_cast<void>(wide->handle());
  // The first run of a program is not to wait for this one.
  auto program = require(*this, load(element_image()), "element_program");
  static_cast<void>(program->handle());
  functions_.emplace(program->name(), std::move(program));
  check(cublas_lt().cublasLtCreate(&cublas_), "cublasLtCreate");
  // The absence of NVRTC is one clear error now, not one in the middle of a run.
  compiler_.emplace(limits_.architecture);
  // The functions of another one might differ in a last bit from what interprets programs.
  if (compiler_->version() != CUDA_VERSION) compiles_at_once_ = true;
}

void CudaDevice::enter() const {
  thread_local CUcontext current = nullptr;
  if (current == context_) return;
  check(driver().cuCtxSetCurrent(context_), "cuCtxSetCurrent");
  current = context_;
}

std::string CudaDevice::name() const {
  char text[256] = {};
  check(driver().cuDeviceGetName(text, sizeof(text), device_), "cuDeviceGetName");
  return text;
}

void* CudaDevice::obtain(std::size_t size) {
  enter();
  CUdeviceptr block = 0;
  const CUresult result = driver().cuMemAlloc(&block, size);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return nullptr;
  check(result, "cuMemAlloc");
  return reinterpret_cast<void*>(block);
}

void CudaDevice::give_back(void* block) {
  if (abandoned_.load(std::memory_order_relaxed)) return;
  enter();
  driver().cuMemFree(reinterpret_cast<CUdeviceptr>(block));
}

const gpu::Function& CudaDevice::function(std::string_view name) {
  enter();
  const std::lock_guard lock(mutex_);
  const auto it = functions_.find(name);
  if (it != functions_.end()) return *it->second;
  return *functions_.emplace(std::string(name), require(*this, library_, name)).first->second;
}

void CudaDevice::describe(const gpu::BoxedMatrix& matrix, TileMap& out) const {
  static_assert(sizeof(CUtensorMap) == sizeof(TileMap));
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(matrix.columns),
                              static_cast<cuuint64_t>(matrix.rows)};
  const cuuint64_t row_bytes[] = {static_cast<cuuint64_t>(matrix.row_stride) * 2};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(matrix.box_columns),
                            static_cast<cuuint32_t>(matrix.box_rows)};
  const cuuint32_t steps[] = {1, 1};
  // The address is not const there, but nothing is written by this description.
  check(driver().cuTensorMapEncodeTiled(
            reinterpret_cast<CUtensorMap*>(&out), CU_TENSOR_MAP_DATA_TYPE_UINT16, 2,
            const_cast<void*>(matrix.data), sizes, row_bytes, box, steps,
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
        "cuTensorMapEncodeTiled");
}

std::shared_ptr<const gpu::PendingFunction> CudaDevice::compile_later(std::string_view name,
                                                                      const std::string& source) {
  return request({std::string(name), kOne, source});
}

const gpu::Function& CudaDevice::compile(std::string_view name, const std::string& source) {
  const KernelText text{std::string(name), kOne, source};
  {
    const std::lock_guard lock(mutex_);
    const Generated& generated = generated_[key_of(text)];
    if (generated.function) return *generated.function;
  }
  std::vector<char> image = compiler_->find(text);
  if (image.empty()) image = compiler_->compile(text);
  return keep(text, image);
}

std::uint64_t CudaDevice::finish_compiling() { return background_.finish(); }

void CudaDevice::warm_up() {
  for (std::function<void()>& task : warm_up_tasks(*this, library_)) {
    background_.add(std::move(task));
  }
}

void CudaDevice::stop_compiling() { background_.stop(); }

std::string CudaDevice::key_of(const KernelText& text) {
  return fmt::format("{}\n{}", text.macro, text.source);
}

const CudaFunction& CudaDevice::keep(const KernelText& text, const std::vector<char>& image) {
  enter();
  std::unique_ptr<CudaFunction> function = require(*this, load(image.data()), text.name);
  static_cast<void>(function->handle());
  // Most are never merged, and both together take twice as long.
  if (text.macro == kOne) {
    function->set_merged([this, many = KernelText{text.name + "_merged", kMany, text.source}] {
      return request(many);
    });
  }
  const std::lock_guard lock(mutex_);
  Generated& generated = generated_[key_of(text)];
  if (!generated.function) generated.function = std::move(function);
  if (generated.pending) generated.pending->deliver(*generated.function);
  return *generated.function;
}

std::shared_ptr<const gpu::PendingFunction> CudaDevice::request(const KernelText& text) {
  std::shared_ptr<gpu::PendingFunction> pending;
  {
    const std::lock_guard lock(mutex_);
    Generated& generated = generated_[key_of(text)];
    if (generated.pending) return generated.pending;
    pending = generated.pending = std::make_shared<gpu::PendingFunction>();
    if (generated.function) {
      pending->deliver(*generated.function);
      return pending;
    }
  }
  const auto make = [this, text, pending](const std::vector<char>& image) {
    try {
      keep(text, image.empty() ? compiler_->compile(text) : image);
    } catch (const std::exception& error) {
      pending->fail(error.what());
    }
  };
  const std::vector<char> image = compiler_->find(text);
  if (compiles_at_once_ || !image.empty()) {
    make(image);
  } else {
    background_.add([make] { make({}); });
  }
  return pending;
}

}  // namespace metal_candle::backend::cuda
