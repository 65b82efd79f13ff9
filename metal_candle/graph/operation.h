// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The closed set of operations. Each is a small struct of attributes; what it does with them is
// said by overload sets over the variant: name() and hash() here, infer_outputs() in shape_rules.h,
// decompose() in decompose.h, the gradient rule in autograd/gradient_rules.h. An operation that
// lacks one of them does not compile.
//
// Shapes: an operation's output shape and dtype are held by its node, so attributes that the output
// shape already says (the target of a reshape, the length of an arange) are not repeated here.
// Axes are normalised: never negative. Whatever changes from one step of a loop to the next (a
// learning rate, a position, a random key) is an input tensor, never an attribute, so that plans
// are reused.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "metal_candle/core/dtype.h"
#include "metal_candle/core/shape.h"

namespace metal_candle {

/// A scalar attribute. Integers are kept exactly.
struct Scalar {
  double real = 0;           // The value, for floating dtypes.
  std::int64_t integer = 0;  // The value, for integer dtypes and bool.

  constexpr Scalar() = default;
  static constexpr Scalar from_real(double v) {
    Scalar s;
    s.real = v;
    s.integer = (v > -9.2e18 && v < 9.2e18) ? static_cast<std::int64_t>(v) : 0;
    return s;
  }
  static constexpr Scalar from_integer(std::int64_t v) {
    Scalar s;
    s.real = static_cast<double>(v);
    s.integer = v;
    return s;
  }
  friend bool operator==(const Scalar& a, const Scalar& b) {
    // Compares bits, so that NaN equals NaN and -0.0 differs from 0.0: this decides plan reuse.
    return std::bit_cast<std::uint64_t>(a.real) == std::bit_cast<std::uint64_t>(b.real) &&
           a.integer == b.integer;
  }
};

enum class UnaryKind : std::uint8_t {
  // Same dtype in and out, any numeric dtype.
  kAbs,
  kNegative,
  kSign,
  kSquare,
  // Floating only.
  kExp,
  kExpm1,
  kLog,
  kLog1p,
  kLog2,
  kLog10,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kSin,
  kCos,
  kTan,
  kAsin,
  kAcos,
  kAtan,
  kSinh,
  kCosh,
  kTanh,
  kAsinh,
  kAcosh,
  kAtanh,
  kErf,
  kErfInv,
  kFloor,
  kCeil,
  kRound,
  kTrunc,
  // Activations, floating only. Each has a decomposition into the kinds above.
  kSigmoid,
  kRelu,
  kGelu /* exact, with erf */,
  kGeluTanh,
  kSilu,
  // bool out.
  kIsNan,
  kIsInf,
  kIsFinite,
  kLogicalNot,
  // Integers and bool.
  kBitwiseNot,
};
inline constexpr int kNumUnaryKinds = static_cast<int>(UnaryKind::kBitwiseNot) + 1;

enum class BinaryKind : std::uint8_t {
  // Same dtype in and out.
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kRemainder,
  kPower,
  kMaximum,
  kMinimum,
  kAtan2,
  kLogAddExp,
  kHypot,
  kCopysign,
  kBitwiseAnd,
  kBitwiseOr,
  kBitwiseXor,
  kShiftLeft,
  kShiftRight,
  // bool out.
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kLogicalAnd,
  kLogicalOr,
  kLogicalXor,
};
inline constexpr int kNumBinaryKinds = static_cast<int>(BinaryKind::kLogicalXor) + 1;

enum class ReduceKind : std::uint8_t { kSum, kProd, kMax, kMin, kAny, kAll };

[[nodiscard]] std::string_view name(UnaryKind kind);
[[nodiscard]] std::string_view name(BinaryKind kind);
[[nodiscard]] std::string_view name(ReduceKind kind);
/// Whether kind gives bool whatever its operands.
[[nodiscard]] bool is_predicate(UnaryKind kind);
[[nodiscard]] bool is_predicate(BinaryKind kind);
[[nodiscard]] bool is_commutative(BinaryKind kind);

class CustomGradientRule;  // autograd/custom.h
struct ElementwiseProgram;

// Equality of attributes, for every struct below.
#define METAL_CANDLE_OP_EQUALITY(T) friend bool operator==(const T&, const T&) = default

namespace op {

// ---- Primitives: creation -----------------------------------------------------------------------
/// Every element is value.
struct Full {
  Scalar value;
  METAL_CANDLE_OP_EQUALITY(Full);
};
/// Element i (1-D) is start + i * step.
struct Arange {
  Scalar start, step;
  METAL_CANDLE_OP_EQUALITY(Arange);
};
/// (key u32[2]) -> u32 of any shape. Philox4x32-10: element i is word i % 4 of the block with
/// counter {lo(i / 4), hi(i / 4), 0, 0} and the given key.
struct RandomBits {
  METAL_CANDLE_OP_EQUALITY(RandomBits);
};

// ---- Primitives: elementwise (operands broadcast against each other as in NumPy)
// ------------------
/// (x). x has the node's dtype unless the kind is a predicate.
struct Unary {
  UnaryKind kind;
  METAL_CANDLE_OP_EQUALITY(Unary);
};
/// (a, b), of one dtype.
struct Binary {
  BinaryKind kind;
  METAL_CANDLE_OP_EQUALITY(Binary);
};
/// (condition bool, a, b): a where condition, else b.
struct Select {
  METAL_CANDLE_OP_EQUALITY(Select);
};
/// (x) converted to the node's dtype. Float to integer truncates and saturates (NaN gives 0);
/// anything to bool is x != 0.
struct Cast {
  METAL_CANDLE_OP_EQUALITY(Cast);
};

// ---- Primitives: reductions and scans
// -------------------------------------------------------------
/// (x) over `axes` (ascending); reduced axes become 1 when keepdims, else vanish. f16/bf16
/// accumulate in f32. kSum/kProd of a zero-length axis is 0/1; kMax/kMin of one is refused when
/// called.
struct Reduce {
  ReduceKind kind;
  Axes axes;
  bool keepdims;
  METAL_CANDLE_OP_EQUALITY(Reduce);
};
/// (x) -> i32 index of the first maximum (or minimum) along axis, which vanishes. NaN counts as
/// extreme.
struct ArgReduce {
  bool is_max;
  int axis;
  METAL_CANDLE_OP_EQUALITY(ArgReduce);
};
/// (x) running kSum/kProd/kMax/kMin along axis.
struct Cumulative {
  ReduceKind kind;
  int axis;
  bool reverse;
  METAL_CANDLE_OP_EQUALITY(Cumulative);
};
/// (x) sorted along axis, stable; NaN last in both orders.
struct Sort {
  int axis;
  bool descending;
  METAL_CANDLE_OP_EQUALITY(Sort);
};
/// (x) -> i32 permutation that Sort applies.
struct ArgSort {
  int axis;
  bool descending;
  METAL_CANDLE_OP_EQUALITY(ArgSort);
};
/// (x) -> i32 indices of the k largest along axis, in descending order; k is the node's shape
/// there.
struct ArgTopK {
  int axis;
  METAL_CANDLE_OP_EQUALITY(ArgTopK);
};

// ---- Primitives: matrix product
// -------------------------------------------------------------------
/// (a [..., m, k], b [..., k, n]) -> [..., m, n]; batch dimensions broadcast. Transposition is a
/// view.
struct Matmul {
  METAL_CANDLE_OP_EQUALITY(Matmul);
};

// ---- Primitives: layout (views where strides allow)
// -----------------------------------------------
struct Reshape {
  METAL_CANDLE_OP_EQUALITY(Reshape);
};
/// Output axis i is input axis permutation[i].
struct Transpose {
  Axes permutation;
  METAL_CANDLE_OP_EQUALITY(Transpose);
};
/// Output element i along an axis is input element start + i * step; step may be negative.
struct Slice {
  Dims start, step;
  METAL_CANDLE_OP_EQUALITY(Slice);
};
struct Broadcast {
  METAL_CANDLE_OP_EQUALITY(Broadcast);
};
/// (x...) joined along axis.
struct Concatenate {
  int axis;
  METAL_CANDLE_OP_EQUALITY(Concatenate);
};
/// (x) with `low` elements of `value` before each axis, and as many after as the node's shape asks.
struct Pad {
  Dims low;
  Scalar value;
  METAL_CANDLE_OP_EQUALITY(Pad);
};
/// (x) itself. A Barrier also has extra inputs that must have been computed before it; common
/// subexpression elimination and fusion do not look through it.
struct Barrier {
  METAL_CANDLE_OP_EQUALITY(Barrier);
};
/// (x) itself, through which no gradient flows.
struct StopGradient {
  METAL_CANDLE_OP_EQUALITY(StopGradient);
};
/// (x) itself: the point at which a function being differentiated takes its argument.
struct Identity {
  METAL_CANDLE_OP_EQUALITY(Identity);
};
/// Output `index` of an operation that has several.
struct Pick {
  int index;
  METAL_CANDLE_OP_EQUALITY(Pick);
};
/// (x0..xn-1, args...) -> (x0..xn-1) unchanged, with a gradient rule of the user's. Gone after
/// tracing, so the rule takes no part in comparing graphs.
struct CustomGradient {
  int num_outputs;
  std::shared_ptr<const CustomGradientRule> rule;
  friend bool operator==(const CustomGradient& a, const CustomGradient& b) {
    return a.num_outputs == b.num_outputs;
  }
};

// ---- Primitives: indexing. Indices are i32 or i64; negative ones count from the end; out of range
// ---- is an error of the device (DeviceError on evaluation) on the CPU.
// ------------------------------
/// (x, indices): along axis of x; that axis is replaced by the shape of indices.
struct Take {
  int axis;
  METAL_CANDLE_OP_EQUALITY(Take);
};
/// (x, indices), of one rank, equal but for axis: out[.., i, ..] = x[.., indices[.., i, ..], ..].
struct TakeAlongAxis {
  int axis;
  METAL_CANDLE_OP_EQUALITY(TakeAlongAxis);
};
/// (x, indices, updates): x with updates added where Take would have read. Repeated indices add up,
/// in order of position, so the result is the same every time.
struct ScatterAdd {
  int axis;
  METAL_CANDLE_OP_EQUALITY(ScatterAdd);
};
/// The same for TakeAlongAxis.
struct ScatterAddAlongAxis {
  int axis;
  METAL_CANDLE_OP_EQUALITY(ScatterAddAlongAxis);
};
/// (x, update): x with the slice (start, step, shape of update) replaced.
struct SliceUpdate {
  Dims start, step;
  METAL_CANDLE_OP_EQUALITY(SliceUpdate);
};
/// (x, starts i32 or i64 [n]): the block of the node's shape that begins at starts[i] on axes[i]
/// and at 0 elsewhere; starts are clamped so that it fits.
struct DynamicSlice {
  Axes axes;
  METAL_CANDLE_OP_EQUALITY(DynamicSlice);
};
/// (x, update, starts): x with that block replaced.
struct DynamicSliceUpdate {
  Axes axes;
  METAL_CANDLE_OP_EQUALITY(DynamicSliceUpdate);
};

// ---- Composites: each has a decomposition into primitives
// -------------------------------------------
struct Softmax {
  int axis;
  METAL_CANDLE_OP_EQUALITY(Softmax);
};
struct LogSoftmax {
  int axis;
  METAL_CANDLE_OP_EQUALITY(LogSoftmax);
};
struct LogSumExp {
  int axis;
  bool keepdims;
  METAL_CANDLE_OP_EQUALITY(LogSumExp);
};
/// (x [..., n]) -> [..., 1]: the least element of those before which, in descending order, less
/// than p of softmax(x) lies; infinity where softmax(x) is NaN. 0 < p.
struct TopPThreshold {
  float p;
  METAL_CANDLE_OP_EQUALITY(TopPThreshold);
};
/// (x [..., n], u f32 [..., 1]) -> i32 [..., 1]: the first position at which the running sum of
/// softmax(x) exceeds u, which is in [0, 1); -1 where softmax(x) is NaN.
struct Draw {
  METAL_CANDLE_OP_EQUALITY(Draw);
};
/// (y = softmax(x), dy) -> dx.
struct SoftmaxBackward {
  int axis;
  METAL_CANDLE_OP_EQUALITY(SoftmaxBackward);
};
/// (x [..., d], weight [d]?) over the last axis.
struct RmsNorm {
  float eps;
  METAL_CANDLE_OP_EQUALITY(RmsNorm);
};
/// (x, weight?, dy, residual [..., d]?) -> (dx + residual, dweight when there is a weight); a
/// residual only with a weight.
struct RmsNormBackward {
  float eps;
  bool has_residual = false;
  METAL_CANDLE_OP_EQUALITY(RmsNormBackward);
};
/// (x [..., d], weight [d]?, bias [d]?) over the last axis; a bias only with a weight.
struct LayerNorm {
  float eps;
  METAL_CANDLE_OP_EQUALITY(LayerNorm);
};
/// (x, weight?, dy) -> (dx, dweight when there is a weight). The bias's gradient is a plain sum of
/// dy.
struct LayerNormBackward {
  float eps;
  METAL_CANDLE_OP_EQUALITY(LayerNormBackward);
};
/// (gate, up) -> silu(gate) * up.
struct SwiGlu {
  METAL_CANDLE_OP_EQUALITY(SwiGlu);
};
/// (gate, up, dy), all of one shape -> (dgate, dup). Where `of_product`, (gate, up, a [..., m, k],
/// b [k, n]), and dy is a @ b.
struct SwiGluBackward {
  bool of_product = false;
  METAL_CANDLE_OP_EQUALITY(SwiGluBackward);
};
/// (x [..., length, d], offset i32 [] or [batch], frequencies f32 [dims / 2]) rotates the first
/// `dims` of the last axis by angle (offset + position) * scale * frequencies[i]. `interleaved`
/// pairs (2i, 2i+1), else (i, i + dims/2). `inverse` rotates back, which is the gradient.
struct Rope {
  int dims;
  bool interleaved;
  bool inverse;
  float scale;
  METAL_CANDLE_OP_EQUALITY(Rope);
};
/// (x [..., m, k], a [k, r], b [r, n]) -> scale * (x @ a) @ b.
struct Lora {
  float scale;
  METAL_CANDLE_OP_EQUALITY(Lora);
};
/// (x, weight [k, n], a [k, r], b [r, n], bias [n]?) -> (x @ weight + bias + scale * (x @ a) @ b,
/// and if keeps_low, scale * (x @ a), which the gradient of b needs).
struct LoraLinear {
  float scale;
  bool has_bias;
  bool keeps_low = false;
  METAL_CANDLE_OP_EQUALITY(LoraLinear);
};
enum class Activation : std::uint8_t { kNone, kRelu, kGelu, kGeluTanh, kSilu };
/// (x [..., m, k], weight [..., k, n], bias [n]?, residual [..., m, n]?) ->
/// activation(scale * (x @ weight) + bias) + residual.
struct Linear {
  Activation activation;
  bool has_bias;
  bool has_residual;
  float scale;
  METAL_CANDLE_OP_EQUALITY(Linear);
};
/// (a_0 [..., m, k_0], b_0 [k_0, n], a_1, b_1, .., residual [..., m, n]?) -> the sum of `count`
/// products a_i @ b_i, two at least, and of the residual: as gradients by what several layers read
/// add up.
struct ProductSum {
  int count;
  bool has_residual;
  METAL_CANDLE_OP_EQUALITY(ProductSum);
};
/// A product of a few rows, as in decoding, with the norm before it and the gate after it:
/// (x [..., m, k], norm [k], weight [k, n], bias [n]?, residual [..., m, n]?) ->
/// linear(rms_norm(x, norm), weight, bias, residual), or where `gated`
/// (x, norm, weight [k, n], up [k, n]) -> swiglu(rms_norm(x, norm) @ weight, rms_norm(x, norm) @
/// up). What is between is not rounded.
struct NormLinear {
  float eps;
  bool gated;     // `linear` is then plain: no activation, bias, residual or scale.
  Linear linear;  // What follows the norm.
  METAL_CANDLE_OP_EQUALITY(NormLinear);
};
/// (q [b, h, lq, d], k [b, hkv, lk, d], v [b, hkv, lk, dv], mask?, key_length i32 [] or [b]?) ->
/// (output [b, h, lq, dv], logsumexp f32 [b, h, lq]). h is a multiple of hkv. Scores are scale * q
/// @ k^T. With key_length n, only keys [0, n) exist, and queries are the last lq of them; without,
/// n = lk. causal: query i (position n - lq + i) sees keys at or before its position; window > 0:
/// and only the last `window` of those. mask: bool (true = seen) or floating (added), broadcast to
/// [b, h, lq, lk]. A query that sees no key gives 0 and logsumexp -infinity.
struct Attention {
  float scale;
  bool causal;
  int window;
  bool has_mask;
  bool has_key_length;
  METAL_CANDLE_OP_EQUALITY(Attention);
};
/// (q, k, v, output, logsumexp, doutput, mask?, key_length?) -> (dq, dk, dv). A mask gets no
/// gradient.
struct AttentionBackward {
  Attention forward;
  METAL_CANDLE_OP_EQUALITY(AttentionBackward);
};
/// A step of decoding over a cache: (q [b, h, lq, d], k [b, hkv, lq, d], v [b, hkv, lq, dv],
/// keys [b, hkv, n, d], values [b, hkv, n, dv], offset i32 [], frequencies f32 [rope.dims / 2],
/// key_length i32 [] or [b]) -> (output [b, h, lq, dv], keys, values). k, rotated, and v replace
/// the rows of the caches from `offset` on, as DynamicSliceUpdate does it, and q, rotated, attends
/// to what is then there.
struct CachedAttention {
  Rope rope;            // Of q and k.
  Attention attention;  // With a key length and without a mask.
  METAL_CANDLE_OP_EQUALITY(CachedAttention);
};
/// (logits [..., n], targets i32 or i64 [...]) -> (loss f32 [...], logsumexp f32 [...]); rows whose
/// target is ignore_index have loss 0.
struct CrossEntropy {
  std::int64_t ignore_index;
  METAL_CANDLE_OP_EQUALITY(CrossEntropy);
};
/// (logits, targets, logsumexp, dloss f32 [...]) -> dlogits.
struct CrossEntropyBackward {
  std::int64_t ignore_index;
  METAL_CANDLE_OP_EQUALITY(CrossEntropyBackward);
};
/// (x [..., m, k], weight [k, n], targets [..., m]) -> (loss f32 [..., m], logsumexp f32 [..., m],
/// gradient [..., m, k]): cross entropy of x @ weight, without ever holding all logits, and the
/// derivative of each loss by its row of x, which costs one product more while the logits are there
/// instead of two when they are not. Kernels skip an output that is not picked.
struct LinearCrossEntropy {
  std::int64_t ignore_index;
  METAL_CANDLE_OP_EQUALITY(LinearCrossEntropy);
};
/// (x, weight, targets, logsumexp, dloss) -> (dx, dweight). Kernels skip an output that is not
/// picked.
struct LinearCrossEntropyBackward {
  std::int64_t ignore_index;
  METAL_CANDLE_OP_EQUALITY(LinearCrossEntropyBackward);
};
/// (operands...) broadcast against each other and run through a program, element by element.
struct Elementwise {
  std::shared_ptr<const ElementwiseProgram> program;
  friend bool operator==(const Elementwise& a, const Elementwise& b);
};
/// Reduce of Elementwise, whose result is never in memory: (operands...) broadcast against each
/// other, run through a program and reduced.
struct ElementwiseReduce {
  Elementwise elementwise;
  Reduce reduce;
  METAL_CANDLE_OP_EQUALITY(ElementwiseReduce);
};

}  // namespace op
#undef METAL_CANDLE_OP_EQUALITY

/// Any operation: a tag and its attributes.
using Operation =
    std::variant<op::Full, op::Arange, op::RandomBits, op::Unary, op::Binary, op::Select, op::Cast,
                 op::Reduce, op::ArgReduce, op::Cumulative, op::Sort, op::ArgSort, op::ArgTopK,
                 op::Matmul, op::Reshape, op::Transpose, op::Slice, op::Broadcast, op::Concatenate,
                 op::Pad, op::Barrier, op::StopGradient, op::Identity, op::Pick, op::CustomGradient,
                 op::Take, op::TakeAlongAxis, op::ScatterAdd, op::ScatterAddAlongAxis,
                 op::SliceUpdate, op::DynamicSlice, op::DynamicSliceUpdate, op::Softmax,
                 op::LogSoftmax, op::LogSumExp, op::TopPThreshold, op::Draw, op::SoftmaxBackward,
                 op::RmsNorm, op::RmsNormBackward, op::LayerNorm, op::LayerNormBackward, op::SwiGlu,
                 op::SwiGluBackward, op::Rope, op::Lora, op::LoraLinear, op::Linear, op::ProductSum,
                 op::NormLinear, op::Attention, op::AttentionBackward, op::CachedAttention,
                 op::CrossEntropy, op::CrossEntropyBackward, op::LinearCrossEntropy,
                 op::LinearCrossEntropyBackward, op::Elementwise, op::ElementwiseReduce>;

/// One instruction of an elementwise program. Registers are numbered: operands first (0 .. inputs -
/// 1), then one for each instruction, in order. Every value lives in its own dtype.
struct ElementwiseInstruction {
  /// Unary, Binary, Select, Cast or Full; SwiGlu is written as its two instructions.
  Operation operation;
  DType dtype;  // Of the result.
  std::vector<std::int32_t> arguments;
  friend bool operator==(const ElementwiseInstruction&, const ElementwiseInstruction&) = default;
};

/// A straight-line program over operands that broadcast to the output shape. The result is the last
/// instruction's.
struct ElementwiseProgram {
  std::vector<DType> inputs;
  std::vector<ElementwiseInstruction> instructions;
  friend bool operator==(const ElementwiseProgram&, const ElementwiseProgram&) = default;
};

/// A visitor made of lambdas.
template <typename... Fns>
struct Overload : Fns... {
  using Fns::operator()...;
};
template <typename... Fns>
Overload(Fns...) -> Overload<Fns...>;  // Which C++20 implies, but not every compiler knows.

/// "add", "matmul", "softmax", ...: the name that errors, dumps and traces use.
[[nodiscard]] std::string_view name(const Operation& operation);
/// The name with attributes, for dumps: "reduce_sum(axes=[1], keepdims=true)".
[[nodiscard]] std::string to_string(const Operation& operation);
/// Equal operations have equal hashes. Nothing relies on the converse.
[[nodiscard]] std::uint64_t hash(const Operation& operation);

/// Whether the output is a view of input 0 whatever the strides (Reshape may need a copy, so it is
/// not).
[[nodiscard]] bool is_alias(const Operation& operation);
/// Unary, Binary, Select, Cast, Full, SwiGlu and Elementwise: element i of the output needs element
/// i of the (broadcast) inputs only.
[[nodiscard]] bool is_elementwise(const Operation& operation);
/// Whether the operation has a decomposition into primitives.
[[nodiscard]] bool is_composite(const Operation& operation);

}  // namespace metal_candle
