// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See element_text.h.
#include "metal_candle/backend/gpu/element_text.h"

#include <fmt/format.h>

#include <array>
#include <numeric>

#include "metal_candle/backend/elementwise.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::gpu {
namespace {

bool is_half(DType dtype) { return dtype == DType::kF16 || dtype == DType::kBF16; }

// ---- Functions that the dialect does not have. Texts that use a name get its definition.

struct Helper {
  std::string_view name;
  std::string_view text;
};

constexpr Helper kHelpers[] = {
    {"sigmoid", R"(
MC_FUNCTION float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
)"},
    {"logistic16", R"(
MC_FUNCTION float logistic16(float x) {
  return fast_reciprocal(1.0f + fast_exp2(x * -1.44269504f));
}
)"},
    // NaN wins.
    {"larger", R"(
template <typename T>
MC_FUNCTION T larger(T x, T y) { return x > y || x != x ? x : y; }
)"},
    {"smaller", R"(
template <typename T>
MC_FUNCTION T smaller(T x, T y) { return x < y || x != x ? x : y; }
)"},
    {"log_add_exp", R"(
MC_FUNCTION float log_add_exp(float x, float y) {
  const float most = x > y || x != x ? x : y;
  return x == y ? x + 0.693147180559945309f : most + log1pf(expf(-fabsf(x - y)));
}
)"},
    // Rounding a quotient may carry it up to an integer, which the remainder then shows. From 2^24
    // on, every float is an integer.
    {"floor_quotient", R"(
MC_FUNCTION float floor_quotient(float x, float y) {
  const float q = floorf(x / y);
  const float rest = fmaf(-q, y, x);
  const bool above = y > 0.0f ? rest < 0.0f : rest > 0.0f;
  return above && fabsf(q) < 16777216.0f ? q - 1.0f : q;
}
)"},
    // The sign of the divisor.
    {"floor_modulo", R"(
MC_FUNCTION float floor_modulo(float x, float y) {
  const float r = fmodf(x, y);
  if (r == 0.0f) return copysignf(0.0f, y);
  return (r < 0.0f) != (y < 0.0f) ? r + y : r;
}
)"},
    // Integers: T, and W, the unsigned type in which arithmetic wraps. Division by zero gives 0,
    // and the one quotient that overflows wraps.
    {"floor_divide", R"(
template <typename T, typename W>
MC_FUNCTION T floor_divide(T x, T y) {
  if (y == 0) return 0;
  if (T(-1) < T(0) && y == T(-1)) return T(W(0) - W(x));
  const T q = T(x / y);
  return x % y != 0 && (x < 0) != (y < 0) ? T(q - 1) : q;
}
)"},
    {"floor_remainder", R"(
template <typename T, typename W>
MC_FUNCTION T floor_remainder(T x, T y) {
  if (y == 0 || (T(-1) < T(0) && y == T(-1))) return 0;
  const T r = T(x % y);
  return r != 0 && (r < 0) != (y < 0) ? T(r + y) : r;
}
)"},
    // By squaring. A negative exponent truncates 1 / x^-y towards zero.
    {"integer_power", R"(
template <typename T, typename W>
MC_FUNCTION T integer_power(T x, T y) {
  if (y < 0) return x == T(1) ? T(1) : x == T(-1) ? (y % 2 == 0 ? T(1) : T(-1)) : T(0);
  W result = 1;
  W square = W(x);
  for (W exponent = W(y); exponent != 0; exponent >>= 1, square *= square) {
    if (exponent & 1u) result *= square;
  }
  return T(result);
}
)"},
    // Shifts by more than the width shift everything out.
    {"shift_left", R"(
template <typename T, typename W>
MC_FUNCTION T shift_left(T x, T y) {
  return W(y) < W(sizeof(T) * 8) ? T(W(x) << W(y)) : T(0);
}
)"},
    {"shift_right", R"(
template <typename T, typename W>
MC_FUNCTION T shift_right(T x, T y) {
  const W bits = sizeof(T) * 8;
  if (T(-1) < T(0)) return T(x >> (W(y) < bits ? W(y) : bits - 1));
  return W(y) < bits ? T(x >> W(y)) : T(0);
}
)"},
    // Truncates; NaN gives 0.
    {"saturate", R"(
template <typename T>
MC_FUNCTION T saturate(float x, float lowest, float end, T least, T most) {
  if (x != x) return 0;
  return x <= lowest ? least : x >= end ? most : T(x);
}
)"},
    // start + i * step, each number in two floats, so that nothing is lost before the one rounding.
    {"arange", R"(
MC_FUNCTION float arange(uint64_t i, float start, float start_rest, float step, float step_rest) {
  const float high = float(uint32_t(i >> 20)) * 1048576.0f;
  const float low = float(uint32_t(i) & 0xfffffu);
  const float product = high * step;
  const float product_rest = fmaf(high, step, -product);
  const float product2 = low * step;
  const float product2_rest = fmaf(low, step, -product2);
  const float sum = product + product2;
  const float part = sum - product;
  const float sum_rest = (product - (sum - part)) + (product2 - part);
  const float all = start + sum;
  const float part2 = all - start;
  const float all_rest = (start - (all - part2)) + (sum - part2);
  return all + (all_rest + (sum_rest + (product_rest + product2_rest) +
                            (start_rest + (high + low) * step_rest)));
}
)"},
};

// ---- Expressions. Empty: not defined for such operands.

// Of 16-bit operands, where two units in the last place of an f32 do not matter: a quarter of the
// instructions. Empty: as of f32.
std::string_view half_pattern(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::kExp:
      return "fast_exp2({0} * 1.44269504f)";
    case UnaryKind::kSigmoid:
      return "logistic16({0})";
    default:
      return {};
  }
}

std::string_view float_pattern(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::kAbs:
      return "fabsf({0})";
    case UnaryKind::kNegative:
      return "-{0}";
    case UnaryKind::kSign:
      return "{0} == 0.0f || {0} != {0} ? {0} : copysignf(1.0f, {0})";
    case UnaryKind::kSquare:
      return "{0} * {0}";
    case UnaryKind::kExp:
      return "expf({0})";
    case UnaryKind::kExpm1:
      return "expm1f({0})";
    case UnaryKind::kLog:
      return "logf({0})";
    case UnaryKind::kLog1p:
      return "log1pf({0})";
    case UnaryKind::kLog2:
      return "log2f({0})";
    case UnaryKind::kLog10:
      return "log10f({0})";
    case UnaryKind::kSqrt:
      return "sqrtf({0})";
    case UnaryKind::kRsqrt:
      return "rsqrtf({0})";
    case UnaryKind::kReciprocal:
      return "1.0f / {0}";
    case UnaryKind::kSin:
      return "sinf({0})";
    case UnaryKind::kCos:
      return "cosf({0})";
    case UnaryKind::kTan:
      return "tanf({0})";
    case UnaryKind::kAsin:
      return "asinf({0})";
    case UnaryKind::kAcos:
      return "acosf({0})";
    case UnaryKind::kAtan:
      return "atanf({0})";
    case UnaryKind::kSinh:
      return "sinhf({0})";
    case UnaryKind::kCosh:
      return "coshf({0})";
    case UnaryKind::kTanh:
      return "tanhf({0})";
    case UnaryKind::kAsinh:
      return "asinhf({0})";
    case UnaryKind::kAcosh:
      return "acoshf({0})";
    case UnaryKind::kAtanh:
      return "atanhf({0})";
    case UnaryKind::kErf:
      return "erff({0})";
    case UnaryKind::kErfInv:
      return "erfinvf({0})";
    case UnaryKind::kFloor:
      return "floorf({0})";
    case UnaryKind::kCeil:
      return "ceilf({0})";
    case UnaryKind::kRound:
      return "rintf({0})";
    case UnaryKind::kTrunc:
      return "truncf({0})";
    case UnaryKind::kSigmoid:
      return "sigmoid({0})";
    case UnaryKind::kRelu:
      return "max_or_nan({0}, 0.0f)";
    case UnaryKind::kGelu:
      return "0.5f * {0} * (1.0f + erff({0} * 0.707106781186547524f))";
    case UnaryKind::kGeluTanh:  // (1 + tanh(u)) / 2 is sigmoid(2 u).
      return "{0} * sigmoid({0} * (1.5957691216057308f + 0.07135481627260025f * {0} * {0}))";
    case UnaryKind::kSilu:
      return "{0} * sigmoid({0})";
    case UnaryKind::kIsNan:
      return "{0} != {0}";
    case UnaryKind::kIsInf:
      return "fabsf({0}) == INFINITY";
    case UnaryKind::kIsFinite:
      return "fabsf({0}) < INFINITY";
    case UnaryKind::kLogicalNot:
      return "{0} == 0.0f";
    case UnaryKind::kBitwiseNot:
      return "";
  }
  return "";
}

std::string_view integer_pattern(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::kAbs:
      return "{0} < 0 ? {T}({W}(0) - {W}({0})) : {0}";
    case UnaryKind::kNegative:
      return "{T}({W}(0) - {W}({0}))";
    case UnaryKind::kSign:
      return "{T}(({0} > 0) - ({0} < 0))";
    case UnaryKind::kSquare:
      return "{T}({W}({0}) * {W}({0}))";
    case UnaryKind::kFloor:
    case UnaryKind::kCeil:
    case UnaryKind::kRound:
    case UnaryKind::kTrunc:
      return "{0}";
    case UnaryKind::kRelu:
      return "{0} < 0 ? {T}(0) : {0}";
    case UnaryKind::kIsNan:
    case UnaryKind::kIsInf:
      return "false";
    case UnaryKind::kIsFinite:
      return "true";
    case UnaryKind::kLogicalNot:
      return "{0} == 0";
    case UnaryKind::kBitwiseNot:
      return "{T}(~{0})";
    default:
      return "";
  }
}

std::string_view predicate_pattern(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kEqual:
      return "{0} == {1}";
    case BinaryKind::kNotEqual:
      return "{0} != {1}";
    case BinaryKind::kLess:
      return "{0} < {1}";
    case BinaryKind::kLessEqual:
      return "{0} <= {1}";
    case BinaryKind::kGreater:
      return "{0} > {1}";
    case BinaryKind::kGreaterEqual:
      return "{0} >= {1}";
    case BinaryKind::kLogicalAnd:
      return "{0} != 0 && {1} != 0";
    case BinaryKind::kLogicalOr:
      return "{0} != 0 || {1} != 0";
    case BinaryKind::kLogicalXor:
      return "({0} != 0) != ({1} != 0)";
    default:
      return "";
  }
}

std::string_view float_pattern(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
      return "{0} + {1}";
    case BinaryKind::kSubtract:
      return "{0} - {1}";
    case BinaryKind::kMultiply:
      return "{0} * {1}";
    case BinaryKind::kDivide:
      return "{0} / {1}";
    case BinaryKind::kFloorDivide:
      return "floor_quotient({0}, {1})";
    case BinaryKind::kRemainder:
      return "floor_modulo({0}, {1})";
    case BinaryKind::kPower:
      return "powf({0}, {1})";
    case BinaryKind::kMaximum:
      return "max_or_nan({0}, {1})";
    case BinaryKind::kMinimum:
      return "min_or_nan({0}, {1})";
    case BinaryKind::kAtan2:
      return "atan2f({0}, {1})";
    case BinaryKind::kLogAddExp:
      return "log_add_exp({0}, {1})";
    case BinaryKind::kHypot:
      return "hypotf({0}, {1})";
    case BinaryKind::kCopysign:
      return "copysignf({0}, {1})";
    default:
      return predicate_pattern(kind);
  }
}

std::string_view integer_pattern(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
      return "{T}({W}({0}) + {W}({1}))";
    case BinaryKind::kSubtract:
      return "{T}({W}({0}) - {W}({1}))";
    case BinaryKind::kMultiply:
      return "{T}({W}({0}) * {W}({1}))";
    case BinaryKind::kFloorDivide:
      return "floor_divide<{T}, {W}>({0}, {1})";
    case BinaryKind::kRemainder:
      return "floor_remainder<{T}, {W}>({0}, {1})";
    case BinaryKind::kPower:
      return "integer_power<{T}, {W}>({0}, {1})";
    case BinaryKind::kMaximum:
      return "larger({0}, {1})";
    case BinaryKind::kMinimum:
      return "smaller({0}, {1})";
    case BinaryKind::kBitwiseAnd:
      return "{T}({0} & {1})";
    case BinaryKind::kBitwiseOr:
      return "{T}({0} | {1})";
    case BinaryKind::kBitwiseXor:
      return "{T}({0} ^ {1})";
    case BinaryKind::kShiftLeft:
      return "shift_left<{T}, {W}>({0}, {1})";
    case BinaryKind::kShiftRight:
      return "shift_right<{T}, {W}>({0}, {1})";
    default:
      return predicate_pattern(kind);
  }
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
    for (std::size_t i = 0; i < instructions.size(); ++i) {
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
  std::string text;
  for (const Helper& helper : kHelpers) {
    if (helpers_.contains(helper.name)) text += helper.text.substr(1);
  }
  text += fmt::format("MC_FUNCTION {} element(MC_CONSTANT Arguments& a, {} i", value_type(output_),
                      index);
  for (std::size_t k = 0; k < num_inputs_; ++k) {
    text += fmt::format(", {} v{}", value_type(values_[k].dtype), k);
  }
  return text + ") {\n" + statements_ + fmt::format("  return {};\n}}\n", values_.back().name);
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
    text = fmt::format("float({}({}))", stored_type(dtype), text);
  }
  const std::string name = fmt::format("v{}", values_.size());
  statements_ += fmt::format("  const {} {} = {};\n", value_type(dtype), name, text);
  values_.push_back({name, dtype});
}

std::string ElementText::expression(const Operation& operation, std::span<const Value> in,
                                    DType dtype) {
  if (const auto* o = std::get_if<op::Full>(&operation)) return full(o->value, dtype);
  if (const auto* o = std::get_if<op::Arange>(&operation)) return arange(*o, dtype);
  if (const auto* o = std::get_if<op::Unary>(&operation)) {
    std::string_view pattern =
        is_floating(in[0].dtype) ? float_pattern(o->kind) : integer_pattern(o->kind);
    if (is_half(in[0].dtype) && !half_pattern(o->kind).empty()) pattern = half_pattern(o->kind);
    return apply(pattern, operation, in[0], nullptr, is_predicate(o->kind));
  }
  if (const auto* o = std::get_if<op::Binary>(&operation)) {
    return apply(is_floating(in[0].dtype) ? float_pattern(o->kind) : integer_pattern(o->kind),
                 operation, in[0], &in[1], is_predicate(o->kind));
  }
  if (std::holds_alternative<op::Cast>(operation)) return cast(in[0], dtype);
  if (std::holds_alternative<op::Select>(operation)) {
    return fmt::format("{} ? {} : {}", in[0].name, in[1].name, in[2].name);
  }
  if (std::holds_alternative<op::SwiGlu>(operation)) {
    return apply(is_half(in[0].dtype) ? "{0} * logistic16({0}) * {1}" : "{0} * sigmoid({0}) * {1}",
                 operation, in[0], &in[1], false);
  }
  throw DTypeError(fmt::format("{} cannot be part of an elementwise program", name(operation)));
}

std::string ElementText::apply(std::string_view pattern, const Operation& operation, const Value& x,
                               const Value* y, bool gives_bool) {
  if (pattern.empty()) {
    throw DTypeError(fmt::format("{} is not defined for {}", to_string(operation), name(x.dtype)));
  }
  for (const Helper& helper : kHelpers) {
    if (pattern.find(fmt::format("{}(", helper.name)) != std::string_view::npos ||
        pattern.find(fmt::format("{}<", helper.name)) != std::string_view::npos) {
      helpers_.insert(helper.name);
    }
  }
  // bool is computed on as the integers 0 and 1.
  const bool logical = x.dtype == DType::kBool;
  const auto operand = [&](const Value& v) {
    return logical ? fmt::format("int32_t({})", v.name) : v.name;
  };
  const std::string text =
      fmt::format(fmt::runtime(pattern), operand(x), y == nullptr ? "" : operand(*y),
                  fmt::arg("T", logical ? "int32_t" : value_type(x.dtype)),
                  fmt::arg("W", x.dtype == DType::kI64 ? "uint64_t" : "uint32_t"));
  if (!logical || gives_bool) return text;
  const auto* unary = std::get_if<op::Unary>(&operation);
  if (unary != nullptr && unary->kind == UnaryKind::kBitwiseNot) return "!" + x.name;
  return fmt::format("({}) != 0", text);
}

std::string ElementText::cast(const Value& x, DType to) {
  if (to == DType::kBool) return x.dtype == to ? x.name : fmt::format("{} != 0", x.name);
  if (!is_floating(x.dtype) || is_floating(to)) {
    return fmt::format("{}({})", value_type(to), x.name);
  }
  helpers_.insert("saturate");
  return fmt::format("saturate<{}>({}, {})", value_type(to), x.name, limits_text(to));
}

std::string ElementText::full(const Scalar& value, DType dtype) {
  const std::string field = fmt::format("c{}", constants_++);
  std::array<std::byte, 8> element{};
  if (is_half(dtype)) {
    // As the f32 that it is computed as.
    const auto real = static_cast<float>(value.real);
    arguments_.add("float", field,
                   dtype == DType::kF16 ? static_cast<float>(Float16(real))
                                        : static_cast<float>(BFloat16(real)));
    return "a." + field;
  }
  store_scalar(value, dtype, element.data());
  dispatch_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_same_v<T, Float16> && !std::is_same_v<T, BFloat16>) {
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
  helpers_.insert("arange");
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
