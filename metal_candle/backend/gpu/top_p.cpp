// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// TopPThreshold: each row is sorted, and its weights are added up from the largest on.
//
// Inputs: kContiguous.
#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"
#include "metal_candle/backend/gpu/sort.h"

namespace metal_candle::backend::gpu {

std::unique_ptr<Kernel> make_top_p(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& x = request.inputs[0];
  const float p = std::get<op::TopPThreshold>(request.operation).p;
  const std::uint32_t n = checked_count(x.shape.back());
  const std::uint32_t rows = checked_count(num_elements(leading(x.shape, 1)));
  const TensorSpec sorted{x.shape, x.dtype};
  const SortPlan sort(x, TensorLayout::contiguous(sorted), x.shape.rank() - 1, true, false, device);
  const Function& function = device.function(fmt::format("top_p_{}", name(x.dtype)));
  const std::uint32_t threads = std::clamp((n + 31) / 32 * 32, 64u, 1024u);
  const std::size_t sorted_bytes = round_up(sorted.bytes(), 256);
  return make_gpu_kernel(
      [=, &function](const KernelArguments& run, Encoder& encoder) {
        void* const sort_scratch = static_cast<std::byte*>(run.scratch) + sorted_bytes;
        sort.encode(encoder, run.inputs[0], run.scratch, sort_scratch);
        const TopPArguments arguments{run.inputs[0], run.scratch, run.outputs[0], n, p};
        encoder.dispatch(function, {rows}, threads, arguments);
      },
      sorted_bytes + sort.scratch_bytes());
}

}  // namespace metal_candle::backend::gpu
