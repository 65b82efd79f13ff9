// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See element_text.h.
#include "metal_candle/backend/gpu/element_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "metal_candle/backend/elementwise.h"
#include "metal_candle/backend/gpu/element_code.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::gpu {
namespace {

// ---- Expressions of integers x and y, of type T, with W its unsigned one. Empty: not defined.
// Those of floats, and predicates of either, are in kernels/element_table.h.

std::string_view integer_pattern(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::kAbs:
      return "x < 0 ? T(W(0) - W(x)) : x";
    case UnaryKind::kNegative:
      return "T(W(0) - W(x))";
    case UnaryKind::kSign:
      return "T((x > 0) - (x < 0))";
    case UnaryKind::kSquare:
      return "T(W(x) * W(x))";
    case UnaryKind::kFloor:
    case UnaryKind::kCeil:
    case UnaryKind::kRound:
    case UnaryKind::kTrunc:
      return "x";
    case UnaryKind::kRelu:
      return "x < 0 ? T(0) : x";
    case UnaryKind::kIsNan:
    case UnaryKind::kIsInf:
      return "false";
    case UnaryKind::kIsFinite:
      return "true";
    case UnaryKind::kBitwiseNot:
      return "T(~x)";
    case UnaryKind::kLogicalNot:
      return expression_of(kElementLogicalNot);
    default:
      return {};
  }
}

std::string_view integer_pattern(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
      return "T(W(x) + W(y))";
    case BinaryKind::kSubtract:
      return "T(W(x) - W(y))";
    case BinaryKind::kMultiply:
      return "T(W(x) * W(y))";
    case BinaryKind::kFloorDivide:
      return "floor_divide<T, W>(x, y)";
    case BinaryKind::kRemainder:
      return "floor_remainder<T, W>(x, y)";
    case BinaryKind::kPower:
      return "integer_power<T, W>(x, y)";
    case BinaryKind::kMaximum:
      return "larger(x, y)";
    case BinaryKind::kMinimum:
      return "smaller(x, y)";
    case BinaryKind::kBitwiseAnd:
      return "T(x & y)";
    case BinaryKind::kBitwiseOr:
      return "T(x | y)";
    case BinaryKind::kBitwiseXor:
      return "T(x ^ y)";
    case BinaryKind::kShiftLeft:
      return "shift_left<T, W>(x, y)";
    case BinaryKind::kShiftRight:
      return "shift_right<T, W>(x, y)";
    default:
      return is_predicate(kind) ? expression_of(element_code(op::Binary{kind}, DType::kF32))
                                : std::string_view();
  }
}

// The expression with words for the names in it.
std::string substitute(std::string_view expression,
                       std::initializer_list<std::pair<std::string_view, std::string_view>> words) {
  const auto is_part = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  std::string text;
  while (!expression.empty()) {
    std::size_t length = 0;
    while (length < expression.size() && is_part(expression[length])) ++length;
    std::string_view word = expression.substr(0, std::max<std::size_t>(length, 1));
    expression.remove_prefix(word.size());
    for (const auto& [name, replacement] : words) {
      if (word == name) {
        word = replacement;
        break;
      }
    }
    text += word;
  }
  return text;
}

// What saturate() needs to know of an integer type.
std::string_view limits_text(DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return "0.0f, 256.0f, 0, 255";
    case DType::kI8:
      return "-128.0f, 128.0f, -128, 127";
    case DType::kU32:
      return "0.0f, 4294967296.0f, 0u, 0xffffffffu";
    case DType::kI32:
      return "-2147483648.0f, 2147483648.0f, int32_t(0x80000000u), 0x7fffffff";
    default:
      return "-9223372036854775808.0f, 9223372036854775808.0f, "
             "-int64_t(0x7fffffffffffffff) - 1, int64_t(0x7fffffffffffffff)";
  }
}

}  // namespace

std::string_view stored_type(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return "uint8_t";
    case DType::kF16:
      return "half";
    case DType::kBF16:
      return "bfloat";
    default:
      return value_type(dtype);
  }
}

std::string_view value_type(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return "bool";
    case DType::kU8:
      return "uint8_t";
    case DType::kI8:
      return "int8_t";
    case DType::kI32:
      return "int32_t";
    case DType::kU32:
      return "uint32_t";
    case DType::kI64:
      return "int64_t";
    default:
      return "float";
  }
}

std::string load_text(DType dtype, std::string_view element) {
  if (dtype == DType::kBool) return fmt::format("{} != 0", element);
  return fmt::format("{}({})", value_type(dtype), element);
}

std::string store_text(DType dtype, std::string_view value) {
  return fmt::format("{}({})", stored_type(dtype), value);
}

float constant_of(const Scalar& value, DType dtype) {
  if (!is_floating(dtype)) return value.integer != 0 ? 1.0f : 0.0f;
  const auto real = static_cast<float>(value.real);
  if (dtype == DType::kF16) return static_cast<float>(Float16(real));
  if (dtype == DType::kBF16) return static_cast<float>(BFloat16(real));
  return real;
}

std::string short_name(const Operation& operation) {
  if (const auto* o = std::get_if<op::Unary>(&operation)) return std::string(name(o->kind));
  if (const auto* o = std::get_if<op::Binary>(&operation)) return std::string(name(o->kind));
  if (const auto* o = std::get_if<op::ElementwiseReduce>(&operation)) {
    return fmt::format("{}_of_{}", name(o->reduce.kind), short_name(o->elementwise));
  }
  const auto* fused = std::get_if<op::Elementwise>(&operation);
  if (fused == nullptr) return std::string(name(operation));
  constexpr int kMostNames = 4;
  std::string names;
  int count = 0;
  for (const ElementwiseInstruction& instruction : fused->program->instructions) {
    if (std::holds_alternative<op::Full>(instruction.operation)) continue;
    if (++count <= kMostNames) names += (count > 1 ? "_" : "") + short_name(instruction.operation);
  }
  if (count > kMostNames) names += fmt::format("_and_{}", count - kMostNames);
  return names.empty() ? "full" : names;
}

std::string name_with_hash(std::string_view what, std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a.
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return fmt::format("{}_{:016x}", what, hash);
}

ElementText::ElementText(const Operation& operation, std::span<const DType> inputs, DType output,
                         ArgumentStruct& arguments)
    : arguments_(arguments), num_inputs_(inputs.size()), output_(output) {
  for (const DType dtype : inputs) {
    values_.push_back({fmt::format("v{}", values_.size()), dtype});
  }
  const auto* reduced = std::get_if<op::ElementwiseReduce>(&operation);
  const auto* fused = reduced ? &reduced->elementwise : std::get_if<op::Elementwise>(&operation);
  if (fused != nullptr) {
    const auto& instructions = fused->program->instructions;
    const std::vector<Contraction> contracted = contractions(*fused->program);
    for (std::size_t i = 0; i < instructions.size(); ++i) {
      if (contracted[i].is_swallowed) {
        values_.push_back({"", instructions[i].dtype});
        continue;
      }
      if (contracted[i].code != kNoElementCode) {
        add_contracted(contracted[i], instructions[i].dtype);
        continue;
      }
      // What is stored is rounded then; what is reduced is not.
      const bool is_stored = !reduced && i + 1 == instructions.size();
      add(instructions[i].operation, instructions[i].arguments, instructions[i].dtype, is_stored);
    }
  } else {
    std::array<std::int32_t, 3> all = {0, 1, 2};
    add(operation, std::span(all).first(inputs.size()), output, true);
  }
}

std::string ElementText::function(std::string_view index) const {
  std::string text = fmt::format("MC_FUNCTION {} element(MC_CONSTANT Arguments& a, {} i",
                                 value_type(output_), index);
  for (std::size_t k = 0; k < num_inputs_; ++k) {
    text += fmt::format(", {} v{}", value_type(values_[k].dtype), k);
  }
  return text + ") {\n" + statements_ + fmt::format("  return {};\n}}\n", values_.back().name);
}

void ElementText::add_contracted(const Contraction& sum, DType dtype) {
  ++instructions_;
  const auto name_of = [&](std::size_t k) {
    return values_[static_cast<std::size_t>(sum.from[k])].name;
  };
  define(substitute(expression_of(sum.code),
                    {{"x", name_of(0)}, {"y", name_of(1)}, {"z", name_of(2)}}),
         dtype);
}

void ElementText::define(std::string_view text, DType dtype) {
  const std::string name = fmt::format("v{}", values_.size());
  statements_ += fmt::format("  const {} {} = {};\n", value_type(dtype), name, text);
  values_.push_back({name, dtype});
}

// A store rounds by itself.
void ElementText::add(const Operation& operation, std::span<const std::int32_t> arguments,
                      DType dtype, bool is_stored) {
  ++instructions_;
  std::vector<Value> in;
  for (const std::int32_t r : arguments) in.push_back(values_[static_cast<std::size_t>(r)]);
  std::string text = expression(operation, in, dtype);
  const bool same = std::holds_alternative<op::Cast>(operation) && in[0].dtype == dtype;
  if (!is_stored && is_half(dtype) && rounds_inside(operation) && !same) {
    text = substitute(expression_of(rounding_to(dtype)), {{"x", text}});
  }
  define(text, dtype);
}

std::string ElementText::expression(const Operation& operation, std::span<const Value> in,
                                    DType dtype) {
  if (const auto* o = std::get_if<op::Full>(&operation)) return full(o->value, dtype);
  if (const auto* o = std::get_if<op::Arange>(&operation)) return arange(*o, dtype);
  if (std::holds_alternative<op::Cast>(operation)) return cast(in[0], dtype);
  if (is_floating(in[0].dtype) || std::holds_alternative<op::Select>(operation)) {
    return apply(expression_of(element_code(operation, in[0].dtype)), operation, in);
  }
  if (const auto* o = std::get_if<op::Unary>(&operation)) {
    if (in[0].dtype != DType::kBool || is_predicate(o->kind)) {
      return apply(integer_pattern(o->kind), operation, in);
    }
    if (o->kind == UnaryKind::kBitwiseNot) return "!" + in[0].name;
    return fmt::format("({}) != 0", apply(integer_pattern(o->kind), operation, in));
  }
  if (const auto* o = std::get_if<op::Binary>(&operation)) {
    std::string text = apply(integer_pattern(o->kind), operation, in);
    if (in[0].dtype != DType::kBool || is_predicate(o->kind)) return text;
    return fmt::format("({}) != 0", text);
  }
  throw DTypeError(fmt::format("{} cannot be part of an elementwise program", name(operation)));
}

// bool is computed on as the integers 0 and 1.
std::string ElementText::apply(std::string_view pattern, const Operation& operation,
                               std::span<const Value> in) {
  const DType dtype = in[0].dtype;
  if (pattern.empty()) {
    throw DTypeError(fmt::format("{} is not defined for {}", to_string(operation), name(dtype)));
  }
  const bool logical = dtype == DType::kBool && !std::holds_alternative<op::Select>(operation);
  const auto operand = [&](std::size_t i) {
    if (i >= in.size()) return std::string();
    return logical ? fmt::format("int32_t({})", in[i].name) : in[i].name;
  };
  return substitute(pattern, {{"x", operand(0)},
                              {"y", operand(1)},
                              {"z", operand(2)},
                              {"T", logical ? "int32_t" : value_type(dtype)},
                              {"W", dtype == DType::kI64 ? "uint64_t" : "uint32_t"}});
}

std::string ElementText::cast(const Value& x, DType to) {
  if (to == DType::kBool) {
    if (x.dtype == to) return x.name;
    return substitute(expression_of(kElementIsNotZero), {{"x", x.name}});
  }
  if (!is_floating(x.dtype) || is_floating(to)) {
    return fmt::format("{}({})", value_type(to), x.name);
  }
  return fmt::format("saturate<{}>({}, {})", value_type(to), x.name, limits_text(to));
}

std::string ElementText::full(const Scalar& value, DType dtype) {
  const std::string field = fmt::format("c{}", constants_++);
  std::array<std::byte, 8> element{};
  if (is_floating(dtype)) {
    arguments_.add("float", field, constant_of(value, dtype));
    return "a." + field;
  }
  store_scalar(value, dtype, element.data());
  dispatch_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!is_floating(dtype_of<T>())) {
      T stored;
      std::memcpy(&stored, element.data(), sizeof(T));
      arguments_.add(stored_type(dtype), field, stored);
    }
  });
  return dtype == DType::kBool ? fmt::format("a.{} != 0", field) : "a." + field;
}

std::string ElementText::arange(const op::Arange& range, DType dtype) {
  if (!is_floating(dtype)) {
    arguments_.add("int64_t", "start", range.start.integer);
    arguments_.add("int64_t", "step", range.step.integer);
    const std::string value = "uint64_t(a.start) + uint64_t(i) * uint64_t(a.step)";
    if (dtype == DType::kBool) return fmt::format("({}) != 0", value);
    return fmt::format("{}({})", value_type(dtype), value);
  }
  const auto add = [&](std::string_view field, double value) {
    const auto most = static_cast<float>(value);
    arguments_.add("float", field, most);
    arguments_.add("float", fmt::format("{}_rest", field),
                   static_cast<float>(value - static_cast<double>(most)));
  };
  add("start", range.start.real);
  add("step", range.step.real);
  return "arange(i, a.start, a.start_rest, a.step, a.step_rest)";
}

}  // namespace metal_candle::backend::gpu
