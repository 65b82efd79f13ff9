// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See warm_up.h.
#include "metal_candle/backend/cuda/warm_up.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>

#include "metal_candle/backend/cuda/cuda_matmul.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

void load_kernels(const CudaDevice& device, CUlibrary library) {
  device.enter();
  unsigned count = 0;
  check(driver().cuLibraryGetKernelCount(&count, library), "cuLibraryGetKernelCount");
  std::vector<CUkernel> kernels(count);
  check(driver().cuLibraryEnumerateKernels(kernels.data(), count, library),
        "cuLibraryEnumerateKernels");
  for (const CUkernel kernel : kernels) {
    CUfunction function = nullptr;
    check(driver().cuKernelGetFunction(&function, kernel), "cuKernelGetFunction");
  }
}

struct Product {
  DType dtype;
  std::int64_t m, k, n;
  op::Activation activation = op::Activation::kNone;
};

// Those of a layer's MLP, of few rows and of many, and of LoRA's factors.
std::vector<Product> usual_products() {
  std::vector<Product> products;
  const auto lora = [&](DType dtype, std::int64_t m, std::int64_t d, std::int64_t rank) {
    products.push_back({dtype, m, d, rank});
    products.push_back({dtype, m, rank, d});
  };
  for (const std::int64_t m : {1, 16, 128}) {
    products.push_back({DType::kBF16, m, 1024, 4096, op::Activation::kGeluTanh});
    products.push_back({DType::kBF16, m, 4096, 1024});
  }
  for (const std::int64_t m : {128, 2048}) lora(DType::kBF16, m, 4096, 16);
  // Smaller ones are for kernels of ours.
  for (const std::int64_t d : {1024, 4096}) lora(DType::kF32, 2048, d, 64);
  for (const std::int64_t m : {16, 128}) {
    products.push_back({DType::kF32, m, 1024, 4096});
    products.push_back({DType::kF32, m, 4096, 1024});
  }
  return products;
}

// Where products find their operands, which may be anything, and put what they make of them.
class Room {
 public:
  explicit Room(CudaDevice& device) : device_(device) {
    device.enter();
    check(driver().cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    memory_ = static_cast<std::byte*>(device.obtain(kBytes));
  }
  ~Room() {
    if (memory_ == nullptr) return;
    device_.enter();
    driver().cuStreamSynchronize(stream_);
    device_.give_back(memory_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  void run(const Product& p) {
    const auto size = static_cast<std::int64_t>(size_of(p.dtype));
    gpu::MatmulDescription d;
    d.m = p.m;
    d.n = p.n;
    d.k = p.k;
    d.a = {p.k, 1, 0};
    d.b = {p.n, 1, 0};
    d.out_row_stride = p.n;
    d.operands = d.out = p.dtype;
    d.activation = p.activation;
    const std::shared_ptr<const CudaMatmul> product = CudaMatmul::make(device_, d);
    if (product == nullptr || memory_ == nullptr) return;
    gpu::MatmulOperands operands;
    std::byte* next = memory_;
    const auto take = [&](std::int64_t bytes) {
      std::byte* const taken = next;
      next += gpu::round_up(static_cast<std::size_t>(bytes), kAlignment);
      return taken;
    };
    operands.a = take(p.m * p.k * size);
    operands.b = take(p.k * p.n * size);
    operands.out = take(p.m * p.n * size);
    operands.c = operands.out;
    operands.scratch = take(static_cast<std::int64_t>(product->scratch_bytes()));
    if (next > memory_ + kBytes) return;
    device_.enter();
    product->run(operands, stream_);
  }

 private:
  // The largest operands, and the most that the library takes to work with.
  static constexpr std::size_t kBytes = std::size_t{96} << 20;
  static constexpr std::size_t kAlignment = 256;

  CudaDevice& device_;
  CUstream stream_ = nullptr;
  std::byte* memory_ = nullptr;
};

template <typename Fn>
std::function<void()> quietly(Fn fn) {
  return [fn = std::move(fn)] {
    try {
      fn();
    } catch (const std::exception&) {
      // Whoever needs it meets the same.
    }
  };
}

}  // namespace

std::vector<std::function<void()>> warm_up_tasks(CudaDevice& device, CUlibrary library) {
  std::vector<std::function<void()>> tasks;
  tasks.push_back(quietly([&device, library] { load_kernels(device, library); }));
  const auto room = std::make_shared<std::unique_ptr<Room>>();
  tasks.push_back(quietly([&device, room] { *room = std::make_unique<Room>(device); }));
  for (const Product& product : usual_products()) {
    tasks.push_back(quietly([room, product] {
      if (*room) (*room)->run(product);
    }));
  }
  tasks.push_back(quietly([room] { room->reset(); }));
  return tasks;
}

}  // namespace metal_candle::backend::cuda
