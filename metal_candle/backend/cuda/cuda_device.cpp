// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cuda_device.h.
#include "metal_candle/backend/cuda/cuda_device.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "metal_candle/backend/cuda/embedded.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/cache_folder.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

namespace fs = std::filesystem;

int attribute(CUdevice device, CUdevice_attribute which) {
  int value = 0;
  check(driver().cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

// Compiled kernels of this user; empty if there is nowhere to keep them.
fs::path cache_folder() {
  const fs::path folder = user_cache_folder();
  return folder.empty() ? folder : folder / "cuda";
}

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

// Files of the cache begin with the text they were made of, so that a hash that two texts share
// does no harm.
std::vector<char> read_cached(const fs::path& path, const std::string& key) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const std::size_t header = key.size() + 1;
  if (bytes.size() <= header || std::string_view(bytes.data(), key.size()) != key) return {};
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
  return bytes;
}

void write_cached(const fs::path& path, const std::string& key, const std::vector<char>& image) {
  try {
    fs::create_directories(path.parent_path());
    AtomicFile file(path.string());
    file.write(key);
    file.write(std::string_view("\0", 1));
    file.write(std::string_view(image.data(), image.size()));
    file.commit();
  } catch (const std::exception&) {
    // A cache that cannot be written costs time, not correctness.
  }
}

struct NvrtcVersion {
  int major = 0;
  int minor = 0;
};

std::vector<char> compile_with_nvrtc(std::string_view name, const std::string& text,
                                     const std::string& architecture, NvrtcVersion version) {
  const Nvrtc& library = nvrtc();
  nvrtcProgram program = nullptr;
  check(library.nvrtcCreateProgram(&program, text.c_str(), std::string(name).c_str(), 0, nullptr,
                                   nullptr),
        "nvrtcCreateProgram");
  const std::string target = "--gpu-architecture=" + architecture;
  std::vector<const char*> options = {target.c_str(), "--std=c++17"};
  // Without textures and the runtime's types, which take a tenth of the time.
  if (version.major > 12 || version.minor >= 4) options.push_back("--minimal");
  const nvrtcResult result =
      library.nvrtcCompileProgram(program, static_cast<int>(options.size()), options.data());
  if (result != NVRTC_SUCCESS) {
    std::size_t size = 0;
    library.nvrtcGetProgramLogSize(program, &size);
    std::string log(size, '\0');
    library.nvrtcGetProgramLog(program, log.data());
    library.nvrtcDestroyProgram(&program);
    throw DeviceError(fmt::format("cuda: {} does not compile: {}\n{}", name, log, text));
  }
  std::size_t size = 0;
  check(library.nvrtcGetCUBINSize(program, &size), "nvrtcGetCUBINSize");
  std::vector<char> image(size);
  check(library.nvrtcGetCUBIN(program, image.data()), "nvrtcGetCUBIN");
  library.nvrtcDestroyProgram(&program);
  return image;
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
    merged_ =
        make_merged_ ? make_merged_() : find(device_, library_, fmt::format("{}_merged", name_));
  });
  return merged_.get();
}

void CudaFunction::allow_group_bytes(std::uint32_t bytes) const {
  const std::lock_guard lock(mutex_);
  if (bytes <= allowed_group_bytes_) return;
  check(driver().cuFuncSetAttribute(handle(), CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                    static_cast<int>(bytes)),
        "cuFuncSetAttribute");
  allowed_group_bytes_ = bytes;
}

CudaDevice::CudaDevice(int index) : id_{DeviceType::kCuda, static_cast<std::uint8_t>(index)} {
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
  check(cublas_lt().cublasLtCreate(&cublas_), "cublasLtCreate");
  static_cast<void>(
      nvrtc());  // Its absence is one clear error now, not one in the middle of a run.
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

std::unique_ptr<CudaFunction> CudaDevice::compile_one(const std::string& name,
                                                      std::string_view macro,
                                                      const std::string& source) const {
  enter();
  const std::string text = fmt::format("#define {}\n{}{}", macro, kDialectText, source);
  const std::string architecture = fmt::format("sm_{}", limits_.architecture);
  NvrtcVersion version;
  check(nvrtc().nvrtcVersion(&version.major, &version.minor), "nvrtcVersion");
  const std::string key =
      fmt::format("// {} NVRTC {}.{}\n{}", architecture, version.major, version.minor, text);
  const fs::path folder = cache_folder();
  const fs::path path = folder / fmt::format("{}-{:016x}.cubin", name, fnv1a(key));
  std::vector<char> image;
  if (!folder.empty()) image = read_cached(path, key);
  if (image.empty()) {
    image = compile_with_nvrtc(name, text, architecture, version);
    if (!folder.empty()) write_cached(path, key, image);
  }
  return require(*this, load(image.data()), name);
}

const gpu::Function& CudaDevice::compile(std::string_view name, const std::string& source) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = functions_.find(source);
    if (it != functions_.end()) return *it->second;
  }
  std::unique_ptr<CudaFunction> function = compile_one(std::string(name), "MC_ONLY_ONE", source);
  // Most are never merged, and both together take twice as long.
  function->set_merged([this, merged = fmt::format("{}_merged", name), source] {
    return compile_one(merged, "MC_ONLY_MANY", source);
  });
  const std::lock_guard lock(mutex_);
  return *functions_.emplace(source, std::move(function)).first->second;
}

}  // namespace metal_candle::backend::cuda
