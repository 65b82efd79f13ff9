// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How the tiles of operands that broadcast or are strided are come by.
#include "metal_candle/backend/cpu/elementwise_tiles.h"

#include <utility>

#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::cpu {
namespace {

// Rows at least this long are cut into tiles one by one, so that operands with a dense row are read
// where they lie; shorter ones are gathered, several to a tile.
constexpr std::int64_t kLongRow = 192;

// Operands at least this large whose rows are not the dense axis are transposed first.
constexpr std::int64_t kTransposeElements = 4096;

template <typename T>
void gather_row(const T* from, std::int64_t stride, T* to, std::int64_t count) {
  if (stride == 0) {
    std::fill_n(to, count, *from);
  } else if (stride == 1) {
    std::copy_n(from, count, to);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
  }
}

}  // namespace

// What the operands look like on axes merged as far as they allow.
struct ElementwiseTiles::Analysis {
  Analysis(std::span<const TensorLayout> inputs, const Shape& output) : shape(output) {
    std::vector<Strides> strides;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      TensorLayout input = inputs[i];
      const StridedCopy copy(input.shape, input.strides, 0, size_of(input.dtype));
      if (num_elements(input.shape) >= kTransposeElements && copy.is_transposed()) {
        input.strides = contiguous_strides(input.shape);
        transposed.push_back({i, copy, copied_bytes});
        copied_bytes += (TensorSpec{input.shape, input.dtype}.bytes() + 63) / 64 * 64;
      }
      strides.push_back(broadcast_strides(input, output));
    }
    collapse_axes(shape, strides);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool constant =
          std::all_of(strides[i].begin(), strides[i].end(), [](std::int64_t s) { return s == 0; });
      // Where a row is long enough, gathering finds that most rows are dense.
      access.push_back(constant                           ? OperandAccess::kConstant
                       : is_contiguous(shape, strides[i]) ? OperandAccess::kDirect
                                                          : OperandAccess::kGathered);
      dtypes.push_back(inputs[i].dtype);
      operands.push_back({access.back(), size_of(inputs[i].dtype), strides[i]});
    }
  }
  Shape shape;
  std::vector<Operand> operands;
  std::vector<OperandAccess> access;
  std::vector<DType> dtypes;
  std::vector<TransposedOperand> transposed;
  std::size_t copied_bytes = 0;
};

ElementwiseTiles::ElementwiseTiles(const Operation& operation, std::span<const TensorLayout> inputs,
                                   const TensorSpec& output)
    : ElementwiseTiles(operation, Analysis(inputs, output.shape), output.dtype) {}

ElementwiseTiles::ElementwiseTiles(const Operation& operation, Analysis analysis, DType output)
    : program_(operation, analysis.dtypes, analysis.access, output),
      shape_(analysis.shape),
      operands_(std::move(analysis.operands)),
      transposed_(std::move(analysis.transposed)),
      copied_bytes_(analysis.copied_bytes),
      elements_(num_elements(shape_)),
      row_(shape_.back() >= kLongRow ? shape_.back() : std::max<std::int64_t>(elements_, 1)),
      tile_(program_.tile_elements()),
      output_bytes_(static_cast<std::int64_t>(size_of(output))) {}

std::span<const void* const> ElementwiseTiles::copied(std::span<const void* const> inputs,
                                                      void* memory,
                                                      std::vector<const void*>& addresses) const {
  if (transposed_.empty()) return inputs;
  addresses.assign(inputs.begin(), inputs.end());
  for (const TransposedOperand& t : transposed_) {
    void* target = static_cast<std::byte*>(memory) + t.offset;
    t.copy.run(inputs[t.index], target);
    addresses[t.index] = target;
  }
  return addresses;
}

ElementwiseTiles::Reader::Reader(const ElementwiseTiles& tiles, std::span<const void* const> inputs)
    : tiles_(tiles),
      inputs_(inputs),
      frame_(tiles.program_, workspace_.take<std::byte>(
                                 static_cast<std::int64_t>(tiles.program_.scratch_bytes()))) {
  const auto longest = static_cast<std::size_t>(std::min(tiles.tile_, tiles.row_));
  for (std::size_t i = 0; i < tiles.operands_.size(); ++i) {
    if (tiles.operands_[i].access != OperandAccess::kConstant) continue;
    fill_elements(frame_.use_slot(static_cast<int>(i)), inputs[i], tiles.operands_[i].bytes,
                  longest);
  }
  frame_.prepare(longest);
}

void ElementwiseTiles::Reader::compute(std::int64_t first, std::int64_t count, void* out,
                                       bool stream) const {
  auto* to = static_cast<std::byte*>(out);
  for (const std::int64_t last = first + count; first < last;) {
    const std::int64_t row_end = first - first % tiles_.row_ + tiles_.row_;
    const std::int64_t length = std::min({tiles_.tile_, row_end - first, last - first});
    for (std::size_t i = 0; i < tiles_.operands_.size(); ++i) {
      load_operand(static_cast<int>(i), first, length);
    }
    frame_.run(to, static_cast<std::size_t>(length), stream);
    to += length * tiles_.output_bytes_;
    first += length;
  }
}

void ElementwiseTiles::Reader::load_operand(int index, std::int64_t first,
                                            std::int64_t count) const {
  const Operand& operand = tiles_.operands_[static_cast<std::size_t>(index)];
  const auto* bytes = static_cast<const std::byte*>(inputs_[static_cast<std::size_t>(index)]);
  const auto size = static_cast<std::int64_t>(operand.bytes);
  if (operand.access == OperandAccess::kConstant) return;
  if (operand.access == OperandAccess::kDirect) {
    return frame_.use_address(index, bytes + first * size);
  }
  StridedCursor cursor(tiles_.shape_, operand.strides, first);
  const std::int64_t stride = operand.strides.back();
  if (stride == 1 && cursor.remaining() >= count) {
    return frame_.use_address(index, bytes + cursor.offset() * size);
  }
  dispatch_element_size(operand.bytes, [&](auto element) {
    using T = decltype(element);
    auto* to = reinterpret_cast<T*>(frame_.use_slot(index));
    for (std::int64_t left = count; left > 0;) {
      const std::int64_t run = std::min(left, cursor.remaining());
      gather_row(reinterpret_cast<const T*>(bytes) + cursor.offset(), stride, to, run);
      cursor.advance(run);
      to += run;
      left -= run;
    }
  });
}

}  // namespace metal_candle::backend::cpu
