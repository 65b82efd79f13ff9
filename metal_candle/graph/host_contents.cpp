// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See host_contents.h.
#include "metal_candle/graph/host_contents.h"

#include <algorithm>

namespace metal_candle {

HostContents::HostContents(const Tensor& tensor) : tensor_(tensor) {
  tensor_.eval();
  if (tensor_.size() == 0) return;
  const Value& value = tensor_.node()->value();
  if (value.storage->contents() != nullptr) {
    first_ = static_cast<const std::byte*>(value.storage->contents()) + value.offset;
    return;
  }
  // From the lowest address of an element to the highest.
  std::int64_t low = 0;
  std::int64_t high = 0;
  for (int axis = 0; axis < tensor_.rank(); ++axis) {
    const std::int64_t reach = (tensor_.shape()[axis] - 1) * value.strides[axis];
    (reach < 0 ? low : high) += reach;
  }
  const std::size_t size = size_of(tensor_.dtype());
  const std::size_t before = static_cast<std::size_t>(-low) * size;
  const std::size_t bytes = static_cast<std::size_t>(high - low + 1) * size;
  copy_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
  detail::read_storage(*value.storage, value.offset - before, {copy_.get(), bytes});
  first_ = copy_.get() + before;
}

}  // namespace metal_candle
