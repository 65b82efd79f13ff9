// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs one CPU kernel on host arrays laid out in memory in any way, for tests of kernels by
// themselves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "tests/support/host_tensor.h"

namespace metal_candle::testing {

/// A tensor in memory: logical element (i, j, ...) is at offset + i * strides[0] + ...
struct PlacedTensor {
  TensorLayout layout;
  std::vector<std::byte> memory;
  std::int64_t offset = 0;  // In elements.

  [[nodiscard]] const void* address() const {
    return memory.data() + offset * static_cast<std::int64_t>(size_of(layout.dtype));
  }
};

enum class Placement {
  kContiguous,
  kScattered,      // Axes permuted, some reversed, with gaps between elements and rows.
  kScatteredRows,  // The same, but elements of the last axis follow each other.
  kColumns,        // The last two axes change places in memory.
};

inline void write_element(const HostTensor& from, std::int64_t i, void* memory, std::int64_t at) {
  dispatch_dtype(from.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T value;
    if constexpr (is_floating(dtype_of<T>())) {
      value = static_cast<T>(static_cast<float>(from.r(i)));
    } else {
      value = static_cast<T>(from.n(i));
    }
    std::memcpy(static_cast<std::byte*>(memory) + at * static_cast<std::int64_t>(sizeof(T)), &value,
                sizeof(T));
  });
}

inline PlacedTensor place(const HostTensor& host, Placement placement, std::mt19937& random) {
  const Shape& shape = host.shape();
  PlacedTensor placed{TensorLayout::contiguous(host.spec), {}, 0};
  std::int64_t size = host.size();
  if (placement == Placement::kColumns) {
    const int rank = shape.rank();
    placed.layout.strides[rank - 1] = shape[rank - 2];
    placed.layout.strides[rank - 2] = 1;
  } else if (placement != Placement::kContiguous) {
    const bool dense = placement == Placement::kScatteredRows && shape.rank() > 0;
    std::vector<int> order(shape.size());
    std::iota(order.rbegin(), order.rend(), 0);
    std::shuffle(order.begin() + (dense ? 1 : 0), order.end(), random);
    std::int64_t stride = !dense && random() % 3 == 0 ? 2 : 1;
    for (const int axis : order) {
      const bool first_is_dense = dense && axis + 1 == shape.rank();
      const bool reversed = !first_is_dense && random() % 4 == 0;
      placed.layout.strides[axis] = reversed ? -stride : stride;
      if (reversed && shape[axis] > 0) placed.offset += stride * (shape[axis] - 1);
      stride = stride * std::max<std::int64_t>(shape[axis], 1) + random() % 3;
    }
    size = stride;
  }
  placed.memory.resize(static_cast<std::size_t>(size) * size_of(host.dtype()) + 1);
  for (std::int64_t i = 0; i < host.size(); ++i) {
    const Dims index = unravel(i, shape);
    std::int64_t at = placed.offset;
    for (int axis = 0; axis < shape.rank(); ++axis) at += index[axis] * placed.layout.strides[axis];
    write_element(host, i, placed.memory.data(), at);
  }
  return placed;
}

inline HostTensor read_contiguous(const void* memory, const TensorSpec& spec);

/// What lies so from `memory` on.
inline HostTensor read_laid_out(const void* memory, const TensorLayout& layout) {
  const TensorSpec spec{layout.shape, layout.dtype};
  const std::size_t width = size_of(layout.dtype);
  std::vector<std::byte> dense(spec.bytes());
  for (std::size_t i = 0; i < dense.size() / width; ++i) {
    const Dims index = unravel(static_cast<std::int64_t>(i), layout.shape);
    std::int64_t at = 0;
    for (int axis = 0; axis < layout.shape.rank(); ++axis) at += index[axis] * layout.strides[axis];
    std::memcpy(dense.data() + i * width,
                static_cast<const std::byte*>(memory) + at * static_cast<std::int64_t>(width),
                width);
  }
  return read_contiguous(dense.data(), spec);
}

inline HostTensor read_contiguous(const void* memory, const TensorSpec& spec) {
  HostTensor host(spec);
  dispatch_dtype(spec.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < host.size(); ++i) {
      T value;
      std::memcpy(&value, static_cast<const std::byte*>(memory) + i * std::int64_t{sizeof(T)},
                  sizeof(T));
      if constexpr (is_floating(dtype_of<T>())) {
        host.r(i) = static_cast<double>(static_cast<float>(value));
      } else {
        host.n(i) = static_cast<std::int64_t>(value);
      }
    }
  });
  return host;
}

using KernelMaker = std::unique_ptr<backend::Kernel> (*)(const backend::KernelRequest&);

/// The operation's only output. With `in_place` >= 0 that input's memory, which has to be
/// contiguous and of the output's size, is written over.
inline HostTensor run_kernel(KernelMaker make, const Operation& operation,
                             std::span<PlacedTensor> inputs, const TensorSpec& spec,
                             int in_place = -1) {
  std::vector<TensorLayout> layouts;
  std::vector<const void*> addresses;
  for (const PlacedTensor& input : inputs) {
    layouts.push_back(input.layout);
    addresses.push_back(input.address());
  }
  const TensorLayout output = TensorLayout::contiguous(spec);
  const bool needed = true;
  const auto kernel = make({operation, layouts, std::span(&output, 1), std::span(&needed, 1)});
  // Guard bytes on both sides show whether the kernel wrote beyond the output.
  constexpr std::size_t kGuard = 64;
  std::vector<std::byte> memory(spec.bytes() + 2 * kGuard, std::byte{0xa5});
  std::vector<std::byte> scratch(kernel->scratch_bytes());
  void* out = memory.data() + kGuard;
  if (in_place >= 0) out = const_cast<void*>(addresses[static_cast<std::size_t>(in_place)]);
  static_cast<const backend::cpu::CpuKernel&>(*kernel).run(
      {addresses, std::span(&out, 1), scratch.data()});
  for (std::size_t i = 0; i < kGuard; ++i) {
    EXPECT_EQ(memory[i], std::byte{0xa5});
    EXPECT_EQ(memory[memory.size() - 1 - i], std::byte{0xa5});
  }
  return read_contiguous(out, spec);
}

/// Contiguous inputs from host arrays.
inline HostTensor run_kernel(KernelMaker make, const Operation& operation,
                             std::span<const HostTensor* const> hosts, const TensorSpec& spec,
                             Placement placement = Placement::kContiguous, std::uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<PlacedTensor> inputs;
  for (const HostTensor* host : hosts) inputs.push_back(place(*host, placement, random));
  return run_kernel(make, operation, inputs, spec);
}

}  // namespace metal_candle::testing
