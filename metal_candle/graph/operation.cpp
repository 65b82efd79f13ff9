// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Names, hashes and classes of operations. fields() lists the attributes of each operation once;
// hash() and to_string() both read that list.
#include "metal_candle/graph/operation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <tuple>

namespace metal_candle {
namespace {

constexpr std::array<std::string_view, kNumUnaryKinds> kUnaryNames = {
    "abs",   "negative", "sign",  "square",   "exp",         "expm1",      "log",
    "log1p", "log2",     "log10", "sqrt",     "rsqrt",       "reciprocal", "sin",
    "cos",   "tan",      "asin",  "acos",     "atan",        "sinh",       "cosh",
    "tanh",  "asinh",    "acosh", "atanh",    "erf",         "erfinv",     "floor",
    "ceil",  "round",    "trunc", "sigmoid",  "relu",        "gelu",       "gelu_tanh",
    "silu",  "isnan",    "isinf", "isfinite", "logical_not", "bitwise_not"};

constexpr std::array<std::string_view, kNumBinaryKinds> kBinaryNames = {
    "add",         "subtract",    "multiply",   "divide",      "floor_divide", "remainder",
    "power",       "maximum",     "minimum",    "atan2",       "logaddexp",    "hypot",
    "copysign",    "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift",   "right_shift",
    "equal",       "not_equal",   "less",       "less_equal",  "greater",      "greater_equal",
    "logical_and", "logical_or",  "logical_xor"};

constexpr std::array<std::string_view, 6> kReduceNames = {"sum", "prod", "max",
                                                          "min", "any",  "all"};
constexpr std::array<std::string_view, 6> kReduceOperationNames = {
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any", "reduce_all"};
constexpr std::array<std::string_view, 6> kElementwiseReduceNames = {
    "elementwise_reduce_sum", "elementwise_reduce_prod", "elementwise_reduce_max",
    "elementwise_reduce_min", "elementwise_reduce_any",  "elementwise_reduce_all"};
constexpr std::array<std::string_view, 6> kCumulativeNames = {"cumulative_sum", "cumulative_prod",
                                                              "cumulative_max", "cumulative_min",
                                                              "cumulative_any", "cumulative_all"};

// A table too short would leave empty names at its end.
static_assert(!kUnaryNames.back().empty() && !kBinaryNames.back().empty());

template <typename T>
struct Field {
  std::string_view name;
  const T& value;
};
template <typename T>
Field(std::string_view, const T&) -> Field<T>;

#define FIELD(member) \
  Field { #member, operation.member }

template <typename T>
requires std::is_empty_v<T>
auto fields(const T&) { return std::tuple(); }

auto fields(const op::Full& operation) { return std::tuple(FIELD(value)); }
auto fields(const op::Arange& operation) { return std::tuple(FIELD(start), FIELD(step)); }
auto fields(const op::Unary& operation) { return std::tuple(FIELD(kind)); }
auto fields(const op::Binary& operation) { return std::tuple(FIELD(kind)); }
auto fields(const op::Reduce& operation) {
  return std::tuple(FIELD(kind), FIELD(axes), FIELD(keepdims));
}
auto fields(const op::ArgReduce& operation) { return std::tuple(FIELD(is_max), FIELD(axis)); }
auto fields(const op::Cumulative& operation) {
  return std::tuple(FIELD(kind), FIELD(axis), FIELD(reverse));
}
auto fields(const op::Sort& operation) { return std::tuple(FIELD(axis), FIELD(descending)); }
auto fields(const op::ArgSort& operation) { return std::tuple(FIELD(axis), FIELD(descending)); }
auto fields(const op::ArgTopK& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::Transpose& operation) { return std::tuple(FIELD(permutation)); }
auto fields(const op::Slice& operation) { return std::tuple(FIELD(start), FIELD(step)); }
auto fields(const op::Concatenate& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::Pad& operation) { return std::tuple(FIELD(low), FIELD(value)); }
auto fields(const op::Pick& operation) { return std::tuple(FIELD(index)); }
auto fields(const op::CustomGradient& operation) { return std::tuple(FIELD(num_outputs)); }
auto fields(const op::Take& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::TakeAlongAxis& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::ScatterAdd& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::ScatterAddAlongAxis& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::SliceUpdate& operation) { return std::tuple(FIELD(start), FIELD(step)); }
auto fields(const op::DynamicSlice& operation) { return std::tuple(FIELD(axes)); }
auto fields(const op::DynamicSliceUpdate& operation) { return std::tuple(FIELD(axes)); }
auto fields(const op::Softmax& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::LogSoftmax& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::LogSumExp& operation) { return std::tuple(FIELD(axis), FIELD(keepdims)); }
auto fields(const op::TopPThreshold& operation) { return std::tuple(FIELD(p)); }
auto fields(const op::SoftmaxBackward& operation) { return std::tuple(FIELD(axis)); }
auto fields(const op::RmsNorm& operation) { return std::tuple(FIELD(eps)); }
auto fields(const op::RmsNormBackward& operation) {
  return std::tuple(FIELD(eps), FIELD(has_residual));
}
auto fields(const op::LayerNorm& operation) { return std::tuple(FIELD(eps)); }
auto fields(const op::LayerNormBackward& operation) { return std::tuple(FIELD(eps)); }
auto fields(const op::SwiGluBackward& operation) { return std::tuple(FIELD(of_product)); }
auto fields(const op::Rope& operation) {
  return std::tuple(FIELD(dims), FIELD(interleaved), FIELD(inverse), FIELD(scale));
}
auto fields(const op::Lora& operation) { return std::tuple(FIELD(scale)); }
auto fields(const op::LoraLinear& operation) {
  return std::tuple(FIELD(scale), FIELD(has_bias), FIELD(keeps_low));
}
auto fields(const op::Linear& operation) {
  return std::tuple(FIELD(activation), FIELD(has_bias), FIELD(has_residual), FIELD(scale));
}
auto fields(const op::ProductSum& operation) {
  return std::tuple(FIELD(count), FIELD(has_residual));
}
auto fields(const op::NormLinear& operation) {
  return std::tuple_cat(std::tuple(FIELD(eps), FIELD(gated)), fields(operation.linear));
}
auto fields(const op::Attention& operation) {
  return std::tuple(FIELD(scale), FIELD(causal), FIELD(window), FIELD(has_mask),
                    FIELD(has_key_length));
}
auto fields(const op::AttentionBackward& operation) { return fields(operation.forward); }
auto fields(const op::CachedAttention& operation) {
  return std::tuple_cat(fields(operation.rope), fields(operation.attention));
}
auto fields(const op::CrossEntropy& operation) { return std::tuple(FIELD(ignore_index)); }
auto fields(const op::CrossEntropyBackward& operation) { return std::tuple(FIELD(ignore_index)); }
auto fields(const op::LinearCrossEntropy& operation) { return std::tuple(FIELD(ignore_index)); }
auto fields(const op::LinearCrossEntropyBackward& operation) {
  return std::tuple(FIELD(ignore_index));
}
auto fields(const op::Elementwise& operation) { return std::tuple(FIELD(program)); }
auto fields(const op::ElementwiseReduce& operation) {
  return std::tuple_cat(fields(operation.elementwise), fields(operation.reduce));
}
#undef FIELD

// ---- Hashing ------------------------------------------------------------------------------------

/// A multiplication and a fold a word: a bijection of the state, so no word is ever forgotten.
class Hasher {
 public:
  void add(std::uint64_t word) {
    // Odd constants: 2^64 over the golden ratio, and MurmurHash3's finaliser.
    state_ = (state_ + 0x9e3779b97f4a7c15u) ^ word;
    state_ *= 0xc4ceb9fe1a85ec53u;
    state_ ^= state_ >> 32;
  }
  template <typename T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>) void add(T value) {
    add(static_cast<std::uint64_t>(value));
  }
  void add(float value) { add(std::uint64_t{std::bit_cast<std::uint32_t>(value)}); }
  void add(const Scalar& value) {
    add(std::bit_cast<std::uint64_t>(value.real));
    add(static_cast<std::uint64_t>(value.integer));
  }
  void add(const Dims& dims) {
    add(static_cast<std::uint64_t>(dims.rank()));
    for (const std::int64_t d : dims) add(static_cast<std::uint64_t>(d));
  }
  void add(const std::shared_ptr<const ElementwiseProgram>& program) {
    for (const DType dtype : program->inputs) add(dtype);
    for (const ElementwiseInstruction& instruction : program->instructions) {
      add(hash(instruction.operation));
      add(instruction.dtype);
      for (const std::int32_t argument : instruction.arguments) add(argument);
    }
  }
  [[nodiscard]] std::uint64_t state() const { return state_; }

 private:
  std::uint64_t state_ = 0;
};

// ---- Text ---------------------------------------------------------------------------------------

template <typename T>
constexpr bool kIsPartOfTheName =
    std::is_same_v<T, UnaryKind> || std::is_same_v<T, BinaryKind> || std::is_same_v<T, ReduceKind>;

std::string to_text(bool value) { return value ? "true" : "false"; }
std::string to_text(const Dims& value) { return to_string(value); }
std::string to_text(const Scalar& value) { return fmt::format("{}", value.real); }
std::string to_text(op::Activation value) {
  constexpr std::array<std::string_view, 5> kNames = {"none", "relu", "gelu", "gelu_tanh", "silu"};
  return std::string(kNames[static_cast<std::size_t>(value)]);
}
std::string to_text(const std::shared_ptr<const ElementwiseProgram>& program) {
  std::string text;
  for (std::size_t i = 0; i < program->instructions.size(); ++i) {
    const ElementwiseInstruction& instruction = program->instructions[i];
    text += fmt::format("{}%{} = {} {} %{}", i == 0 ? "" : "; ", program->inputs.size() + i,
                        to_string(instruction.operation), name(instruction.dtype),
                        fmt::join(instruction.arguments, " %"));
    if (instruction.arguments.empty()) text.erase(text.size() - 2);
  }
  return text;
}
template <typename T>
requires(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) std::string to_text(T value) {
  return fmt::format("{}", value);
}

template <typename T>
void append_field(std::string& text, const Field<T>& field) {
  if constexpr (!kIsPartOfTheName<T>) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", field.name, to_text(field.value));
  }
}

}  // namespace

namespace op {
bool operator==(const Elementwise& a, const Elementwise& b) {
  return a.program == b.program || (a.program && b.program && *a.program == *b.program);
}
}  // namespace op

std::string_view name(UnaryKind kind) { return kUnaryNames[static_cast<std::size_t>(kind)]; }
std::string_view name(BinaryKind kind) { return kBinaryNames[static_cast<std::size_t>(kind)]; }
std::string_view name(ReduceKind kind) { return kReduceNames[static_cast<std::size_t>(kind)]; }

bool is_predicate(UnaryKind kind) {
  return kind >= UnaryKind::kIsNan && kind <= UnaryKind::kLogicalNot;
}
bool is_predicate(BinaryKind kind) { return kind >= BinaryKind::kEqual; }

bool is_commutative(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
    case BinaryKind::kMultiply:
    case BinaryKind::kMaximum:
    case BinaryKind::kMinimum:
    case BinaryKind::kLogAddExp:
    case BinaryKind::kHypot:
    case BinaryKind::kBitwiseAnd:
    case BinaryKind::kBitwiseOr:
    case BinaryKind::kBitwiseXor:
    case BinaryKind::kEqual:
    case BinaryKind::kNotEqual:
    case BinaryKind::kLogicalAnd:
    case BinaryKind::kLogicalOr:
    case BinaryKind::kLogicalXor:
      return true;
    default:
      return false;
  }
}

std::string_view name(const Operation& operation) {
  using View = std::string_view;
  return std::visit(
      Overload{
          [](const op::Full&) -> View { return "full"; },
          [](const op::Arange&) -> View { return "arange"; },
          [](const op::RandomBits&) -> View { return "random_bits"; },
          [](const op::Unary& o) { return name(o.kind); },
          [](const op::Binary& o) { return name(o.kind); },
          [](const op::Select&) -> View { return "where"; },
          [](const op::Cast&) -> View { return "cast"; },
          [](const op::Reduce& o) {
            return kReduceOperationNames[static_cast<std::size_t>(o.kind)];
          },
          [](const op::ArgReduce& o) -> View { return o.is_max ? "argmax" : "argmin"; },
          [](const op::Cumulative& o) {
            return kCumulativeNames[static_cast<std::size_t>(o.kind)];
          },
          [](const op::Sort&) -> View { return "sort"; },
          [](const op::ArgSort&) -> View { return "argsort"; },
          [](const op::ArgTopK&) -> View { return "argtopk"; },
          [](const op::Matmul&) -> View { return "matmul"; },
          [](const op::Reshape&) -> View { return "reshape"; },
          [](const op::Transpose&) -> View { return "transpose"; },
          [](const op::Slice&) -> View { return "slice"; },
          [](const op::Broadcast&) -> View { return "broadcast_to"; },
          [](const op::Concatenate&) -> View { return "concatenate"; },
          [](const op::Pad&) -> View { return "pad"; },
          [](const op::Barrier&) -> View { return "barrier"; },
          [](const op::StopGradient&) -> View { return "stop_gradient"; },
          [](const op::Identity&) -> View { return "identity"; },
          [](const op::Pick&) -> View { return "pick"; },
          [](const op::CustomGradient&) -> View { return "custom_gradient"; },
          [](const op::Take&) -> View { return "take"; },
          [](const op::TakeAlongAxis&) -> View { return "take_along_axis"; },
          [](const op::ScatterAdd&) -> View { return "scatter_add"; },
          [](const op::ScatterAddAlongAxis&) -> View { return "scatter_add_along_axis"; },
          [](const op::SliceUpdate&) -> View { return "slice_update"; },
          [](const op::DynamicSlice&) -> View { return "dynamic_slice"; },
          [](const op::DynamicSliceUpdate&) -> View { return "dynamic_slice_update"; },
          [](const op::Softmax&) -> View { return "softmax"; },
          [](const op::LogSoftmax&) -> View { return "log_softmax"; },
          [](const op::LogSumExp&) -> View { return "logsumexp"; },
          [](const op::TopPThreshold&) -> View { return "top_p_threshold"; },
          [](const op::Draw&) -> View { return "draw"; },
          [](const op::SoftmaxBackward&) -> View { return "softmax_backward"; },
          [](const op::RmsNorm&) -> View { return "rms_norm"; },
          [](const op::RmsNormBackward&) -> View { return "rms_norm_backward"; },
          [](const op::LayerNorm&) -> View { return "layer_norm"; },
          [](const op::LayerNormBackward&) -> View { return "layer_norm_backward"; },
          [](const op::SwiGlu&) -> View { return "swiglu"; },
          [](const op::SwiGluBackward&) -> View { return "swiglu_backward"; },
          [](const op::Rope&) -> View { return "rope"; },
          [](const op::Lora&) -> View { return "lora"; },
          [](const op::LoraLinear&) -> View { return "lora_linear"; },
          [](const op::Linear&) -> View { return "linear"; },
          [](const op::ProductSum&) -> View { return "product_sum"; },
          [](const op::NormLinear&) -> View { return "norm_linear"; },
          [](const op::Attention&) -> View { return "attention"; },
          [](const op::AttentionBackward&) -> View { return "attention_backward"; },
          [](const op::CachedAttention&) -> View { return "cached_attention"; },
          [](const op::CrossEntropy&) -> View { return "cross_entropy"; },
          [](const op::CrossEntropyBackward&) -> View { return "cross_entropy_backward"; },
          [](const op::LinearCrossEntropy&) -> View { return "linear_cross_entropy"; },
          [](const op::LinearCrossEntropyBackward&) -> View {
            return "linear_cross_entropy_backward";
          },
          [](const op::Elementwise&) -> View { return "elementwise"; },
          [](const op::ElementwiseReduce& o) {
            return kElementwiseReduceNames[static_cast<std::size_t>(o.reduce.kind)];
          },
      },
      operation);
}

std::string to_string(const Operation& operation) {
  std::string attributes;
  std::visit(
      [&](const auto& o) {
        std::apply([&](const auto&... field) { (append_field(attributes, field), ...); },
                   fields(o));
      },
      operation);
  std::string text(name(operation));
  if (!attributes.empty()) text += fmt::format("({})", attributes);
  return text;
}

std::uint64_t hash(const Operation& operation) {
  Hasher hasher;
  hasher.add(static_cast<std::uint64_t>(operation.index()));
  std::visit(
      [&](const auto& o) {
        std::apply([&](const auto&... field) { (hasher.add(field.value), ...); }, fields(o));
      },
      operation);
  return hasher.state();
}

bool is_alias(const Operation& operation) {
  return std::holds_alternative<op::Transpose>(operation) ||
         std::holds_alternative<op::Slice>(operation) ||
         std::holds_alternative<op::Broadcast>(operation) ||
         std::holds_alternative<op::Barrier>(operation) ||
         std::holds_alternative<op::StopGradient>(operation) ||
         std::holds_alternative<op::Identity>(operation);
}

bool is_elementwise(const Operation& operation) {
  return std::holds_alternative<op::Unary>(operation) ||
         std::holds_alternative<op::Binary>(operation) ||
         std::holds_alternative<op::Select>(operation) ||
         std::holds_alternative<op::Cast>(operation) ||
         std::holds_alternative<op::Full>(operation) ||
         std::holds_alternative<op::SwiGlu>(operation) ||
         std::holds_alternative<op::Elementwise>(operation);
}

bool is_composite(const Operation& operation) {
  if (const auto* unary = std::get_if<op::Unary>(&operation)) {
    return unary->kind >= UnaryKind::kSigmoid && unary->kind <= UnaryKind::kSilu;
  }
  static const std::size_t kFirst = Operation(op::Softmax{}).index();
  return operation.index() >= kFirst;
}

}  // namespace metal_candle
