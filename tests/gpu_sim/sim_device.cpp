// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See sim_device.h.
#include "tests/gpu_sim/sim_device.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/core/error.h"
#include "tests/gpu_sim/fibres.h"

namespace metal_candle::gpu_sim {
namespace {

using backend::gpu::Function;
using backend::gpu::MatmulDescription;

std::atomic<std::uint64_t> grid_count{0};

class HostFunction final : public Function {
 public:
  explicit HostFunction(const HostKernel& kernel) : kernel_(kernel) {
    if (const HostKernel* merged = find_kernel(kernel.name + "_merged")) {
      merged_ = std::make_unique<HostFunction>(*merged);
    }
  }
  [[nodiscard]] const HostKernel& kernel() const { return kernel_; }
  [[nodiscard]] const Function* merged() const override { return merged_.get(); }

 private:
  HostKernel kernel_;
  std::unique_ptr<HostFunction> merged_;
};

double load(const void* base, std::int64_t index, DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return static_cast<float>(static_cast<const Float16*>(base)[index]);
    case DType::kBF16:
      return static_cast<float>(static_cast<const BFloat16*>(base)[index]);
    default:
      return static_cast<const float*>(base)[index];
  }
}

void store(void* base, std::int64_t index, DType dtype, double value) {
  const auto x = static_cast<float>(value);
  switch (dtype) {
    case DType::kF16:
      static_cast<Float16*>(base)[index] = Float16(x);
      break;
    case DType::kBF16:
      static_cast<BFloat16*>(base)[index] = BFloat16(x);
      break;
    default:
      static_cast<float*>(base)[index] = x;
  }
}

// A matrix product as its description says it, in double.
class HostMatmul final : public backend::gpu::Matmul {
 public:
  explicit HostMatmul(const MatmulDescription& description) : d_(description) {}

  void run(const backend::gpu::MatmulOperands& o) const {
    for (std::int64_t batch = 0; batch < d_.batch; ++batch) {
      for (std::int64_t i = 0; i < d_.m; ++i) {
        for (std::int64_t j = 0; j < d_.n; ++j) {
          double sum = 0;
          for (std::int64_t l = 0; l < d_.k; ++l) {
            sum += load(o.a, at(d_.a, batch, i, l), d_.operands) *
                   load(o.b, at(d_.b, batch, l, j), d_.operands);
          }
          double y = d_.alpha * sum + (d_.has_bias ? load(o.bias, j, d_.out) : 0);
          const std::int64_t index = batch * d_.out_batch_stride + i * d_.out_row_stride + j;
          if (d_.beta != 0) y += d_.beta * load(o.c, index, d_.out);
          store(o.out, index, d_.out, activated(y));
        }
      }
    }
  }

 private:
  static std::int64_t at(const MatmulDescription::Matrix& matrix, std::int64_t batch,
                         std::int64_t row, std::int64_t column) {
    return batch * matrix.batch_stride + row * matrix.row_stride + column * matrix.column_stride;
  }
  [[nodiscard]] double activated(double x) const {
    switch (d_.activation) {
      case op::Activation::kRelu:
        return std::max(x, 0.0);
      case op::Activation::kGeluTanh:
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      default:
        return x;
    }
  }

  MatmulDescription d_;
};

std::filesystem::path library_folder() {
  const char* temporary = std::getenv("TMPDIR");
  const std::filesystem::path folder =
      std::filesystem::path(temporary ? temporary : "/tmp") / "metal-candle-gpu-sim";
  std::filesystem::create_directories(folder);
  return folder;
}

std::string key_of(std::string_view name, const std::string& source) {
  return fmt::format("{}_{:016x}", name, std::hash<std::string>()(source));
}

// What kernels are compiled with, which outlives a process and so is part of a library's name.
const std::string& dialect() {
  static const std::string text = [] {
    std::string all;
    for (const char* file : {"dialect.h", "prelude_host.h", "kernels/merged.h", "kernels/common.h",
                             "kernels/element_functions.h"}) {
      std::ifstream in(
          fmt::format("{}/metal_candle/backend/gpu/{}", METAL_CANDLE_SOURCE_DIR, file));
      all.append(std::istreambuf_iterator<char>(in), {});
    }
    return all;
  }();
  return text;
}

}  // namespace

const Function& SimDevice::function(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto it = functions_.find(name);
  if (it != functions_.end()) return *it->second;
  const HostKernel* kernel = find_kernel(name);
  if (kernel == nullptr) throw DeviceError(fmt::format("gpu_sim: no kernel {}", name));
  return *functions_.emplace(std::string(name), std::make_unique<HostFunction>(*kernel))
              .first->second;
}

const Function& SimDevice::compile(std::string_view name, const std::string& source) {
  const std::string key = key_of(name, source);
  const auto find = [&]() -> const Function* {
    const std::lock_guard lock(mutex_);
    const auto it = functions_.find(key);
    return it == functions_.end() ? nullptr : it->second.get();
  };
  if (const Function* known = find()) return *known;
  const Source one(name, source);
  compile_together(std::span(&one, 1));
  return *find();
}

void SimDevice::compile_together(std::span<const Source> sources) {
  std::string text =
      "#define MC_PRELUDE_HOST\n#include \"metal_candle/backend/gpu/dialect.h\"\n"
      "#include \"metal_candle/backend/gpu/kernels/element_functions.h\"\n";
  for (const auto& [name, source] : sources) {
    text += fmt::format("namespace in_{} {{\n{}}}\n", name, source);
  }
  const std::filesystem::path library =
      library_folder() / (key_of(sources[0].first, dialect() + text) + ".so");
  if (!std::filesystem::exists(library)) {
    const std::string stem = fmt::format("{}.{}", library.string(), getpid());
    std::ofstream(stem + ".cpp") << text;
    // Hidden, so that nothing of that name in this program takes the place of a function.
    const std::string command = fmt::format(
        "c++ -std=c++20 -O1 -ffp-contract=off -w -fPIC -fvisibility=hidden -shared -I{} {}.cpp -o "
        "{}.so 2> {}.log",
        METAL_CANDLE_SOURCE_DIR, stem, stem, stem);
    if (std::system(command.c_str()) != 0) {
      std::ifstream log(stem + ".log");
      throw DeviceError(fmt::format("gpu_sim: {} does not compile:\n{}\n{}", sources[0].first,
                                    std::string(std::istreambuf_iterator<char>(log), {}), text));
    }
    std::filesystem::rename(stem + ".so", library);
    std::filesystem::remove(stem + ".cpp");
    std::filesystem::remove(stem + ".log");
  }
  const std::lock_guard lock(mutex_);
  // Loading it registers its kernels; this program exports the scheduler (ENABLE_EXPORTS).
  if (dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) {
    throw DeviceError(fmt::format("gpu_sim: {}", dlerror()));
  }
  for (const auto& [name, source] : sources) {
    const HostKernel* kernel = find_kernel(name);
    if (kernel == nullptr) throw DeviceError(fmt::format("gpu_sim: no kernel {}", name));
    functions_.emplace(key_of(name, source), std::make_unique<HostFunction>(*kernel));
  }
}

void SimDevice::describe(const backend::gpu::BoxedMatrix& matrix, TileMap& out) const {
  static_assert(sizeof(BoxedMatrix) <= sizeof(TileMap));
  const BoxedMatrix boxed{matrix.data,       matrix.rows,     matrix.columns,
                          matrix.row_stride, matrix.box_rows, matrix.box_columns};
  std::memcpy(&out, &boxed, sizeof(boxed));
}

std::shared_ptr<const backend::gpu::Matmul> SimDevice::make_matmul(
    const MatmulDescription& description) {
  if (description.activation == op::Activation::kGelu ||
      description.activation == op::Activation::kSilu) {
    return nullptr;  // As cuBLASLt, which has neither.
  }
  return std::make_shared<const HostMatmul>(description);
}

std::uint64_t grids_run() { return grid_count.load(std::memory_order_relaxed); }

void SimEncoder::zero(void* address, std::size_t bytes) { std::memset(address, 0, bytes); }

void SimEncoder::matmul(const backend::gpu::Matmul& product,
                        const backend::gpu::MatmulOperands& operands) {
  static_cast<const HostMatmul&>(product).run(operands);
}

void SimEncoder::dispatch_bytes(const Function& function, backend::gpu::Grid grid,
                                std::uint32_t threads, std::uint32_t dynamic_group_bytes,
                                const void* arguments, std::size_t bytes) {
  grid_count.fetch_add(1, std::memory_order_relaxed);
  run_grid(static_cast<const HostFunction&>(function).kernel(), grid.x, grid.y, grid.z, threads,
           dynamic_group_bytes, arguments, bytes);
}

}  // namespace metal_candle::gpu_sim
