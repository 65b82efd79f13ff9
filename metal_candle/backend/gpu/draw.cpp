// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Draw: sums of chunks, and then a group a row that finds its way down (kernels/draw.h).
//
// Inputs: kContiguous.
#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {

std::unique_ptr<Kernel> make_draw(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& x = request.inputs[0];
  const std::uint32_t rows = checked_count(num_elements(request.outputs[0].shape));
  const ChunkSums sums(device, plan_rows_of({x}));
  const RowChunks& chunks = sums.chunks();
  const Function& function = device.function(fmt::format("draw_{}", name(x.dtype)));
  const std::uint32_t threads = std::clamp((chunks.chunk + 31) / 32 * 32, 32u, 1024u);
  return make_gpu_kernel(
      [=, &function, n = checked_count(x.shape.back())](const KernelArguments& run,
                                                        Encoder& encoder) {
        sums.encode(encoder, run.inputs[0], run.scratch);
        encoder.dispatch(function, {rows}, threads,
                         DrawArguments{.x = run.inputs[0],
                                       .u = static_cast<const float*>(run.inputs[1]),
                                       .partials = static_cast<const float*>(run.scratch),
                                       .out = static_cast<std::int32_t*>(run.outputs[0]),
                                       .n = n,
                                       .chunk = sums.chunks().chunk,
                                       .chunks = sums.chunks().count});
      },
      sums.bytes());
}

}  // namespace metal_candle::backend::gpu
