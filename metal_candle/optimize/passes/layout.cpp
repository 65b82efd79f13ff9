// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// layout: operations that move or rename elements, composed and dropped.
//
//   identity(x), stop_gradient(x), x cast, reshaped, .. to what it is  -> x
//   transpose(transpose(x)), slice(slice(x)), reshape(reshape(x)), ..  -> one of them
//   cast(cast(x)) where the inner cast is exact                        -> cast(x)
//   reshape(transpose(x)) that moves only axes of length 1             -> reshape(x)
//   reshape(reduce(x)) that puts the reduced axes back                 -> reduce(x, keepdims)
//   f(broadcast(x), y), f(reshape(x) with leading 1s, y), f elementwise -> f(x, y), where f
//                                                                          broadcasts to the same
//   reduce over axes of length 1                                       -> reshape
#include <algorithm>
#include <optional>

#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle::passes {
namespace {

/// Whether every value of `from` is a value of `to`.
bool represents_all(DType from, DType to) {
  if (from == to || from == DType::kBool) return true;
  switch (to) {
    case DType::kF32:
      return from != DType::kI32 && from != DType::kU32 && from != DType::kI64;
    case DType::kF16:
      return from == DType::kU8 || from == DType::kI8;
    case DType::kBF16:
      return from == DType::kU8 || from == DType::kI8;
    case DType::kI64:
      return is_integer(from);
    case DType::kI32:
      return from == DType::kU8 || from == DType::kI8;
    case DType::kU32:
      return from == DType::kU8;
    default:
      return false;
  }
}

/// The shape two shapes broadcast to, or nothing.
std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape result(static_cast<std::size_t>(rank), 1);
  for (int i = 1; i <= rank; ++i) {
    const std::int64_t da = i <= a.rank() ? a[a.rank() - i] : 1;
    const std::int64_t db = i <= b.rank() ? b[b.rank() - i] : 1;
    if (da != db && da != 1 && db != 1) return std::nullopt;
    result[rank - i] = da == 1 ? db : da;
  }
  return result;
}

bool is_identity(const op::Transpose& o) {
  for (int i = 0; i < o.permutation.rank(); ++i) {
    if (o.permutation[i] != i) return false;
  }
  return true;
}

bool keeps_order_of_long_axes(const op::Transpose& o, const Shape& input) {
  std::int64_t last = -1;
  for (const std::int64_t axis : o.permutation) {
    if (input[static_cast<int>(axis)] == 1) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

bool is_whole(const op::Slice& o) {
  const auto is = [](std::int64_t value) {
    return [value](std::int64_t other) { return other == value; };
  };
  return std::all_of(o.start.begin(), o.start.end(), is(0)) &&
         std::all_of(o.step.begin(), o.step.end(), is(1));
}

/// What a node becomes, or kNoNode: one overload an operation.
struct Simplify {
  ComputationGraph& graph;
  NodeId id;
  // Copies, because adding nodes moves the graph's own.
  TensorSpec spec = graph.node(id).spec;
  NodeId x = graph.node(id).inputs.empty() ? kNoNode : graph.node(id).inputs[0];
  TensorSpec x_spec = x == kNoNode ? TensorSpec{} : graph.node(x).spec;

  [[nodiscard]] NodeId inner() const { return graph.node(x).inputs[0]; }
  template <typename T>
  NodeId around_same(const T& operation) {
    if (spec == x_spec) return x;
    // f(f(y)) is f(y).
    if (graph.get_if<T>(x) != nullptr) return graph.add(operation, {inner()}, spec);
    return kNoNode;
  }

  NodeId operator()(const op::Identity&) { return x; }
  NodeId operator()(const op::StopGradient&) { return x; }
  NodeId operator()(const op::Broadcast& o) { return around_same(o); }
  NodeId operator()(const op::Pad&) { return spec == x_spec ? x : kNoNode; }
  NodeId operator()(const op::Concatenate&) {
    return graph.node(id).inputs.size() == 1 ? x : kNoNode;
  }

  NodeId operator()(const op::Reshape& o) {
    if (const NodeId same = around_same(o); same != kNoNode) return same;
    if (const auto* transpose = graph.get_if<op::Transpose>(x)) {
      if (keeps_order_of_long_axes(*transpose, graph.node(inner()).spec.shape)) {
        return graph.add(o, {inner()}, spec);
      }
    }
    const auto* reduce = graph.get_if<op::Reduce>(x);
    if (reduce == nullptr || reduce->keepdims || !graph.has_one_use(x)) return kNoNode;
    Shape kept = graph.node(inner()).spec.shape;
    for (const std::int64_t axis : reduce->axes) kept[static_cast<int>(axis)] = 1;
    if (kept != spec.shape) return kNoNode;
    op::Reduce keeping = *reduce;
    keeping.keepdims = true;
    return graph.add(keeping, {inner()});
  }

  NodeId operator()(const op::Transpose& o) {
    if (is_identity(o)) return x;
    const auto* first = graph.get_if<op::Transpose>(x);
    if (first == nullptr) return kNoNode;
    Axes permutation = o.permutation;
    for (std::int64_t& axis : permutation) axis = first->permutation[static_cast<int>(axis)];
    return graph.add(op::Transpose{permutation}, {inner()});
  }

  NodeId operator()(const op::Slice& o) {
    if (spec == x_spec && is_whole(o)) return x;
    const auto* first = graph.get_if<op::Slice>(x);
    if (first == nullptr) return kNoNode;
    op::Slice both = o;
    for (int i = 0; i < spec.shape.rank(); ++i) {
      both.start[i] = first->start[i] + o.start[i] * first->step[i];
      both.step[i] = first->step[i] * o.step[i];
    }
    return graph.add(both, {inner()}, spec);
  }

  NodeId operator()(const op::Cast& o) {
    if (spec == x_spec) return x;
    if (graph.get_if<op::Cast>(x) == nullptr) return kNoNode;
    const DType from = graph.node(inner()).spec.dtype;
    if (!represents_all(from, x_spec.dtype)) return kNoNode;
    if (from == spec.dtype) return inner();
    return graph.add(o, {inner()}, spec);
  }

  NodeId operator()(const op::Reduce& o) {
    if (o.kind == ReduceKind::kAny || o.kind == ReduceKind::kAll) return kNoNode;
    const bool trivial = std::all_of(o.axes.begin(), o.axes.end(), [&](std::int64_t axis) {
      return x_spec.shape[static_cast<int>(axis)] == 1;
    });
    if (!trivial || spec.dtype != x_spec.dtype) return kNoNode;
    return spec == x_spec ? x : graph.add(op::Reshape{}, {x}, spec);
  }

  NodeId operator()(const op::Binary& o) { return without_expansion(o); }
  NodeId operator()(const op::Select& o) { return without_expansion(o); }
  NodeId operator()(const op::Elementwise& o) { return without_expansion(o); }

  /// Replaces the first operand that broadcasting would expand by itself.
  NodeId without_expansion(const Operation& operation) {
    std::vector<NodeId> operands = graph.node(id).inputs;
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const NodeId source = source_of_expansion(operands[i]);
      if (source == kNoNode) continue;
      std::optional<Shape> shape = graph.node(source).spec.shape;
      for (std::size_t j = 0; j < operands.size() && shape; ++j) {
        if (j != i) shape = broadcast(*shape, graph.node(operands[j]).spec.shape);
      }
      if (!shape || *shape != spec.shape) continue;
      operands[i] = source;
      return graph.add(operation, operands, spec);
    }
    return kNoNode;
  }

  [[nodiscard]] NodeId source_of_expansion(NodeId operand) const {
    if (graph.get_if<op::Broadcast>(operand) != nullptr) return graph.node(operand).inputs[0];
    if (graph.get_if<op::Reshape>(operand) == nullptr) return kNoNode;
    const NodeId source = graph.node(operand).inputs[0];
    const Shape& to = graph.node(operand).spec.shape;
    const Shape& from = graph.node(source).spec.shape;
    const int added = to.rank() - from.rank();
    const bool leading_ones = added > 0 && std::equal(from.begin(), from.end(), to.begin() + added);
    return leading_ones ? source : kNoNode;
  }

  template <typename T>
  NodeId operator()(const T&) {
    return kNoNode;
  }
};

class Layout final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "layout"; }
  [[nodiscard]] bool reusable() const override { return true; }
  [[nodiscard]] OperationSet roots() const override {
    return OperationSet::of<op::Identity, op::StopGradient, op::Broadcast, op::Pad, op::Concatenate,
                            op::Reshape, op::Transpose, op::Slice, op::Cast, op::Reduce, op::Binary,
                            op::Select, op::Elementwise>();
  }
  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    const Operation operation = graph.node(id).operation;
    const NodeId replacement = std::visit(Simplify{graph, id}, operation);
    if (replacement == kNoNode) return false;
    graph.replace(id, replacement);
    return true;
  }
};

}  // namespace

PassPtr layout() { return std::make_unique<Layout>(); }

}  // namespace metal_candle::passes
