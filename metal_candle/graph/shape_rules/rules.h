// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The shape rule of each operation, one overload each; for use by shape_rules.cpp alone. A rule
// checks everything about its inputs and allocates only to throw.
#pragma once

#include <string>
#include <string_view>

#include "metal_candle/graph/shape_rules.h"

namespace metal_candle::shape_rules {

/// What a rule looks at, and how it complains: every message is "op: what: operands".
class Context {
 public:
  Context(const Operation& operation, SpecRefs inputs, const TensorSpec& requested)
      : operation_(operation), inputs_(inputs), requested_(requested) {}

  [[nodiscard]] std::size_t count() const { return inputs_.size(); }
  [[nodiscard]] const TensorSpec& operator[](std::size_t i) const { return *inputs_[i]; }
  [[nodiscard]] const Shape& shape(std::size_t i) const { return inputs_[i]->shape; }
  [[nodiscard]] DType dtype(std::size_t i) const { return inputs_[i]->dtype; }
  [[nodiscard]] const TensorSpec& requested() const { return requested_; }
  [[nodiscard]] std::string_view op_name() const { return name(operation_); }

  void require_count(std::size_t expected) const {
    if (count() != expected) [[unlikely]]
      count_error(expected, expected);
  }
  void require_count(std::size_t least, std::size_t most) const {
    if (count() < least || count() > most) [[unlikely]]
      count_error(least, most);
  }
  void require_floating(std::size_t i) const {
    if (!is_floating(dtype(i))) [[unlikely]]
      dtype_error("takes floating dtypes");
  }
  void require_numeric(std::size_t i) const {
    if (dtype(i) == DType::kBool) [[unlikely]]
      dtype_error("takes numeric dtypes, not bool");
  }
  void require_dtype(std::size_t i, DType expected) const {
    if (dtype(i) != expected) [[unlikely]]
      operand_dtype_error(i, expected);
  }
  void require_indices(std::size_t i) const {
    if (dtype(i) != DType::kI32 && dtype(i) != DType::kI64) [[unlikely]]
      dtype_error("indices are i32 or i64");
  }
  /// Inputs [0, count()) have the dtype of input 0.
  void require_one_dtype() const { require_one_dtype(count()); }
  /// Inputs [0, end) have.
  void require_one_dtype(std::size_t end) const {
    for (std::size_t i = 1; i < end; ++i) {
      if (dtype(i) != dtype(0)) [[unlikely]]
        dtype_error("operands differ in dtype");
    }
  }
  void require_shape(std::size_t i, const Shape& expected) const {
    if (!(shape(i) == expected)) [[unlikely]]
      operand_shape_error(i, expected);
  }
  void require_rank_at_least(std::size_t i, int rank) const {
    if (shape(i).rank() < rank) [[unlikely]]
      rank_error(i, rank);
  }
  /// The axis, which must be in [0, rank of input 0).
  [[nodiscard]] int axis(int axis) const {
    if (axis < 0 || axis >= shape(0).rank()) [[unlikely]]
      axis_error(axis);
    return axis;
  }
  /// requested().shape, none of it negative.
  [[nodiscard]] const Shape& requested_shape() const {
    for (const std::int64_t length : requested_.shape) {
      if (length < 0) [[unlikely]]
        requested_error("lengths may not be negative");
    }
    return requested_.shape;
  }

  /// "op: what: f32[2, 3], f32[4]".
  [[noreturn]] void shape_error(std::string_view what) const;
  [[noreturn]] void dtype_error(std::string_view what) const;
  /// "op: what: f32[2, 3] to [4]".
  [[noreturn]] void requested_error(std::string_view what) const;
  [[noreturn]] void axis_error(int axis) const;

 private:
  [[noreturn]] void count_error(std::size_t least, std::size_t most) const;
  [[noreturn]] void operand_dtype_error(std::size_t i, DType expected) const;
  [[noreturn]] void operand_shape_error(std::size_t i, const Shape& expected) const;
  [[noreturn]] void rank_error(std::size_t i, int rank) const;
  [[nodiscard]] std::string operands() const;

  const Operation& operation_;
  SpecRefs inputs_;
  const TensorSpec& requested_;
};

/// The NumPy broadcast of two operands, or of parts of them.
[[nodiscard]] Shape broadcast_unequal(const Context& c, const Shape& a, const Shape& b);
[[nodiscard]] inline Shape broadcast(const Context& c, const Shape& a, const Shape& b) {
  return a == b ? a : broadcast_unequal(c, a, b);
}
/// The shape without its last `count` axes.
[[nodiscard]] inline Shape leading(const Shape& shape, int count = 1) {
  return Shape(std::span(shape.data(), shape.size() - static_cast<std::size_t>(count)));
}

// Operations with one output: its spec. With several: that of output 0; other_outputs() adds the
// rest.
TensorSpec infer(const op::Full&, const Context&);
TensorSpec infer(const op::Arange&, const Context&);
TensorSpec infer(const op::RandomBits&, const Context&);
TensorSpec infer(const op::Unary&, const Context&);
TensorSpec infer(const op::Binary&, const Context&);
TensorSpec infer(const op::Select&, const Context&);
TensorSpec infer(const op::Cast&, const Context&);
TensorSpec infer(const op::Elementwise&, const Context&);
TensorSpec infer(const op::ElementwiseReduce&, const Context&);
TensorSpec infer(const op::Reduce&, const Context&);
TensorSpec infer(const op::ArgReduce&, const Context&);
TensorSpec infer(const op::Cumulative&, const Context&);
TensorSpec infer(const op::Sort&, const Context&);
TensorSpec infer(const op::ArgSort&, const Context&);
TensorSpec infer(const op::ArgTopK&, const Context&);
TensorSpec infer(const op::Reshape&, const Context&);
TensorSpec infer(const op::Transpose&, const Context&);
TensorSpec infer(const op::Slice&, const Context&);
TensorSpec infer(const op::Broadcast&, const Context&);
TensorSpec infer(const op::Concatenate&, const Context&);
TensorSpec infer(const op::Pad&, const Context&);
TensorSpec infer(const op::Barrier&, const Context&);
TensorSpec infer(const op::StopGradient&, const Context&);
TensorSpec infer(const op::Identity&, const Context&);
TensorSpec infer(const op::Pick&, const Context&);
TensorSpec infer(const op::CustomGradient&, const Context&);
TensorSpec infer(const op::Take&, const Context&);
TensorSpec infer(const op::TakeAlongAxis&, const Context&);
TensorSpec infer(const op::ScatterAdd&, const Context&);
TensorSpec infer(const op::ScatterAddAlongAxis&, const Context&);
TensorSpec infer(const op::SliceUpdate&, const Context&);
TensorSpec infer(const op::DynamicSlice&, const Context&);
TensorSpec infer(const op::DynamicSliceUpdate&, const Context&);
TensorSpec infer(const op::Matmul&, const Context&);
TensorSpec infer(const op::Lora&, const Context&);
TensorSpec infer(const op::LoraLinear&, const Context&);
TensorSpec infer(const op::Linear&, const Context&);
TensorSpec infer(const op::ProductSum&, const Context&);
TensorSpec infer(const op::NormLinear&, const Context&);
TensorSpec infer(const op::Softmax&, const Context&);
TensorSpec infer(const op::LogSoftmax&, const Context&);
TensorSpec infer(const op::LogSumExp&, const Context&);
TensorSpec infer(const op::TopPThreshold&, const Context&);
TensorSpec infer(const op::Draw&, const Context&);
TensorSpec infer(const op::SoftmaxBackward&, const Context&);
TensorSpec infer(const op::RmsNorm&, const Context&);
TensorSpec infer(const op::RmsNormBackward&, const Context&);
TensorSpec infer(const op::LayerNorm&, const Context&);
TensorSpec infer(const op::LayerNormBackward&, const Context&);
TensorSpec infer(const op::SwiGlu&, const Context&);
TensorSpec infer(const op::SwiGluBackward&, const Context&);
TensorSpec infer(const op::Rope&, const Context&);
TensorSpec infer(const op::Attention&, const Context&);
TensorSpec infer(const op::AttentionBackward&, const Context&);
TensorSpec infer(const op::CachedAttention&, const Context&);
TensorSpec infer(const op::CrossEntropy&, const Context&);
TensorSpec infer(const op::CrossEntropyBackward&, const Context&);
TensorSpec infer(const op::LinearCrossEntropy&, const Context&);
TensorSpec infer(const op::LinearCrossEntropyBackward&, const Context&);

}  // namespace metal_candle::shape_rules
