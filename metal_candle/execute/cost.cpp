// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cost.h.
#include "metal_candle/execute/cost.h"

#include <fmt/format.h>

#include <algorithm>

namespace metal_candle {
namespace {

double elements(const TensorLayout& layout) {
  return static_cast<double>(num_elements(layout.shape));
}

double last(const TensorLayout& layout, int from_end = 1) {
  return layout.shape.rank() < from_end
             ? 1.0
             : static_cast<double>(layout.shape[layout.shape.rank() - from_end]);
}

// Bytes of memory that a layout touches: a broadcast one is read once.
double bytes_touched(const TensorLayout& layout) {
  double count = static_cast<double>(size_of(layout.dtype));
  for (int axis = 0; axis < layout.shape.rank(); ++axis) {
    if (layout.strides[axis] != 0) count *= static_cast<double>(layout.shape[axis]);
  }
  return count;
}

double count_flops(const Operation& operation, std::span<const TensorLayout> inputs,
                   std::span<const TensorLayout> outputs) {
  const auto product = [&](std::size_t x, std::size_t w) {
    return 2 * elements(inputs[x]) * last(inputs[w]);
  };
  const auto matmul = [&] { return 2 * elements(outputs[0]) * last(inputs[0]); };
  const auto lora = [&](std::size_t a, std::size_t b) {
    const double rows = elements(inputs[0]) / std::max(1.0, last(inputs[0]));
    return product(0, a) + 2 * rows * elements(inputs[b]);
  };
  return std::visit(
      Overload{
          [&](const op::Matmul&) { return matmul(); },
          [&](const op::Linear&) { return matmul(); },
          [&](const op::ProductSum& o) {
            double all = 0;
            for (int i = 0; i < o.count; ++i) {
              all += 2 * elements(outputs[0]) * last(inputs[2 * static_cast<std::size_t>(i)]);
            }
            return all;
          },
          [&](const op::SwiGluBackward& o) {
            const double dy = o.of_product ? 2 * last(inputs[2]) : 0;
            return elements(outputs[0]) * (1 + dy);
          },
          [&](const op::NormLinear& o) { return matmul() * (o.gated ? 2 : 1); },
          [&](const op::Lora&) { return lora(1, 2); },
          [&](const op::LoraLinear&) { return matmul() + lora(2, 3); },
          [&](const op::Attention&) { return 2 * elements(inputs[0]) * last(inputs[1], 2) * 2; },
          [&](const op::CachedAttention&) {
            return 2 * elements(inputs[0]) * last(inputs[3], 2) * 2;
          },
          [&](const op::AttentionBackward&) {
            return 2 * elements(inputs[0]) * last(inputs[1], 2) * 5;
          },
          [&](const op::LinearCrossEntropy&) { return product(0, 1); },
          [&](const op::LinearCrossEntropyBackward&) { return 3 * product(0, 1); },
          [&](const op::Elementwise& e) {
            return elements(outputs[0]) * static_cast<double>(e.program->instructions.size());
          },
          [&](const op::ElementwiseReduce& e) {
            // An operand is as large as what is reduced, or they broadcast to it, which is rare.
            double largest = 0;
            for (const TensorLayout& input : inputs) largest = std::max(largest, elements(input));
            return largest * static_cast<double>(e.elementwise.program->instructions.size() + 1);
          },
          [&](const auto&) { return elements(outputs[0]); },
      },
      operation);
}

double count_bytes(const Operation& operation, std::span<const TensorLayout> inputs,
                   std::span<const TensorLayout> outputs) {
  const auto all = [&](std::size_t first_input) {
    double bytes = 0;
    for (const TensorLayout& layout : inputs.subspan(first_input)) bytes += bytes_touched(layout);
    for (const TensorLayout& layout : outputs) bytes += bytes_touched(layout);
    return bytes;
  };
  // Rows of the first input are copied to the output.
  const auto taken = [&] { return all(1) + bytes_touched(outputs[0]); };
  // The second input is written into the first, which is the output's memory.
  const auto updated = [&] {
    double bytes = 2 * bytes_touched(inputs[1]);
    for (const TensorLayout& layout : inputs.subspan(2)) bytes += bytes_touched(layout);
    return bytes;
  };
  // All of the caches is read, and a few rows of them written.
  const auto cached = [&] {
    double bytes = bytes_touched(outputs[0]) + bytes_touched(inputs[1]) + bytes_touched(inputs[2]);
    for (const TensorLayout& layout : inputs) bytes += bytes_touched(layout);
    return bytes;
  };
  return std::visit(Overload{
                        [&](const op::CachedAttention&) { return cached(); },
                        [&](const op::Take&) { return taken(); },
                        [&](const op::TakeAlongAxis&) { return taken(); },
                        [&](const op::DynamicSlice&) { return taken(); },
                        [&](const op::SliceUpdate&) { return updated(); },
                        [&](const op::DynamicSliceUpdate&) { return updated(); },
                        [&](const auto&) { return all(0); },
                    },
                    operation);
}

std::string describe(const TensorLayout& layout) {
  return fmt::format("{}{}", name(layout.dtype), to_string(layout.shape));
}

}  // namespace

backend::StepLabel make_label(Device device, const Operation& operation,
                              std::span<const TensorLayout> inputs,
                              std::span<const TensorLayout> outputs) {
  backend::StepLabel label;
  label.name = name(operation);
  label.device = device;
  label.dtype = inputs.empty() ? outputs[0].dtype : inputs[0].dtype;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    label.detail += (i == 0 ? "" : ", ") + describe(inputs[i]);
  }
  label.detail += " -> ";
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    label.detail += (i == 0 ? "" : ", ") + describe(outputs[i]);
  }
  label.bytes = count_bytes(operation, inputs, outputs);
  label.flops = count_flops(operation, inputs, outputs);
  return label;
}

}  // namespace metal_candle
