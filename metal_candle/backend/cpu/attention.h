// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What attention and its gradient share: where the operands lie, and the scores of a tile.
//
// The query heads that share a key head are computed together: a row is (head of the group, query),
// numbered head by head, so that in decoding a key is read once for the whole group.
#pragma once

#include <cstdint>
#include <memory>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/gemm.h"

namespace metal_candle::backend::cpu {

/// Rows and keys of a tile. A tile of scores (48 KiB) and one of keys stay in L2, and packing the
/// keys is shared by many rows.
inline constexpr std::int64_t kRowTile = 96;
inline constexpr std::int64_t kKeyTile = 128;

/// Shapes and strides; made once.
struct AttentionPlan {
  op::Attention operation;
  DType dtype = DType::kF32;
  std::int64_t batch = 0, heads = 0, key_heads = 0, queries = 0, keys = 0, width = 0,
               value_width = 0;
  Strides q, k, v;
  int mask_input = -1, length_input = -1;  // Numbers of the inputs, -1 if there are none.
  Strides mask, length;                    // Broadcast to [b, h, lq, lk] and to [b].
  DType mask_dtype = DType::kBool;

  [[nodiscard]] std::int64_t group() const { return key_heads == 0 ? 0 : heads / key_heads; }
  [[nodiscard]] std::int64_t rows() const { return group() * queries; }
  [[nodiscard]] std::int64_t row_tiles() const { return (rows() + kRowTile - 1) / kRowTile; }
  /// The first inputs are q, k and v; mask and key_length begin at input `optional`.
  AttentionPlan(const op::Attention& attention, std::span<const TensorLayout> inputs, int optional);
};

/// The keys [begin, end) that a row, or a tile of rows, can see.
struct KeyRange {
  std::int64_t begin = 0, end = 0;
};

/// One batch and key head of a run.
class AttentionGroup {
 public:
  AttentionGroup(const AttentionPlan& plan, const KernelArguments& arguments, std::int64_t batch,
                 std::int64_t key_head);

  [[nodiscard]] Matrix key(std::int64_t j) const { return k_.block(j, 0); }
  [[nodiscard]] Matrix value(std::int64_t j) const { return v_.block(j, 0); }
  /// Keys that exist. What lies beyond them in memory may be anything.
  [[nodiscard]] std::int64_t length() const { return length_; }
  /// The address of a row in a tensor [b, h, lq, *] with the given strides.
  [[nodiscard]] const void* row_of(const void* data, const Strides& strides, DType dtype,
                                   std::int64_t row) const;
  /// The number of the row among all rows [b, h, lq] of the output.
  [[nodiscard]] std::int64_t row_number(std::int64_t row) const {
    return (batch_ * plan_.heads + head_of(row)) * plan_.queries + row % plan_.queries;
  }
  [[nodiscard]] KeyRange range_of_row(std::int64_t row) const;
  /// The union over rows [begin, end).
  [[nodiscard]] KeyRange range_of_rows(std::int64_t begin, std::int64_t end) const;

  /// Rows [begin, end) of q, copied to `to`, which has room for as many of f32.
  [[nodiscard]] Matrix queries(std::int64_t begin, std::int64_t end, float* to) const {
    return dense_rows(q_, plan_.q, plan_.width, begin, end, to);
  }
  /// The same of a tensor [b, h, lq, width] of q's dtype with the given strides.
  [[nodiscard]] Matrix dense_rows(const void* data, const Strides& strides, std::int64_t width,
                                  std::int64_t begin, std::int64_t end, float* to) const;
  /// Scores of `rows` rows from `row` on, which are `queries`, with keys [j, j + count), rows
  /// kKeyTile apart; -infinity where a key is not seen.
  void scores(const Matrix& queries, std::int64_t row, std::int64_t rows, std::int64_t j,
              std::int64_t count, float* to) const;

 private:
  [[nodiscard]] std::int64_t head_of(std::int64_t row) const {
    return key_head_ * plan_.group() + row / plan_.queries;
  }
  void apply_mask(std::int64_t row, std::int64_t j, std::int64_t count, float* scores) const;

  const AttentionPlan& plan_;
  std::int64_t batch_, key_head_, length_;
  const void* q_;
  const void* mask_;
  Matrix k_, v_;
};

std::unique_ptr<Kernel> make_attention_backward(const KernelRequest& request);

}  // namespace metal_candle::backend::cpu
