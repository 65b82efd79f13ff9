// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The elements of a tensor for the host to read, wherever they are.
#pragma once

#include <cstddef>
#include <memory>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// Reads in place where the host sees the device's memory, else a copy.
class HostContents {
 public:
  /// Evaluates the tensor and waits.
  explicit HostContents(const Tensor& tensor);

  /// The element whose indices are all 0; null if there is none.
  [[nodiscard]] const std::byte* first() const { return first_; }
  /// In elements.
  [[nodiscard]] const Strides& strides() const { return tensor_.node()->value().strides; }
  [[nodiscard]] bool is_contiguous() const {
    return metal_candle::is_contiguous(tensor_.shape(), strides());
  }
  /// Calls fn(address) for each element in row-major order.
  template <typename Fn>
  void for_each(Fn fn) const;

 private:
  Tensor tensor_;
  std::unique_ptr<std::byte[]> copy_;
  const std::byte* first_ = nullptr;
};

template <typename Fn>
void HostContents::for_each(Fn fn) const {
  const Shape& shape = tensor_.shape();
  const Strides steps = strides();
  const auto size = static_cast<std::int64_t>(size_of(tensor_.dtype()));
  Dims index(shape.size(), 0);
  std::int64_t offset = 0;
  for (std::int64_t remaining = num_elements(shape); remaining > 0; --remaining) {
    fn(first_ + offset * size);
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      offset += steps[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= steps[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

}  // namespace metal_candle
