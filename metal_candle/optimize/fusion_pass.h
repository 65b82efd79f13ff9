// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The interface of a graph rewrite. Most passes derive from RewritePass (rewrite_pass.h), which is
// this interface over declarative patterns.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "metal_candle/graph/computation_graph.h"

namespace metal_candle {

/// A set of operation types. Attributes are not part of it.
class OperationSet {
 public:
  constexpr OperationSet() = default;
  static constexpr OperationSet all() { return OperationSet(~std::uint64_t{0}); }
  template <typename... Ops>
  static constexpr OperationSet of() {
    return OperationSet(((std::uint64_t{1} << index_of<Ops>()) | ... | 0));
  }
  static constexpr OperationSet of_index(std::size_t index) {
    return OperationSet(std::uint64_t{1} << index);
  }
  [[nodiscard]] bool contains(const Operation& operation) const {
    return ((bits_ >> operation.index()) & 1) != 0;
  }
  [[nodiscard]] bool intersects(OperationSet other) const { return (bits_ & other.bits_) != 0; }
  friend constexpr bool operator==(OperationSet, OperationSet) = default;
  friend constexpr OperationSet operator|(OperationSet a, OperationSet b) {
    return OperationSet(a.bits_ | b.bits_);
  }

  /// The position of an operation type in the variant.
  template <typename Op>
  static constexpr std::size_t index_of() {
    return index_of<Op>(std::make_index_sequence<std::variant_size_v<Operation>>());
  }

 private:
  static_assert(std::variant_size_v<Operation> <= 64);
  explicit constexpr OperationSet(std::uint64_t bits) : bits_(bits) {}
  template <typename Op, std::size_t... I>
  static constexpr std::size_t index_of(std::index_sequence<I...>) {
    return ((std::is_same_v<Op, std::variant_alternative_t<I, Operation>> ? I : 0) + ...);
  }
  std::uint64_t bits_ = 0;
};

/// One rewrite. An instance serves one run of one optimizer, so it may keep state; it is used by
/// one thread. The optimizer offers it nodes (never inputs, never dead ones) and, after a rewrite,
/// the nodes around what changed once more.
class FusionPass {
 public:
  /// Which nodes are offered first.
  enum class Order : std::uint8_t { kInputsFirst, kUsersFirst };

  virtual ~FusionPass() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Only nodes with such an operation are offered.
  [[nodiscard]] virtual OperationSet roots() const { return OperationSet::all(); }
  /// A stage visits users first if one of its passes asks for it.
  [[nodiscard]] virtual Order order() const { return Order::kInputsFirst; }
  /// Whether one instance may serve any number of runs, also at once: it keeps nothing of a run.
  [[nodiscard]] virtual bool reusable() const { return false; }
  /// Tries to rewrite around `node`; returns whether it changed the graph. Rewriting adds nodes and
  /// calls graph.replace(): nothing is computed differently for nodes that a rewrite does not
  /// replace. Each rewrite must bring the graph nearer to a fixed point.
  virtual bool try_fuse(ComputationGraph& graph, NodeId node) = 0;
};

}  // namespace metal_candle
