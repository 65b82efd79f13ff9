// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Dispatch to the rules in shape_rules/, the outputs after the first, and the words of errors.
#include "metal_candle/graph/shape_rules.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/shape_rules/rules.h"

namespace metal_candle {
namespace shape_rules {
namespace {

std::string describe(const TensorSpec& spec) {
  return fmt::format("{}{}", name(spec.dtype), to_string(spec.shape));
}

}  // namespace

std::string Context::operands() const {
  std::string text;
  for (const TensorSpec* input : inputs_) {
    if (!text.empty()) text += ", ";
    text += describe(*input);
  }
  return text.empty() ? "no operands" : text;
}

void Context::shape_error(std::string_view what) const {
  throw ShapeError(fmt::format("{}: {}: {}", op_name(), what, operands()));
}

void Context::dtype_error(std::string_view what) const {
  throw DTypeError(fmt::format("{}: {}: {}", op_name(), what, operands()));
}

void Context::requested_error(std::string_view what) const {
  if (count() == 0) {
    throw ShapeError(fmt::format("{}: {}: {}", op_name(), what, to_string(requested_.shape)));
  }
  throw ShapeError(
      fmt::format("{}: {}: {} to {}", op_name(), what, operands(), to_string(requested_.shape)));
}

void Context::axis_error(int axis) const {
  throw ShapeError(fmt::format("{}: axis {} is out of range: {}", op_name(), axis, operands()));
}

void Context::count_error(std::size_t least, std::size_t most) const {
  const std::string wanted =
      least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most);
  throw Error(
      fmt::format("{}: takes {} operands, not {}: {}", op_name(), wanted, count(), operands()));
}

void Context::operand_dtype_error(std::size_t i, DType expected) const {
  throw DTypeError(
      fmt::format("{}: operand {} must be {}: {}", op_name(), i, name(expected), operands()));
}

void Context::operand_shape_error(std::size_t i, const Shape& expected) const {
  throw ShapeError(fmt::format("{}: operand {} must have shape {}: {}", op_name(), i,
                               to_string(expected), operands()));
}

void Context::rank_error(std::size_t i, int rank) const {
  throw ShapeError(fmt::format("{}: operand {} must have at least {} dimensions: {}", op_name(), i,
                               rank, operands()));
}

Shape broadcast_unequal(const Context& c, const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const int offset = longer.rank() - shorter.rank();
  for (int i = 0; i < shorter.rank(); ++i) {
    std::int64_t& length = result[offset + i];
    if (length == shorter[i] || shorter[i] == 1) continue;
    if (length != 1) [[unlikely]]
      c.shape_error("shapes do not broadcast");
    length = shorter[i];
  }
  return result;
}

namespace {

[[noreturn]] void throw_too_large(const Context& c, const TensorSpec& spec) {
  c.shape_error(fmt::format("the result {} has more bytes than 63 bits can count", describe(spec)));
}

// Every tensor's size in bytes fits 63 bits, so nothing after this needs to ask.
TensorSpec check_size(const Context& c, TensorSpec spec) {
  auto bytes = static_cast<std::int64_t>(size_of(spec.dtype));
  bool overflow = false;
  for (const std::int64_t length : spec.shape) {
    if (length == 0) return spec;
    overflow |= __builtin_mul_overflow(bytes, length, &bytes);
  }
  if (overflow) [[unlikely]]
    throw_too_large(c, spec);
  return spec;
}

// ---- Outputs after the first. Those of operations not named here are one.
// -------------------------

template <typename T>
void other_outputs(const T&, const Context&, OutputSpecs&) {}

void append(OutputSpecs& outputs, const TensorSpec& spec) {
  outputs.specs[static_cast<std::size_t>(outputs.count++)] = spec;
}

void other_outputs(const op::RmsNormBackward&, const Context& c, OutputSpecs& outputs) {
  if (c.count() >= 3) append(outputs, c[1]);
}
void other_outputs(const op::SwiGluBackward&, const Context& c, OutputSpecs& outputs) {
  append(outputs, c[1]);
}
void other_outputs(const op::LoraLinear& o, const Context& c, OutputSpecs& outputs) {
  if (!o.keeps_low) return;
  Shape shape = c.shape(0);
  shape.back() = c.shape(2).back();
  append(outputs, {shape, c.dtype(0)});
}
void other_outputs(const op::LayerNormBackward&, const Context& c, OutputSpecs& outputs) {
  if (c.count() == 3) append(outputs, c[1]);
}
void other_outputs(const op::Attention&, const Context& c, OutputSpecs& outputs) {
  append(outputs, {leading(c.shape(0)), DType::kF32});
}
void other_outputs(const op::AttentionBackward&, const Context& c, OutputSpecs& outputs) {
  append(outputs, c[1]);
  append(outputs, c[2]);
}
void other_outputs(const op::CachedAttention&, const Context& c, OutputSpecs& outputs) {
  append(outputs, c[3]);
  append(outputs, c[4]);
}
void other_outputs(const op::CrossEntropy&, const Context&, OutputSpecs& outputs) {
  append(outputs, outputs.specs[0]);
}
void other_outputs(const op::LinearCrossEntropy&, const Context& c, OutputSpecs& outputs) {
  append(outputs, outputs.specs[0]);
  append(outputs, c[0]);
}
void other_outputs(const op::LinearCrossEntropyBackward&, const Context& c, OutputSpecs& outputs) {
  append(outputs, c[1]);
}

}  // namespace
}  // namespace shape_rules

int num_outputs(const Operation& operation) {
  return std::visit(Overload{
                        [](const auto&) { return 1; },
                        [](const op::CustomGradient& o) { return o.num_outputs; },
                        [](const op::RmsNormBackward&) { return 2; },
                        [](const op::LayerNormBackward&) { return 2; },
                        [](const op::SwiGluBackward&) { return 2; },
                        [](const op::LoraLinear& o) { return o.keeps_low ? 2 : 1; },
                        [](const op::Attention&) { return 2; },
                        [](const op::AttentionBackward&) { return 3; },
                        [](const op::CachedAttention&) { return 3; },
                        [](const op::CrossEntropy&) { return 2; },
                        [](const op::LinearCrossEntropy&) { return 3; },
                        [](const op::LinearCrossEntropyBackward&) { return 2; },
                    },
                    operation);
}

TensorSpec infer_output(const Operation& operation, SpecRefs inputs, const TensorSpec& requested) {
  const shape_rules::Context c(operation, inputs, requested);
  return shape_rules::check_size(
      c, std::visit([&](const auto& o) { return shape_rules::infer(o, c); }, operation));
}

OutputSpecs infer_outputs(const Operation& operation, SpecRefs inputs,
                          const TensorSpec& requested) {
  const shape_rules::Context c(operation, inputs, requested);
  OutputSpecs outputs;
  std::visit(
      [&](const auto& o) {
        outputs.specs[0] = shape_rules::check_size(c, shape_rules::infer(o, c));
        outputs.count = 1;
        shape_rules::other_outputs(o, c, outputs);
      },
      operation);
  return outputs;
}

}  // namespace metal_candle
