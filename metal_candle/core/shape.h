// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shapes, strides and axes: short lists of 64-bit integers held inline, without allocation.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace metal_candle {

/// The most dimensions a tensor can have.
inline constexpr int kMaxRank = 8;

/// A list of up to kMaxRank integers. Throws ShapeError when asked to hold more.
class Dims {
 public:
  using value_type = std::int64_t;

  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values)
      : Dims(std::span<const std::int64_t>(values.begin(), values.size())) {}
  explicit Dims(std::span<const std::int64_t> values) {
    check_rank(values.size());
    size_ = static_cast<std::int32_t>(values.size());
    std::copy(values.begin(), values.end(), data_.begin());
  }
  Dims(std::size_t count, std::int64_t value) {
    check_rank(count);
    size_ = static_cast<std::int32_t>(count);
    std::fill_n(data_.begin(), count, value);
  }
  // Copies only what is used: shapes are copied on every node built.
  Dims(const Dims& other) noexcept : size_(other.size_) { copy_from(other); }
  Dims& operator=(const Dims& other) noexcept {
    size_ = other.size_;
    copy_from(other);
    return *this;
  }

  [[nodiscard]] int rank() const { return size_; }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(size_); }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  std::int64_t& operator[](int i) { return data_[static_cast<std::size_t>(i)]; }
  std::int64_t operator[](int i) const { return data_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::int64_t back() const { return data_[static_cast<std::size_t>(size_ - 1)]; }
  std::int64_t& back() { return data_[static_cast<std::size_t>(size_ - 1)]; }
  std::int64_t* begin() { return data_.data(); }
  std::int64_t* end() { return data_.data() + size_; }
  [[nodiscard]] const std::int64_t* begin() const { return data_.data(); }
  [[nodiscard]] const std::int64_t* end() const { return data_.data() + size_; }
  [[nodiscard]] const std::int64_t* data() const { return data_.data(); }

  void push_back(std::int64_t value) {
    check_rank(size() + 1);
    data_[static_cast<std::size_t>(size_++)] = value;
  }
  void insert(int position, std::int64_t value) {
    push_back(value);
    std::rotate(begin() + position, end() - 1, end());
  }
  void erase(int position) {
    std::copy(begin() + position + 1, end(), begin() + position);
    --size_;
  }

  friend bool operator==(const Dims& a, const Dims& b) {
    return a.size_ == b.size_ && std::equal(a.begin(), a.end(), b.begin());
  }

 private:
  void copy_from(const Dims& other) {
    for (std::int32_t i = 0; i < size_; ++i) {
      data_[static_cast<std::size_t>(i)] = other.data_[static_cast<std::size_t>(i)];
    }
  }
  static void check_rank(std::size_t size) {
    if (size > kMaxRank) throw_rank(size);
  }
  [[noreturn]] static void throw_rank(std::size_t size);

  std::int32_t size_ = 0;
  std::array<std::int64_t, kMaxRank> data_;  // Only the first size_ are meaningful.
};

using Shape = Dims;
using Strides = Dims;  // In elements, not bytes; negative and zero strides are allowed.
using Axes = Dims;

/// The number of elements; 1 for a scalar. Throws ShapeError when it overflows 63 bits.
[[nodiscard]] std::int64_t num_elements(const Shape& shape);

/// Row-major strides of a dense tensor.
[[nodiscard]] Strides contiguous_strides(const Shape& shape);

/// Whether elements lie densely in row-major order (axes of length 1 may have any stride).
[[nodiscard]] bool is_contiguous(const Shape& shape, const Strides& strides);

/// "[2, 3]"; "[]" for a scalar.
[[nodiscard]] std::string to_string(const Dims& dims);

/// The NumPy broadcast of two shapes. Throws ShapeError naming `op` and both shapes.
[[nodiscard]] Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

/// Maps a possibly negative axis to [0, rank). Throws ShapeError naming `op`.
[[nodiscard]] int normalize_axis(const char* op, std::int64_t axis, int rank);

}  // namespace metal_candle
