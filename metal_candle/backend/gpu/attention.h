// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What attention and its gradient share on GPUs: where the operands lie.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"

namespace metal_candle::backend::gpu {

/// Elements of q's and v's rows that kernels take; wider heads are decomposed.
inline constexpr std::int64_t kMaxAttentionWidth = 512;

/// Shapes and strides; made once.
struct AttentionPlan {
  AttentionProblem problem{};  // But for addresses.
  HeadStrides out_strides{};   // Of the output of the forward pass.
  int mask_input = -1, length_input = -1;
  DType dtype = DType::kF32;

  /// The first inputs are q, k and v; mask and key_length begin at input `optional`.
  AttentionPlan(const op::Attention& attention, std::span<const TensorLayout> inputs, int optional);
  [[nodiscard]] AttentionProblem with(std::span<void* const> inputs) const;

  /// Batches times key heads.
  [[nodiscard]] std::int64_t shares() const {
    return std::int64_t{problem.batch} * problem.key_heads;
  }
  /// Rows of all query heads that share a key head.
  [[nodiscard]] std::int64_t share_rows() const {
    return std::int64_t{problem.heads / problem.key_heads} * problem.queries;
  }
  [[nodiscard]] std::int64_t rows() const { return shares() * share_rows(); }
  /// Groups of so many rows of one share.
  [[nodiscard]] std::int64_t row_groups(std::int64_t group_rows) const {
    return shares() * ((share_rows() + group_rows - 1) / group_rows);
  }
  /// Rows of q, k and v are of whole packets, of 16 bytes, one after another.
  [[nodiscard]] bool in_packets() const;
  /// Nothing to compute: no rows.
  [[nodiscard]] bool empty() const;
};

/// [batch, heads, rows, width] as kernels see it.
[[nodiscard]] HeadStrides head_strides(const Strides& strides);
/// Elements of a packet divide what lies between rows.
[[nodiscard]] bool in_packets(const HeadStrides& strides, DType dtype);

std::unique_ptr<Kernel> make_attention_backward(const KernelRequest& request, GpuDevice& device);

}  // namespace metal_candle::backend::gpu
