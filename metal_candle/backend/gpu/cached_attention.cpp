// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A step of decoding over a cache, for one query a head: a kernel instead of the four or five that
// rotate, put rows in place and attend.
//
// Inputs: kContiguous. New caches may overwrite the old ones (inputs 3 and 4); otherwise those are
// copied first.
#include "metal_candle/backend/gpu/cached_attention.h"

#include <fmt/format.h>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/rows.h"
#include "metal_candle/backend/gpu/strided_copy.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 256;       // kernels/cached_attention.h
constexpr std::int64_t kLongestCache = 1024;  // Longer ones are better divided among groups.

}  // namespace

bool suits_cached_attention(const op::CachedAttention& operation,
                            std::span<const TensorSpec> inputs, const DeviceLimits& limits) {
  const Shape &q = inputs[0].shape, &keys = inputs[3].shape, &values = inputs[4].shape;
  const std::int64_t rows = q[0] * q[1];
  const std::int64_t capacity = keys[2];
  return q[2] == 1 && (q[3] == 64 || q[3] == 128) && values[3] == q[3] && rows > 0 &&
         rows <= 4 * std::int64_t{limits.multiprocessors} && capacity <= kLongestCache &&
         (operation.attention.window == 0 || operation.attention.window >= capacity) &&
         !operation.rope.interleaved && !operation.rope.inverse;
}

std::unique_ptr<Kernel> make_cached_attention(const KernelRequest& request, GpuDevice& device) {
  const auto& o = std::get<op::CachedAttention>(request.operation);
  const Shape& q = request.inputs[0].shape;
  const TensorLayout& keys = request.inputs[3];
  CachedAttentionArguments common{};
  common.capacity = static_cast<std::int32_t>(keys.shape[2]);
  common.dims = o.rope.dims;
  common.length_stride = request.inputs[7].shape.empty() ? 0 : 1;
  common.scale = o.attention.scale;
  common.rope_scale = o.rope.scale;
  const Grid grid{static_cast<std::uint32_t>(q[1] / keys.shape[1]),
                  static_cast<std::uint32_t>(keys.shape[1]), static_cast<std::uint32_t>(q[0])};
  const std::string name =
      fmt::format("cached_attention_{}_{}", q[3], metal_candle::name(keys.dtype));
  const Function& aligned = device.function(name);
  const Function& unaligned = device.function(name + "_unaligned");
  const StridedCopy copy(device, keys.shape, keys.strides, keys.strides, size_of(keys.dtype));
  return make_gpu_kernel([=, &aligned, &unaligned](const KernelArguments& run, Encoder& encoder) {
    CachedAttentionArguments a = common;
    a.q = run.inputs[0];
    a.k = run.inputs[1];
    a.v = run.inputs[2];
    a.keys = run.inputs[3];
    a.values = run.inputs[4];
    a.offset = static_cast<const std::int32_t*>(run.inputs[5]);
    a.frequencies = static_cast<const float*>(run.inputs[6]);
    a.key_length = static_cast<const std::int32_t*>(run.inputs[7]);
    a.out = run.outputs[0];
    a.new_keys = run.outputs[1];
    a.new_values = run.outputs[2];
    if (a.new_keys != nullptr && a.new_keys != a.keys) copy.encode(encoder, a.keys, a.new_keys);
    if (a.new_values != nullptr && a.new_values != a.values) {
      copy.encode(encoder, a.values, a.new_values);
    }
    const bool packets = is_aligned(a.keys) && is_aligned(a.values);
    encoder.dispatch(packets ? aligned : unaligned, grid, kThreads, a);
  });
}

}  // namespace metal_candle::backend::gpu
