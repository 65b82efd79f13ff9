// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cross entropy of x @ weight with class indices, and its gradient, chunk by chunk: a tile of
// logits (2 MiB) is the most there ever is of them. A chunk of the vocabulary meets all rows before
// the next is begun, so the weight is read once.
//
// The gradient by x in the forward pass is the mean of the weight's columns under the softmax, less
// the target's column; the mean is accumulated as attention does it, with the maximum so far.
//
// Inputs: x and weight kMatrix, the others kContiguous. Nothing may be overwritten.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "metal_candle/backend/cpu/batch.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/product.h"
#include "metal_candle/backend/cpu/rows.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

constexpr std::int64_t kTileRows = 512;
constexpr std::int64_t kTileElements = kTileRows * 1024;
constexpr std::int64_t kMostClasses = 4096;  // Of a chunk.
constexpr std::int64_t kRowsPerTask = 8;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Rows of x that lie evenly spaced, numbered as in the output.
struct Tile {
  std::int64_t first = 0, rows = 0;
  std::int64_t offset = 0;  // Of its first element in x.
};

struct LossPlan {
  Matrix x, weight;
  std::int64_t rows = 0, width = 0, classes = 0;
  std::vector<Tile> tiles;
  DType target_dtype = DType::kI32;
  std::int64_t ignore_index = 0;

  [[nodiscard]] std::int64_t tile_rows() const {
    return std::clamp<std::int64_t>(rows, 1, kTileRows);
  }
  // Classes that are computed at once: more where there are fewer rows.
  [[nodiscard]] std::int64_t chunk() const {
    return std::min({classes, kMostClasses, kTileElements / tile_rows() / 16 * 16});
  }
  [[nodiscard]] std::int64_t tile_elements() const { return tile_rows() * chunk(); }
};

LossPlan make_plan(const KernelRequest& request, std::int64_t ignore_index) {
  const TensorLayout& x = request.inputs[0];
  LossPlan plan;
  plan.x = matrix_of(x);
  plan.weight = matrix_of(request.inputs[1]);
  plan.width = x.shape.back();
  plan.classes = request.inputs[1].shape.back();
  plan.target_dtype = request.inputs[2].dtype;
  plan.ignore_index = ignore_index;
  Shape batch = leading(x.shape, 2);
  const Strides strides = leading(x.strides, 2);
  std::int64_t count = num_elements(batch), length = x.shape[x.shape.rank() - 2];
  plan.rows = count * length;
  if (fold_rows(batch, strides, length, plan.x.row_stride)) {
    length *= count;
    count = std::min<std::int64_t>(count, 1);
    batch = Shape{};
  }
  for (std::int64_t b = 0; b < count; ++b) {
    const std::int64_t start = batch_offset(batch, strides, b);
    for (std::int64_t i = 0; i < length; i += kTileRows) {
      plan.tiles.push_back(
          {b * length + i, std::min(kTileRows, length - i), start + i * plan.x.row_stride});
    }
  }
  return plan;
}

constexpr std::int64_t kIgnored = -1;

// The class of a row, or kIgnored. Throws DeviceError when there is no such class.
std::int64_t read_target(const LossPlan& plan, const void* targets, std::int64_t row) {
  const std::int64_t target = plan.target_dtype == DType::kI32
                                  ? static_cast<const std::int32_t*>(targets)[row]
                                  : static_cast<const std::int64_t*>(targets)[row];
  if (target == plan.ignore_index) return kIgnored;
  if (target < 0 || target >= plan.classes) {
    throw DeviceError("linear_cross_entropy: target " + std::to_string(target) + " of row " +
                      std::to_string(row) + " is out of range for " + std::to_string(plan.classes) +
                      " classes");
  }
  return target;
}

// logits[tile.rows, count] = rows of x @ columns [j, j + count) of the weight.
void compute_logits(const LossPlan& plan, const KernelArguments& arguments, const Tile& tile,
                    std::int64_t j, std::int64_t count, float* logits) {
  Product p;
  p.m = tile.rows;
  p.n = count;
  p.k = plan.width;
  p.a = plan.x;
  p.a.data = offset_data(arguments.inputs[0], tile.offset, plan.x.dtype);
  p.b = plan.weight;
  p.b.data = arguments.inputs[1];
  p.b = p.b.block(0, j);
  p.out = logits;
  run_product(p);
}

// out[tile], f32 [rows, width], += factors [tile.rows, count] @ columns [j, j + count) of the
// weight, transposed; the first columns are not added but stored.
void add_weighted_columns(const LossPlan& plan, const KernelArguments& arguments, const Tile& tile,
                          std::int64_t j, std::int64_t count, const Matrix& factors, float* out) {
  Product p;
  p.m = tile.rows;
  p.n = plan.width;
  p.k = count;
  p.a = factors;
  p.b = plan.weight;
  p.b.data = arguments.inputs[1];
  p.b = p.b.block(0, j).transposed();
  p.out = out + tile.first * plan.width;
  p.accumulate = j > 0;
  run_product(p);
}

template <typename Fn>
void for_each_row(std::int64_t rows, Fn fn) {
  parallel_for(rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) fn(r);
  });
}

// ---- Forward ------------------------------------------------------------------------------------

struct RowState {
  RunningSoftmax running{kLowest, 0};
  float target_logit = 0;
};

// The forward pass, and where the parts of its scratch begin, in bytes.
struct ForwardPlan {
  LossPlan loss;
  bool needs_gradient = false;
  std::int64_t states = 0;  // RowState of every row.
  std::int64_t narrow = 0;  // The tile of exponentials in the dtype of a 16-bit x.
  std::int64_t means = 0;   // f32 [rows, width], unless the output itself is that.
  std::int64_t size = 0;
};

// means[tile] += exponentials [tile.rows, count] @ columns [j, j + count) of the weight,
// transposed.
void add_to_means(const ForwardPlan& plan, const KernelArguments& arguments, const Tile& tile,
                  std::int64_t j, std::int64_t count, const float* exponentials, float* means) {
  const LossPlan& loss = plan.loss;
  Matrix a{exponentials, DType::kF32, count, 1};
  if (loss.x.dtype != DType::kF32) {
    void* const narrow = static_cast<char*>(arguments.scratch) + plan.narrow;
    for_each_row(tile.rows, [&](std::int64_t r) {
      narrow_row(exponentials + r * count, count, 1.0f, loss.x.dtype,
                 offset_data(narrow, r * count, loss.x.dtype));
    });
    a = {narrow, loss.x.dtype, count, 1};
  }
  add_weighted_columns(loss, arguments, tile, j, count, a, means);
}

// The gradient of row r from the sum of the weight's columns times exponentials.
void finish_gradient(const LossPlan& plan, const KernelArguments& arguments, std::int64_t r,
                     const RunningSoftmax& running, float* mean) {
  void* const out = offset_data(arguments.outputs[2], r * plan.width, plan.x.dtype);
  const std::int64_t target = read_target(plan, arguments.inputs[2], r);
  if (target == kIgnored) {
    std::fill_n(static_cast<char*>(out),
                plan.width * static_cast<std::int64_t>(size_of(plan.x.dtype)), 0);
    return;
  }
  const float factor = running.sum == 0 ? 0 : 1 / running.sum;
  Matrix column = plan.weight;
  column.data = arguments.inputs[1];
  column = column.block(0, target);
  constexpr std::int64_t kPiece = 256;
  float weights[kPiece];
  for (std::int64_t i = 0; i < plan.width; i += kPiece) {
    const std::int64_t count = std::min(kPiece, plan.width - i);
    const Matrix piece = column.block(i, 0);
    if (piece.row_stride == 1) {
      widen_row(piece.data, piece.dtype, count, 1.0f, weights);
    } else {
      for (std::int64_t k = 0; k < count; ++k)
        widen_row(piece.block(k, 0).data, piece.dtype, 1, 1.0f, weights + k);
    }
    for (std::int64_t k = 0; k < count; ++k) mean[i + k] = mean[i + k] * factor - weights[k];
  }
  if (plan.x.dtype != DType::kF32) narrow_row(mean, plan.width, 1.0f, plan.x.dtype, out);
}

void run_forward(const ForwardPlan& forward, const KernelArguments& arguments) {
  const LossPlan& plan = forward.loss;
  char* const scratch = static_cast<char*>(arguments.scratch);
  float* const logits = reinterpret_cast<float*>(scratch);
  auto* const states = reinterpret_cast<RowState*>(scratch + forward.states);
  const void* const targets = arguments.inputs[2];
  float* means = nullptr;
  if (forward.needs_gradient) {
    means = plan.x.dtype == DType::kF32 ? static_cast<float*>(arguments.outputs[2])
                                        : reinterpret_cast<float*>(scratch + forward.means);
  }
  std::fill_n(states, plan.rows, RowState{});
  for (std::int64_t j = 0; j < plan.classes; j += plan.chunk()) {
    const std::int64_t count = std::min(plan.chunk(), plan.classes - j);
    for (const Tile& tile : plan.tiles) {
      compute_logits(plan, arguments, tile, j, count, logits);
      for_each_row(tile.rows, [&](std::int64_t r) {
        RowState& state = states[tile.first + r];
        float* const row = logits + r * count;
        const std::int64_t target = read_target(plan, targets, tile.first + r) - j;
        if (target >= 0 && target < count) state.target_logit = row[target];
        const float factor = softmax_piece(row, count, state.running);
        if (means && j > 0 && factor != 1)
          scale_row(means + (tile.first + r) * plan.width, plan.width, factor);
      });
      if (means) add_to_means(forward, arguments, tile, j, count, logits, means);
    }
  }
  auto* const loss = static_cast<float*>(arguments.outputs[0]);
  auto* const logsumexp = static_cast<float*>(arguments.outputs[1]);
  for (std::int64_t i = 0; i < plan.rows; ++i) {
    const RowState& state = states[i];
    const float log_sum = std::log(state.running.sum);
    const bool ignored = read_target(plan, targets, i) == kIgnored;
    // The maximum is taken off first: both it and the logit may be large, their difference not.
    if (loss) loss[i] = ignored ? 0.0f : log_sum + (state.running.max - state.target_logit);
    if (logsumexp) logsumexp[i] = state.running.max + log_sum;
  }
  if (means) {
    for_each_row(plan.rows, [&](std::int64_t r) {
      finish_gradient(plan, arguments, r, states[r].running, means + r * plan.width);
    });
  }
}

std::unique_ptr<Kernel> make_forward(const KernelRequest& request, std::int64_t ignore_index) {
  ForwardPlan plan{make_plan(request, ignore_index)};
  const LossPlan& loss = plan.loss;
  const auto rounded = [](std::int64_t bytes) { return (bytes + 63) / 64 * 64; };
  const auto element = static_cast<std::int64_t>(size_of(loss.x.dtype));
  plan.needs_gradient = request.needed[2];
  const bool narrow = plan.needs_gradient && loss.x.dtype != DType::kF32;
  plan.states = rounded(loss.tile_elements() * static_cast<std::int64_t>(sizeof(float)));
  plan.narrow = plan.states + rounded(loss.rows * static_cast<std::int64_t>(sizeof(RowState)));
  plan.means = plan.narrow + (narrow ? rounded(loss.tile_elements() * element) : 0);
  plan.size =
      plan.means + (narrow ? loss.rows * loss.width * static_cast<std::int64_t>(sizeof(float)) : 0);
  const auto bytes = static_cast<std::size_t>(plan.size);
  return make_cpu_kernel(
      [plan = std::move(plan)](const KernelArguments& arguments) { run_forward(plan, arguments); },
      bytes);
}

// ---- Backward -----------------------------------------------------------------------------------

// Where gradients are summed up in f32: the outputs themselves if they are f32.
struct Sums {
  float* dx = nullptr;       // [rows, width], null if not needed.
  float* dweight = nullptr;  // [width, count], null if not needed.
  std::int64_t dweight_stride = 0;
};

// logits become (softmax - [class is the target]) * dloss.
void compute_logit_gradients(const LossPlan& plan, const KernelArguments& arguments,
                             const Tile& tile, std::int64_t j, std::int64_t count, float* logits) {
  const auto* const logsumexp = static_cast<const float*>(arguments.inputs[3]);
  const auto* const dloss = static_cast<const float*>(arguments.inputs[4]);
  compute_logits(plan, arguments, tile, j, count, logits);
  for_each_row(tile.rows, [&](std::int64_t r) {
    const std::int64_t number = tile.first + r;
    float* const row = logits + r * count;
    const std::int64_t target = read_target(plan, arguments.inputs[2], number);
    if (target == kIgnored) {
      std::fill_n(row, count, 0.0f);
      return;
    }
    probabilities(row, count, logsumexp[number]);
    if (target >= j && target < j + count) row[target - j] -= 1.0f;
    scale_row(row, count, dloss[number]);
  });
}

void add_gradients(const LossPlan& plan, const KernelArguments& arguments, const Tile& tile,
                   std::int64_t j, std::int64_t count, const float* logits, const Sums& sums) {
  const Matrix gradient{logits, DType::kF32, count, 1};
  if (sums.dx) add_weighted_columns(plan, arguments, tile, j, count, gradient, sums.dx);
  if (sums.dweight) {
    Product p;
    p.m = plan.width;
    p.n = count;
    p.k = tile.rows;
    p.a = plan.x;
    p.a.data = offset_data(arguments.inputs[0], tile.offset, plan.x.dtype);
    p.a = p.a.transposed();
    p.b = gradient;
    p.out = sums.dweight;
    p.out_stride = sums.dweight_stride;
    p.accumulate = tile.first > 0;
    run_product(p);
  }
}

// Rounds rows of `count` sums, `stride` apart in `to`.
void round_rows(const float* from, std::int64_t rows, std::int64_t count, DType dtype, void* to,
                std::int64_t stride) {
  for_each_row(rows, [&](std::int64_t i) {
    narrow_row(from + i * count, count, 1.0f, dtype, offset_data(to, i * stride, dtype));
  });
}

struct BackwardPlan {
  LossPlan loss;
  // Where the parts of the scratch begin, in floats; a part that is not needed has no length.
  std::int64_t dx = 0, dweight = 0, size = 0;
};

void run_backward(const BackwardPlan& plan, const KernelArguments& arguments) {
  const LossPlan& p = plan.loss;
  void *const dx = arguments.outputs[0], *const dweight = arguments.outputs[1];
  if (p.rows == 0 || p.classes == 0) {
    if (dx)
      std::fill_n(static_cast<char*>(dx), p.rows * p.width * std::int64_t(size_of(p.x.dtype)), 0);
    if (dweight) {
      std::fill_n(static_cast<char*>(dweight),
                  p.width * p.classes * std::int64_t(size_of(p.x.dtype)), 0);
    }
    return;
  }
  const bool direct = p.x.dtype == DType::kF32;
  float* const scratch = static_cast<float*>(arguments.scratch);
  Sums sums;
  if (dx) sums.dx = direct ? static_cast<float*>(dx) : scratch + plan.dx;
  for (std::int64_t j = 0; j < p.classes; j += p.chunk()) {
    const std::int64_t count = std::min(p.chunk(), p.classes - j);
    if (dweight) {
      sums.dweight = direct ? static_cast<float*>(dweight) + j : scratch + plan.dweight;
      sums.dweight_stride = direct ? p.classes : count;
    }
    for (const Tile& tile : p.tiles) {
      compute_logit_gradients(p, arguments, tile, j, count, scratch);
      add_gradients(p, arguments, tile, j, count, scratch, sums);
    }
    if (dweight && !direct) {
      round_rows(sums.dweight, p.width, count, p.x.dtype, offset_data(dweight, j, p.x.dtype),
                 p.classes);
    }
  }
  if (dx && !direct) round_rows(sums.dx, p.rows, p.width, p.x.dtype, dx, p.width);
}

std::unique_ptr<Kernel> make_backward(const KernelRequest& request, std::int64_t ignore_index) {
  BackwardPlan plan{make_plan(request, ignore_index)};
  const LossPlan& p = plan.loss;
  const bool direct = p.x.dtype == DType::kF32;
  plan.dx = p.tile_elements();
  plan.dweight = plan.dx + (request.needed[0] && !direct ? p.rows * p.width : 0);
  plan.size = plan.dweight + (request.needed[1] && !direct ? p.width * p.chunk() : 0);
  const auto bytes = static_cast<std::size_t>(plan.size) * sizeof(float);
  return make_cpu_kernel(
      [plan = std::move(plan)](const KernelArguments& arguments) { run_backward(plan, arguments); },
      bytes);
}

}  // namespace

std::unique_ptr<Kernel> make_linear_cross_entropy(const KernelRequest& request) {
  if (const auto* backward = std::get_if<op::LinearCrossEntropyBackward>(&request.operation)) {
    return make_backward(request, backward->ignore_index);
  }
  const auto& forward = std::get<op::LinearCrossEntropy>(request.operation);
  return make_forward(request, forward.ignore_index);
}

}  // namespace metal_candle::backend::cpu
