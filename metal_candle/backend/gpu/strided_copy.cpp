// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See strided_copy.h.
#include "metal_candle/backend/gpu/strided_copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "metal_candle/backend/gpu/divider.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 256;
constexpr std::int64_t kPacketBytes = 16;
constexpr std::int64_t kInFlight = 4;  // kCopyInFlight of the kernels.
// Groups of a multiprocessor: all of its threads. More work than that is gone through in a loop.
constexpr std::int64_t kGroupsEach = 8;
// Shorter axes leave a tile empty.
constexpr std::int64_t kLeastTransposed = 8;

// The axis before the last along which the source is dense, where the last is not and both are long
// enough for tiles to pay; or -1.
int transposed_axis(const Shape& shape, const Strides& strides) {
  if (std::abs(strides.back()) <= 1 || shape.back() < kLeastTransposed) return -1;
  for (int axis = shape.rank() - 2; axis >= 0; --axis) {
    if (std::abs(strides[axis]) == 1 && shape[axis] >= kLeastTransposed) return axis;
  }
  return -1;
}

Grid copy_grid(const GpuDevice& device, std::int64_t packets, std::int64_t each) {
  const std::int64_t most = kGroupsEach * device.limits().multiprocessors;
  return {std::clamp(groups_for(packets, kThreads * each), 1u, static_cast<std::uint32_t>(most))};
}

// Everything but addresses and the tail. `packet` divides the last axis and the other strides.
CopyArguments copy_arguments(const Shape& shape, const Strides& in, const Strides& out,
                             std::int64_t packet) {
  CopyArguments a{};
  a.rank = static_cast<std::uint32_t>(shape.rank());
  a.packets = num_elements(shape) / packet;
  a.wide = a.packets >= (std::int64_t{1} << 31) ? 1 : 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool last = axis == shape.rank() - 1;
    a.sizes[axis] = shape[axis] / (last ? packet : 1);
    a.in_strides[axis] = in[axis] * (last ? packet : 1);
    a.out_strides[axis] = out[axis] * (last ? packet : 1);
    if (a.wide != 0) continue;
    const Divider divider(static_cast<std::uint32_t>(std::max<std::int64_t>(a.sizes[axis], 1)));
    a.magics[axis] = divider.magic;
    a.shifts[axis] = divider.shift;
  }
  return a;
}

// Whether elements go in packets: rows dense on both sides and beginning at multiples of a packet.
// One dense row may have a tail.
bool has_packets(const Shape& shape, const Strides& in, const Strides& out, std::int64_t packet) {
  if (in.back() != 1 || out.back() != 1) return false;
  if (shape.rank() == 1) return true;
  const auto divides = [&](std::int64_t s) { return s % packet == 0; };
  return divides(shape.back()) && std::all_of(in.begin(), in.end() - 1, divides) &&
         std::all_of(out.begin(), out.end() - 1, divides);
}

TransposeArguments transpose_arguments(const Shape& shape, const Strides& in, const Strides& out,
                                       int axis, std::int64_t tile) {
  constexpr std::int64_t kPair = 2;
  TransposeArguments a{};
  const int last = shape.rank() - 1;
  a.rows = shape[axis];
  a.columns = shape[last];
  a.in_row_stride = in[axis];
  a.in_column_stride = in[last];
  a.out_row_stride = out[axis];
  a.row_tiles = groups_for(a.rows, tile);
  a.column_tiles = groups_for(a.columns, tile);
  bool divisible = a.rows % kPair == 0 && a.columns % kPair == 0 && a.in_row_stride == 1 &&
                   a.in_column_stride % kPair == 0 && a.out_row_stride % kPair == 0;
  for (int i = 0; i < last; ++i) {
    if (i == axis) continue;
    a.sizes[a.rank] = static_cast<std::uint32_t>(shape[i]);
    a.in_strides[a.rank] = in[i];
    a.out_strides[a.rank] = out[i];
    divisible = divisible && in[i] % kPair == 0 && out[i] % kPair == 0;
    ++a.rank;
  }
  a.divisible = divisible ? 1 : 0;
  return a;
}

}  // namespace

bool StridedCopy::is_transposed(const Shape& shape, const Strides& strides) {
  Shape collapsed = shape;
  Strides merged = strides;
  collapse_axes(collapsed, std::span(&merged, 1));
  return transposed_axis(collapsed, merged) >= 0;
}

StridedCopy::StridedCopy(GpuDevice& device, const Shape& block, const Strides& in_strides,
                         const Strides& out_strides, std::size_t element_bytes,
                         const std::optional<Place>& place) {
  Shape shape = block;
  std::array<Strides, 2> strides = {in_strides, out_strides};
  collapse_axes(shape, strides);
  const auto& [in, out] = strides;
  const std::int64_t count = num_elements(shape);
  if (count == 0) return;
  const std::size_t bits = element_bytes * 8;

  const int axis = place || out.back() != 1 ? -1 : transposed_axis(shape, in);
  const std::int64_t tile = element_bytes <= 2 ? 64 : 32;
  if (axis >= 0) {
    const TransposeArguments a = transpose_arguments(shape, in, out, axis, tile);
    const std::int64_t tiles = count / (a.rows * a.columns) * a.row_tiles * a.column_tiles;
    if (tiles < (std::int64_t{1} << 31)) {
      function_ = &device.function(fmt::format("transpose_u{}", bits));
      grid_ = {static_cast<std::uint32_t>(tiles)};
      arguments_ = a;
      return;
    }
  }
  const std::int64_t packet = kPacketBytes / static_cast<std::int64_t>(element_bytes);
  const bool packets = has_packets(shape, in, out, packet);
  CopyArguments a = copy_arguments(shape, in, out, packets ? packet : 1);
  a.tail = packets ? count % packet : 0;
  if (place) {
    a.num_starts = static_cast<std::uint32_t>(place->axes.rank());
    a.wide_starts = place->wide ? 1 : 0;
    a.starts_in_output = place->in_output ? 1 : 0;
    std::copy(place->largest_starts.begin(), place->largest_starts.end(), a.largest_starts);
    std::copy(place->strides.begin(), place->strides.end(), a.start_strides);
  }
  function_ = &device.function(fmt::format("copy_{}u{}", packets ? "packets_" : "", bits));
  grid_ = copy_grid(device, a.packets, kInFlight);
  arguments_ = a;
}

void StridedCopy::encode(Encoder& encoder, const void* in, void* out, const void* starts) const {
  if (function_ == nullptr) return;
  std::visit(
      [&](auto arguments) {
        arguments.in = in;
        arguments.out = out;
        if constexpr (std::is_same_v<decltype(arguments), CopyArguments>) arguments.starts = starts;
        encoder.dispatch(*function_, grid_, kThreads, arguments);
      },
      arguments_);
}

StridedFill::StridedFill(GpuDevice& device, const Shape& block, const Strides& out,
                         const void* value, std::size_t element_bytes)
    : function_(device.function(fmt::format("fill_u{}", element_bytes * 8))) {
  Shape shape = block;
  Strides strides = out;
  collapse_axes(shape, std::span(&strides, 1));
  arguments_ = copy_arguments(shape, strides, strides, 1);
  std::memcpy(&arguments_.value, value, element_bytes);  // The low bytes: little-endian.
  grid_ = copy_grid(device, arguments_.packets, 1);
}

void StridedFill::encode(Encoder& encoder, void* out) const {
  CopyArguments arguments = arguments_;
  arguments.out = out;
  encoder.dispatch(function_, grid_, kThreads, arguments);
}

bool TransposedOperands::add_if_worth_it(GpuDevice& device, std::size_t index, const Shape& shape,
                                         const Strides& strides, DType dtype) {
  constexpr std::int64_t kLeastElements = 1 << 14;
  constexpr std::size_t kAlignment = 256;
  if (num_elements(shape) < kLeastElements || !StridedCopy::is_transposed(shape, strides)) {
    return false;
  }
  const StridedCopy copy(device, shape, strides, contiguous_strides(shape), size_of(dtype));
  operands_.push_back({index, copy, scratch_bytes_});
  scratch_bytes_ +=
      round_up(static_cast<std::size_t>(num_elements(shape)) * size_of(dtype), kAlignment);
  return true;
}

void TransposedOperands::encode(Encoder& encoder, std::span<const void*> inputs,
                                void* scratch) const {
  for (const Operand& operand : operands_) {
    void* copy = element_address(scratch, static_cast<std::int64_t>(operand.offset), 1);
    operand.copy.encode(encoder, inputs[operand.index], copy);
    inputs[operand.index] = copy;
  }
}

}  // namespace metal_candle::backend::gpu
