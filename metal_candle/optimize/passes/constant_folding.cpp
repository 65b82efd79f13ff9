// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// constant_folding: operations on constants, and algebra with constants.
//
//   f(c), f(c, d), where(c, x, y)           -> the constant, or x or y
//   cast, reshape, broadcast, .. of c       -> c
//   reduce(c)                               -> c n, c^n, c
//   x op c, c broadcast to the shape        -> x op c, c a scalar
//   x * 1, x / 1, x + 0, x - 0, x ^ 1       -> x          integers also: x * 0 -> 0
//   x ^ 2, x * x, x ^ 0.5, x ^ -0.5, x ^ -1 -> square(x), sqrt(x), rsqrt(x), reciprocal(x)
//   1 / x, reciprocal(sqrt(x))              -> reciprocal(x), rsqrt(x)
//   -(-x), a - (-b), a + (-b), !!x          -> x, a + b, a - b, x
//   -reshape(-x)                            -> reshape(x)
//
// x * 0 and x - x of floating x are left alone: x may be infinite or NaN.
#include <cmath>
#include <optional>

#include "metal_candle/optimize/constants.h"
#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle::passes {
namespace {

class ConstantFolding final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "constant_folding"; }
  [[nodiscard]] bool reusable() const override { return true; }
  [[nodiscard]] OperationSet roots() const override {
    return OperationSet::of<op::Unary, op::Binary, op::Select, op::Cast, op::Reshape, op::Broadcast,
                            op::Transpose, op::Slice, op::Reduce>();
  }

  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    // A copy, because adding nodes moves the graph's own.
    const Operation operation = graph.node(id).operation;
    const NodeId replacement =
        std::visit(Overload{
                       [&](const op::Unary& o) { return unary(graph, id, o.kind); },
                       [&](const op::Binary& o) { return binary(graph, id, o.kind); },
                       [&](const op::Select&) { return select(graph, id); },
                       [&](const op::Reduce& o) { return reduce(graph, id, o); },
                       [&](const op::Cast&) { return moved(graph, id); },
                       [&](const op::Reshape&) { return moved(graph, id); },
                       [&](const op::Broadcast&) { return moved(graph, id); },
                       [&](const op::Transpose&) { return moved(graph, id); },
                       [&](const op::Slice&) { return moved(graph, id); },
                       [](const auto&) { return kNoNode; },
                   },
                   operation);
    if (replacement == kNoNode) return false;
    graph.replace(id, replacement);
    return true;
  }

 private:
  static DType dtype_of_input(const ComputationGraph& graph, NodeId id, std::size_t i) {
    return graph.node(graph.node(id).inputs[i]).spec.dtype;
  }
  static const TensorSpec& spec_of_input(const ComputationGraph& graph, NodeId id, std::size_t i) {
    return graph.node(graph.node(id).inputs[i]).spec;
  }
  static std::optional<Scalar> constant(const ComputationGraph& graph, NodeId id) {
    const auto* full = graph.get_if<op::Full>(id);
    if (full == nullptr) return std::nullopt;
    return as_stored(full->value, graph.node(id).spec.dtype);
  }
  static std::optional<Scalar> input_constant(const ComputationGraph& graph, NodeId id,
                                              std::size_t i) {
    return constant(graph, graph.node(id).inputs[i]);
  }
  static NodeId add_full(ComputationGraph& graph, const Scalar& value, const TensorSpec& spec) {
    return graph.add(op::Full{value}, {}, spec);
  }
  /// A constant in place of node id.
  static NodeId full_like(ComputationGraph& graph, const std::optional<Scalar>& value, NodeId id) {
    if (!value) return kNoNode;
    const TensorSpec spec = graph.node(id).spec;
    return add_full(graph, *value, spec);
  }
  /// The operand, where it is all that the node is.
  static NodeId if_same_spec(const ComputationGraph& graph, NodeId operand, NodeId id) {
    return graph.node(operand).spec == graph.node(id).spec ? operand : kNoNode;
  }

  /// Layout operations and casts of a constant.
  static NodeId moved(ComputationGraph& graph, NodeId id) {
    const auto value = input_constant(graph, id, 0);
    if (!value) return kNoNode;
    return full_like(
        graph, cast_constant(*value, dtype_of_input(graph, id, 0), graph.node(id).spec.dtype), id);
  }

  static NodeId unary(ComputationGraph& graph, NodeId id, UnaryKind kind) {
    const NodeId x = graph.node(id).inputs[0];
    const DType dtype = graph.node(x).spec.dtype;
    if (const auto value = constant(graph, x)) {
      return full_like(graph, fold_unary(kind, *value, dtype), id);
    }
    if (kind == UnaryKind::kNegative && graph.get_if<op::Reshape>(x) != nullptr) {
      const NodeId reshaped = graph.node(x).inputs[0];
      const TensorSpec spec = graph.node(id).spec;
      if (!is_negated(graph, reshaped)) return kNoNode;
      return graph.add(op::Reshape{}, {graph.node(reshaped).inputs[0]}, spec);
    }
    const auto* inner = graph.get_if<op::Unary>(x);
    if (inner == nullptr) return kNoNode;
    const NodeId y = graph.node(x).inputs[0];
    const bool cancels =
        kind == inner->kind && (kind == UnaryKind::kNegative || kind == UnaryKind::kLogicalNot);
    if (cancels) return if_same_spec(graph, y, id);
    if (kind == UnaryKind::kReciprocal && inner->kind == UnaryKind::kSqrt && graph.has_one_use(x)) {
      return graph.add(op::Unary{UnaryKind::kRsqrt}, {y});
    }
    return kNoNode;
  }

  static NodeId binary(ComputationGraph& graph, NodeId id, BinaryKind kind) {
    const NodeId a = graph.node(id).inputs[0];
    const NodeId b = graph.node(id).inputs[1];
    const DType dtype = graph.node(a).spec.dtype;
    const auto left = constant(graph, a);
    const auto right = constant(graph, b);
    if (left && right) return full_like(graph, fold_binary(kind, *left, *right, dtype), id);
    NodeId result = kNoNode;
    if (right) result = with_constant_right(graph, id, kind, a, *right);
    if (left) result = with_constant_left(graph, id, kind, *left, b);
    if (result == kNoNode) result = negated_operand(graph, kind, a, b);
    if (result == kNoNode && kind == BinaryKind::kMultiply && a == b && dtype != DType::kBool) {
      result = graph.add(op::Unary{UnaryKind::kSquare}, {a});
    }
    if (result == kNoNode) result = scalar_operand(graph, id, kind);
    return result;
  }

  static NodeId with_constant_right(ComputationGraph& graph, NodeId id, BinaryKind kind, NodeId x,
                                    const Scalar& c) {
    const DType dtype = graph.node(x).spec.dtype;
    if (dtype == DType::kBool) return kNoNode;
    const auto unary_of_x = [&](UnaryKind unary_kind) {
      if (graph.node(x).spec != graph.node(id).spec) return kNoNode;
      return graph.add(op::Unary{unary_kind}, {x});
    };
    switch (kind) {
      case BinaryKind::kAdd:
      case BinaryKind::kSubtract:
        return c.real == 0 ? if_same_spec(graph, x, id) : kNoNode;
      case BinaryKind::kMultiply:
        if (c.real == 0 && !is_floating(dtype)) return full_like(graph, c, id);
        return c.real == 1 ? if_same_spec(graph, x, id) : kNoNode;
      case BinaryKind::kDivide:
        return c.real == 1 && is_floating(dtype) ? if_same_spec(graph, x, id) : kNoNode;
      case BinaryKind::kPower:
        if (c.real == 1) return if_same_spec(graph, x, id);
        if (c.real == 2) return unary_of_x(UnaryKind::kSquare);
        if (!is_floating(dtype)) return kNoNode;
        if (c.real == 0.5) return unary_of_x(UnaryKind::kSqrt);
        if (c.real == -0.5) return unary_of_x(UnaryKind::kRsqrt);
        if (c.real == -1) return unary_of_x(UnaryKind::kReciprocal);
        return kNoNode;
      default:
        return kNoNode;
    }
  }

  static NodeId with_constant_left(ComputationGraph& graph, NodeId id, BinaryKind kind,
                                   const Scalar& c, NodeId x) {
    const bool floating = is_floating(graph.node(x).spec.dtype);
    if (kind == BinaryKind::kAdd || kind == BinaryKind::kMultiply) {
      return with_constant_right(graph, id, kind, x, c);
    }
    if (kind == BinaryKind::kDivide && floating && c.real == 1 &&
        graph.node(x).spec == graph.node(id).spec) {
      return graph.add(op::Unary{UnaryKind::kReciprocal}, {x});
    }
    return kNoNode;
  }

  static bool is_negated(const ComputationGraph& graph, NodeId x) {
    const auto* unary = graph.get_if<op::Unary>(x);
    return unary != nullptr && unary->kind == UnaryKind::kNegative;
  }

  static NodeId negated_operand(ComputationGraph& graph, BinaryKind kind, NodeId a, NodeId b) {
    const bool adds = kind == BinaryKind::kAdd;
    if (!adds && kind != BinaryKind::kSubtract) return kNoNode;
    const op::Binary opposite{adds ? BinaryKind::kSubtract : BinaryKind::kAdd};
    if (is_negated(graph, b)) return graph.add(opposite, {a, graph.node(b).inputs[0]});
    if (adds && is_negated(graph, a)) return graph.add(opposite, {b, graph.node(a).inputs[0]});
    return kNoNode;
  }

  /// x op c with c of the shape of the result: a scalar says the same, and needs no memory.
  static NodeId scalar_operand(ComputationGraph& graph, NodeId id, BinaryKind kind) {
    for (const std::size_t i : {0u, 1u}) {
      const auto value = input_constant(graph, id, i);
      const TensorSpec spec = spec_of_input(graph, id, i);
      if (!value || spec.shape.empty()) continue;
      const NodeId x = graph.node(id).inputs[1 - i];
      if (graph.node(x).spec.shape != graph.node(id).spec.shape) continue;
      const NodeId c = add_full(graph, *value, {Shape{}, spec.dtype});
      return i == 0 ? graph.add(op::Binary{kind}, {c, x}) : graph.add(op::Binary{kind}, {x, c});
    }
    return kNoNode;
  }

  static NodeId select(ComputationGraph& graph, NodeId id) {
    const std::vector<NodeId> inputs = graph.node(id).inputs;
    const Shape shape = graph.node(id).spec.shape;
    if (const auto condition = constant(graph, inputs[0])) {
      const NodeId chosen = inputs[condition->integer != 0 ? 1 : 2];
      const DType dtype = graph.node(chosen).spec.dtype;
      if (graph.node(chosen).spec.shape == shape) return chosen;
      return graph.add(op::Broadcast{}, {chosen}, {shape, dtype});
    }
    if (inputs[1] == inputs[2]) return if_same_spec(graph, inputs[1], id);
    for (const std::size_t i : {1u, 2u}) {
      const auto value = constant(graph, inputs[i]);
      const TensorSpec spec = graph.node(inputs[i]).spec;
      if (!value || spec.shape.empty()) continue;
      if (graph.node(inputs[0]).spec.shape != shape &&
          graph.node(inputs[3 - i]).spec.shape != shape) {
        continue;
      }
      std::vector<NodeId> operands = inputs;
      operands[i] = add_full(graph, *value, {Shape{}, spec.dtype});
      return graph.add(op::Select{}, operands);
    }
    return kNoNode;
  }

  static NodeId reduce(ComputationGraph& graph, NodeId id, const op::Reduce& o) {
    const auto value = input_constant(graph, id, 0);
    if (!value) return kNoNode;
    const TensorSpec spec = spec_of_input(graph, id, 0);
    std::int64_t count = 1;
    for (const std::int64_t axis : o.axes) count *= spec.shape[static_cast<int>(axis)];
    switch (o.kind) {
      case ReduceKind::kMax:
      case ReduceKind::kMin:
        return full_like(graph, value, id);
      case ReduceKind::kSum:
        if (!is_floating(spec.dtype)) return kNoNode;
        return full_like(
            graph,
            as_stored(Scalar::from_real(value->real * static_cast<double>(count)), spec.dtype), id);
      case ReduceKind::kProd:
        if (!is_floating(spec.dtype)) return kNoNode;
        return full_like(
            graph,
            as_stored(Scalar::from_real(std::pow(value->real, static_cast<double>(count))),
                      spec.dtype),
            id);
      default:
        return kNoNode;
    }
  }
};

}  // namespace

PassPtr constant_folding() { return std::make_unique<ConstantFolding>(); }

}  // namespace metal_candle::passes
