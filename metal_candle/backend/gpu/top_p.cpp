// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// TopPThreshold, by selection: kernels/top_p.h.
//
// Inputs: kContiguous.
#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = kTopPCells;  // Of the first two kernels,
constexpr std::uint32_t kFindThreads = 1024;    // and of the third: kTopPBins.
constexpr std::uint32_t kLeastChunk = 2048;     // Elements worth a group of their own.

// Into how many chunks each of `rows` rows of n elements is cut.
std::uint32_t chunk_count(std::uint32_t n, std::uint32_t rows, std::uint32_t multiprocessors) {
  const std::uint32_t for_device = multiprocessors / std::max(rows, 1u);
  return std::clamp(std::min(groups_for(n, kLeastChunk), for_device), 1u,
                    std::uint32_t{kTopPChunks});
}

// Gives out a block of memory part by part; of null, nothing but how much that would be.
class Parts {
 public:
  explicit Parts(void* memory) : memory_(static_cast<std::byte*>(memory)) {}
  template <typename T>
  T* take(std::size_t count) {
    T* const part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += round_up(count * sizeof(T), 256);
    return part;
  }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

// Returns how much scratch memory it takes.
std::size_t place(TopPArguments& arguments, std::uint32_t rows, void* scratch) {
  Parts parts(scratch);
  const std::size_t chunks = std::size_t{rows} * arguments.chunks;
  arguments.largest = parts.take<float>(chunks);
  arguments.weights = parts.take<float>(chunks * kTopPCells);
  arguments.crossings = parts.take<TopPCrossing>(rows);
  arguments.candidates = parts.take<float>(std::size_t{rows} * arguments.n);
  arguments.candidate_counts = parts.take<std::uint32_t>(rows);
  return parts.used();
}

}  // namespace

std::unique_ptr<Kernel> make_top_p(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& x = request.inputs[0];
  const std::uint32_t rows = checked_count(num_elements(leading(x.shape, 1)));
  TopPArguments common{};
  common.n = checked_count(x.shape.back());
  common.p = std::get<op::TopPThreshold>(request.operation).p;
  common.chunk = groups_for(common.n, chunk_count(common.n, rows, device.limits().multiprocessors));
  common.chunks = groups_for(common.n, common.chunk);
  const std::uint32_t groups = checked_count(std::int64_t{rows} * common.chunks);
  const auto function = [&](const char* step) -> const Function& {
    return device.function(fmt::format("top_p_{}_{}", step, name(x.dtype)));
  };
  TopPArguments placed = common;
  return make_gpu_kernel(
      [=, &weigh = function("weigh"), &gather = function("gather"), &find = function("find")](
          const KernelArguments& run, Encoder& encoder) {
        TopPArguments arguments = common;
        place(arguments, rows, run.scratch);
        arguments.x = run.inputs[0];
        arguments.out = run.outputs[0];
        encoder.dispatch(weigh, {groups}, kThreads, arguments);
        encoder.dispatch(gather, {groups}, kThreads, arguments);
        encoder.dispatch(find, {rows}, kFindThreads, arguments);
      },
      place(placed, rows, nullptr));
}

}  // namespace metal_candle::backend::gpu
