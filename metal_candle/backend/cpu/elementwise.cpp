// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels of elementwise operations: how the output is cut into work for threads.
#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/backend/cpu/elementwise_tiles.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/tuning.h"

namespace metal_candle::backend::cpu {
namespace {

// Results larger than this are written past the caches: they would not stay there, and a plain
// store reads each line before it overwrites it.
constexpr std::int64_t kStreamBytes = std::int64_t{16} << 20;
// Work for one thread, in additions of f32: about 10 microseconds.
constexpr std::int64_t kGrainWork = 65536;

class TiledKernel {
 public:
  explicit TiledKernel(const KernelRequest& request)
      : tiles_(request.operation, request.inputs,
               {request.outputs[0].shape, request.outputs[0].dtype}),
        output_bytes_(static_cast<std::int64_t>(size_of(request.outputs[0].dtype))),
        stream_(tiles_.elements() * output_bytes_ >= kStreamBytes) {
    tiles_per_row_ = (tiles_.row() + tiles_.tile() - 1) / tiles_.tile();
    const std::int64_t cost = tiles_.program().cost();
    const std::int64_t work =
        tuning(Device::cpu())
            .get(Tunable::kElementwiseGrain,
                 ShapeClass::of(request.outputs[0].dtype, {tiles_.elements(), cost}), kGrainWork);
    grain_ = std::max<std::int64_t>(1, work / (cost * std::min(tiles_.tile(), tiles_.row())));
  }

  [[nodiscard]] std::size_t scratch_bytes() const { return tiles_.copied_bytes(); }

  void operator()(const KernelArguments& arguments) const {
    if (tiles_.elements() == 0) return;
    std::vector<const void*> addresses;
    const auto inputs = tiles_.copied(arguments.inputs, arguments.scratch, addresses);
    const std::int64_t tiles = (tiles_.elements() / tiles_.row()) * tiles_per_row_;
    parallel_for(tiles, grain_, [&](std::int64_t begin, std::int64_t end) {
      const ElementwiseTiles::Reader reader(tiles_, inputs);
      const std::int64_t first = begin_of(begin), last = begin_of(end);
      auto* out = static_cast<std::byte*>(arguments.outputs[0]);
      reader.compute(first, last - first, out + first * output_bytes_, stream_);
      if (stream_) float_steps().stream_fence();
    });
  }

 private:
  [[nodiscard]] std::int64_t begin_of(std::int64_t tile) const {
    return tile / tiles_per_row_ * tiles_.row() + tile % tiles_per_row_ * tiles_.tile();
  }

  ElementwiseTiles tiles_;
  std::int64_t output_bytes_;  // Of an element.
  bool stream_;
  std::int64_t tiles_per_row_;
  std::int64_t grain_;  // In tiles.
};

std::unique_ptr<Kernel> make_tiled(const KernelRequest& request) {
  TiledKernel kernel(request);
  const std::size_t scratch = kernel.scratch_bytes();
  return make_cpu_kernel(std::move(kernel), scratch);
}

std::unique_ptr<Kernel> make_full(const op::Full& full, const TensorLayout& output) {
  std::array<std::byte, 8> value{};
  store_scalar(full.value, output.dtype, value.data());
  const std::int64_t count = num_elements(output.shape);
  const std::size_t bytes = size_of(output.dtype);
  return make_cpu_kernel([=](const KernelArguments& arguments) {
    auto* out = static_cast<std::byte*>(arguments.outputs[0]);
    parallel_for(count, kGrainWork, [&](std::int64_t begin, std::int64_t end) {
      fill_elements(out + begin * static_cast<std::int64_t>(bytes), value.data(), bytes,
                    static_cast<std::size_t>(end - begin));
    });
  });
}

// Integers exactly, wrapping; floating dtypes in double, rounded once.
template <typename T>
void arange(const op::Arange& range, T* out, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    if constexpr (is_floating(dtype_of<T>())) {
      const double value = range.start.real + static_cast<double>(i) * range.step.real;
      out[i] = static_cast<T>(static_cast<float>(value));
    } else {
      const auto steps =
          static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(range.step.integer);
      out[i] = static_cast<T>(static_cast<std::uint64_t>(range.start.integer) + steps);
    }
  }
}

std::unique_ptr<Kernel> make_arange(const op::Arange& range, const TensorLayout& output) {
  const std::int64_t count = num_elements(output.shape);
  return make_cpu_kernel([range, count, dtype = output.dtype](const KernelArguments& arguments) {
    parallel_for(count, kGrainWork, [&](std::int64_t begin, std::int64_t end) {
      dispatch_dtype(dtype, [&](auto zero) {
        arange(range, static_cast<decltype(zero)*>(arguments.outputs[0]), begin, end);
      });
    });
  });
}

}  // namespace

std::unique_ptr<Kernel> make_elementwise(const KernelRequest& request) {
  const TensorLayout& output = request.outputs[0];
  if (const auto* full = std::get_if<op::Full>(&request.operation)) return make_full(*full, output);
  if (const auto* range = std::get_if<op::Arange>(&request.operation)) {
    return make_arange(*range, output);
  }
  return make_tiled(request);
}

}  // namespace metal_candle::backend::cpu
