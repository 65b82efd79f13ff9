// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See axes_text.h.
#include "metal_candle/backend/gpu/axes_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/divider.h"

namespace metal_candle::backend::gpu {
namespace {

bool is_a_field(std::int64_t stride) { return stride != 0 && stride != 1; }

}  // namespace

AxesText::AxesText(char letter, const Shape& shape, int packet, bool wide_positions,
                   bool wide_offsets)
    : letter_(letter),
      shape_(shape),
      packet_(packet),
      wide_positions_(wide_positions),
      wide_offsets_(wide_offsets) {}

std::string AxesText::field(std::string_view what, int axis) const {
  return fmt::format("{}_{}{}", letter_, what, axis);
}
std::string AxesText::stride_field(std::size_t operand, int axis) const {
  return fmt::format("{}_stride{}_{}", letter_, operand, axis);
}

void AxesText::add_index(ArgumentStruct& arguments, const std::string& name,
                         std::int64_t value) const {
  if (wide_positions_) return arguments.add(index(), name, static_cast<std::uint64_t>(value));
  arguments.add(index(), name, static_cast<std::uint32_t>(value));
}
void AxesText::add_offset(ArgumentStruct& arguments, const std::string& name,
                          std::int64_t value) const {
  if (wide_offsets_) return arguments.add(offset(), name, value);
  arguments.add(offset(), name, static_cast<std::int32_t>(value));
}

void AxesText::add_sizes(ArgumentStruct& arguments) const {
  const int last = shape_.rank() - 1;
  for (int axis = last; axis > 0; --axis) {
    const std::int64_t size = axis == last ? shape_[axis] / packet_ : shape_[axis];
    add_index(arguments, field("size", axis), size);
    if (wide_positions_) continue;
    const Divider divider(static_cast<std::uint32_t>(std::max<std::int64_t>(size, 1)));
    arguments.add("uint32_t", field("magic", axis), divider.magic);
    arguments.add("uint32_t", field("shift", axis), divider.shift);
  }
}

void AxesText::add_strides(ArgumentStruct& arguments, std::size_t operand,
                           const Strides& strides) const {
  for (int axis = 0; axis < strides.rank(); ++axis) {
    if (is_a_field(strides[axis])) {
      add_offset(arguments, stride_field(operand, axis), strides[axis]);
    }
  }
}

std::string AxesText::coordinates(std::string_view position) const {
  std::string text;
  std::string rest(position);
  for (int axis = shape_.rank() - 1; axis > 0; --axis) {
    const std::string size = "a." + field("size", axis);
    const std::string quotient = wide_positions_
                                     ? fmt::format("{} / {}", rest, size)
                                     : fmt::format("divide({}, a.{}, a.{})", rest,
                                                   field("magic", axis), field("shift", axis));
    const std::string above = fmt::format("{}_q{}", letter_, axis);
    text += fmt::format("    const {} {} = {};\n", index(), above, quotient);
    text += fmt::format("    const {0} {1}{2} = {0}({3} - {4} * {5});\n", offset(), letter_, axis,
                        rest, above, size);
    rest = above;
  }
  return text + fmt::format("    const {0} {1}0 = {0}({2});\n", offset(), letter_, rest);
}

std::string AxesText::offset_of(std::size_t operand, const Strides& strides) const {
  std::string text;
  for (int axis = 0; axis < strides.rank(); ++axis) {
    if (strides[axis] == 0) continue;
    if (!text.empty()) text += " + ";
    text += fmt::format("{}{}", letter_, axis);
    if (axis + 1 == strides.rank() && packet_ > 1) text += fmt::format(" * {}", packet_);
    text += times_stride(operand, strides, axis);
  }
  return text;
}

std::string AxesText::times_stride(std::size_t operand, const Strides& strides, int axis) const {
  return is_a_field(strides[axis]) ? " * a." + stride_field(operand, axis) : "";
}

}  // namespace metal_candle::backend::gpu
