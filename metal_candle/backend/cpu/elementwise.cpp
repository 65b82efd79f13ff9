// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels of elementwise operations: how the output is cut into tiles, and how the tiles of
// operands that broadcast or are strided are come by.
#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "metal_candle/backend/cpu/copy.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/elementwise_program.h"
#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/workspace.h"
#include "metal_candle/backend/strided.h"
#include "metal_candle/backend/tuning.h"

namespace metal_candle::backend::cpu {
namespace {

// Results larger than this are written past the caches: they would not stay there, and a plain
// store reads each line before it overwrites it.
constexpr std::size_t kStreamBytes = std::size_t{16} << 20;
// Work for one thread, in additions of f32: about 10 microseconds.
constexpr std::int64_t kGrainWork = 65536;
// Rows at least this long are cut into tiles one by one, so that operands with a dense row are read
// where they lie; shorter ones are gathered, several to a tile.
constexpr std::int64_t kLongRow = 192;

// Operands at least this large whose rows are not the dense axis are transposed first: element by
// element they would cost a cache line each.
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

struct Operand {
  OperandAccess access;
  std::size_t bytes;  // Of an element.
  Strides strides;    // On the collapsed axes.
};

// An operand that is copied to the scratch, transposed, before the tiles are computed.
struct TransposedOperand {
  std::size_t index;
  StridedCopy copy;
  std::size_t scratch_offset;
};

class TiledKernel {
 public:
  // `inputs` are the layouts after `transposed` ones have been copied.
  TiledKernel(const KernelRequest& request, std::span<const TensorLayout> inputs,
              std::vector<TransposedOperand> transposed)
      : TiledKernel(request, Analysis(inputs, request.outputs[0].shape)) {
    transposed_ = std::move(transposed);
  }

  void operator()(const KernelArguments& arguments) const {
    if (elements_ == 0) return;
    if (transposed_.empty()) return run_parallel(arguments);
    std::vector<const void*> inputs(arguments.inputs.begin(), arguments.inputs.end());
    for (const TransposedOperand& t : transposed_) {
      void* target = static_cast<std::byte*>(arguments.scratch) + t.scratch_offset;
      t.copy.run(inputs[t.index], target);
      inputs[t.index] = target;
    }
    run_parallel({inputs, arguments.outputs, arguments.scratch});
  }

 private:
  // What the operands look like on axes merged as far as they allow.
  struct Analysis {
    Analysis(std::span<const TensorLayout> inputs, const Shape& output) : shape(output) {
      std::vector<Strides> strides;
      for (const TensorLayout& input : inputs) strides.push_back(broadcast_strides(input, output));
      collapse_axes(shape, strides);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const bool constant = std::all_of(strides[i].begin(), strides[i].end(),
                                          [](std::int64_t s) { return s == 0; });
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
  };

  TiledKernel(const KernelRequest& request, Analysis analysis)
      : program_(request.operation, analysis.dtypes, analysis.access, request.outputs[0].dtype),
        shape_(analysis.shape),
        operands_(std::move(analysis.operands)),
        elements_(num_elements(shape_)),
        output_bytes_(size_of(request.outputs[0].dtype)) {
    tile_ = program_.tile_elements();
    row_ = shape_.back() >= kLongRow ? shape_.back() : std::max<std::int64_t>(elements_, 1);
    tiles_per_row_ = (row_ + tile_ - 1) / tile_;
    stream_ = static_cast<std::size_t>(elements_) * output_bytes_ >= kStreamBytes;
    grain_work_ = tuning(Device::cpu())
                      .get(Tunable::kElementwiseGrain,
                           ShapeClass::of(request.outputs[0].dtype, {elements_, program_.cost()}),
                           kGrainWork);
  }

  void run_parallel(const KernelArguments& arguments) const {
    const std::int64_t tiles = (elements_ / row_) * tiles_per_row_;
    const std::int64_t grain =
        std::max<std::int64_t>(1, grain_work_ / (program_.cost() * std::min(tile_, row_)));
    parallel_for(tiles, grain,
                 [&](std::int64_t begin, std::int64_t end) { run_tiles(arguments, begin, end); });
  }

  void run_tiles(const KernelArguments& arguments, std::int64_t begin, std::int64_t end) const {
    Workspace workspace;
    const auto bytes = static_cast<std::int64_t>(program_.scratch_bytes());
    const TileProgram::Frame frame(program_, workspace.take<std::byte>(bytes));
    const auto longest = static_cast<std::size_t>(std::min(tile_, row_));
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i].access != OperandAccess::kConstant) continue;
      fill_elements(frame.use_slot(static_cast<int>(i)), arguments.inputs[i], operands_[i].bytes,
                    longest);
    }
    frame.prepare(longest);
    auto* out = static_cast<std::byte*>(arguments.outputs[0]);
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t column = (tile % tiles_per_row_) * tile_;
      const std::int64_t first = (tile / tiles_per_row_) * row_ + column;
      const std::int64_t count = std::min(tile_, row_ - column);
      for (std::size_t i = 0; i < operands_.size(); ++i) {
        load_operand(frame, static_cast<int>(i), arguments.inputs[i], first, count);
      }
      frame.run(out + first * static_cast<std::int64_t>(output_bytes_),
                static_cast<std::size_t>(count), stream_);
    }
    if (stream_) float_steps().stream_fence();
  }

  void load_operand(const TileProgram::Frame& frame, int index, const void* data,
                    std::int64_t first, std::int64_t count) const {
    const Operand& operand = operands_[static_cast<std::size_t>(index)];
    const auto* bytes = static_cast<const std::byte*>(data);
    const auto size = static_cast<std::int64_t>(operand.bytes);
    if (operand.access == OperandAccess::kConstant) return;
    if (operand.access == OperandAccess::kDirect) {
      return frame.use_address(index, bytes + first * size);
    }
    StridedCursor cursor(shape_, operand.strides, first);
    const std::int64_t stride = operand.strides.back();
    if (stride == 1 && cursor.remaining() >= count) {
      return frame.use_address(index, bytes + cursor.offset() * size);
    }
    dispatch_element_size(operand.bytes, [&](auto element) {
      using T = decltype(element);
      auto* to = reinterpret_cast<T*>(frame.use_slot(index));
      for (std::int64_t left = count; left > 0;) {
        const std::int64_t run = std::min(left, cursor.remaining());
        gather_row(static_cast<const T*>(data) + cursor.offset(), stride, to, run);
        cursor.advance(run);
        to += run;
        left -= run;
      }
    });
  }

  TileProgram program_;
  Shape shape_;  // The output's, on the collapsed axes.
  std::vector<Operand> operands_;
  std::int64_t elements_;
  std::size_t output_bytes_;  // Of an element.
  std::int64_t tile_;
  std::int64_t row_;  // Elements that are cut into tiles together: the last axis, or everything.
  std::int64_t tiles_per_row_;
  bool stream_;
  std::int64_t grain_work_;
  std::vector<TransposedOperand> transposed_;
};

std::unique_ptr<Kernel> make_tiled(const KernelRequest& request) {
  std::vector<TensorLayout> inputs(request.inputs.begin(), request.inputs.end());
  std::vector<TransposedOperand> transposed;
  std::size_t scratch = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (num_elements(inputs[i].shape) < kTransposeElements) continue;
    const StridedCopy copy(inputs[i].shape, inputs[i].strides, 0, size_of(inputs[i].dtype));
    if (!copy.is_transposed()) continue;
    inputs[i].strides = contiguous_strides(inputs[i].shape);
    transposed.push_back({i, copy, scratch});
    const TensorSpec spec{inputs[i].shape, inputs[i].dtype};
    scratch += (spec.bytes() + 63) / 64 * 64;
  }
  return make_cpu_kernel(TiledKernel(request, inputs, std::move(transposed)), scratch);
}

std::unique_ptr<Kernel> make_full(const op::Full& full, const TensorLayout& output) {
  std::array<std::byte, 8> value{};
  store_scalar(full.value, output.dtype, value.data());
  const std::int64_t count = num_elements(output.shape);
  const std::size_t bytes = size_of(output.dtype);
  return make_cpu_kernel([=](const KernelArguments& arguments) {
    auto* out = static_cast<std::byte*>(arguments.outputs[0]);
    parallel_for(count, kGrainWork, [&](std::int64_t begin, std::int64_t end) {
      fill_elements(out + begin * static_cast<std::int64_t>(bytes), value.data(), bytes,
                    static_cast<std::size_t>(end - begin));
    });
  });
}

// Integers exactly, wrapping; floating dtypes in double, rounded once.
template <typename T>
void arange(const op::Arange& range, T* out, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    if constexpr (is_floating(dtype_of<T>())) {
      const double value = range.start.real + static_cast<double>(i) * range.step.real;
      out[i] = static_cast<T>(static_cast<float>(value));
    } else {
      const auto steps =
          static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(range.step.integer);
      out[i] = static_cast<T>(static_cast<std::uint64_t>(range.start.integer) + steps);
    }
  }
}

std::unique_ptr<Kernel> make_arange(const op::Arange& range, const TensorLayout& output) {
  const std::int64_t count = num_elements(output.shape);
  return make_cpu_kernel([range, count, dtype = output.dtype](const KernelArguments& arguments) {
    parallel_for(count, kGrainWork, [&](std::int64_t begin, std::int64_t end) {
      dispatch_dtype(dtype, [&](auto zero) {
        arange(range, static_cast<decltype(zero)*>(arguments.outputs[0]), begin, end);
      });
    });
  });
}

}  // namespace

std::unique_ptr<Kernel> make_elementwise(const KernelRequest& request) {
  const TensorLayout& output = request.outputs[0];
  if (const auto* full = std::get_if<op::Full>(&request.operation)) return make_full(*full, output);
  if (const auto* range = std::get_if<op::Arange>(&request.operation)) {
    return make_arange(*range, output);
  }
  return make_tiled(request);
}

}  // namespace metal_candle::backend::cpu
