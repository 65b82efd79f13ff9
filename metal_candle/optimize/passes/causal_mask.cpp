// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Two abstract readings of a node, in terms of the row i and the column j of its last two axes:
// `Affine`, an integer r i + c j + o; and `Band`, one value where low <= j - i <= high and another
// elsewhere. Comparing the first gives the second.
#include "metal_candle/optimize/passes/causal_mask.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

namespace metal_candle::passes {
namespace {

constexpr std::int64_t kFar = std::int64_t{1} << 40;  // Beyond every diagonal.
// Masks are made of a dozen nodes; the limit keeps the pass linear.
constexpr int kMaxNodes = 64;
// f32 and i32 hold sums of as many such numbers as there may be nodes exactly.
constexpr double kMaxPosition = 16777216.0 / kMaxNodes;

struct Affine {
  std::int64_t row = 0, column = 0, offset = 0;
};

struct Band {
  std::int64_t low = -kFar, high = kFar;
  Scalar inside, outside;
};

std::int64_t dim(const Shape& shape, int from_end) {
  return from_end <= shape.rank() ? shape[shape.rank() - from_end] : 1;
}
bool same_matrix(const Shape& a, const Shape& b) {
  return dim(a, 1) == dim(b, 1) && dim(a, 2) == dim(b, 2);
}
bool is_exact(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kI32 || dtype == DType::kI64;
}

/// The same band, and what is on one side of a diagonal also as what is not on the other side.
std::vector<Band> spellings(const Band& b) {
  std::vector<Band> all = {b};
  if (b.low == -kFar && b.high != kFar) all.push_back({b.high + 1, kFar, b.outside, b.inside});
  if (b.high == kFar && b.low != -kFar) all.push_back({-kFar, b.low - 1, b.outside, b.inside});
  return all;
}

class Reader {
 public:
  explicit Reader(const ComputationGraph& graph) : graph_(graph) {}

  std::optional<Band> band(NodeId id) {
    if (graph_.node(id).is_input() || --budget_ < 0) return std::nullopt;
    return std::visit(Overload{
                          [&](const op::Binary& o) { return band_of_binary(id, o.kind); },
                          [&](const op::Select&) { return band_of_select(id); },
                          [&](const op::Unary& o) {
                            return mapped(id, 0, [&](const Scalar& x, DType dtype) {
                              return fold_unary(o.kind, x, dtype);
                            });
                          },
                          [&](const op::Cast&) {
                            return mapped(id, 0, [&](const Scalar& x, DType dtype) {
                              return std::optional(cast_constant(x, dtype, spec(id).dtype));
                            });
                          },
                          [&](const op::Reshape&) { return moved(id); },
                          [&](const op::Broadcast&) { return moved(id); },
                          [](const auto&) { return std::optional<Band>(); },
                      },
                      graph_.node(id).operation);
  }

 private:
  [[nodiscard]] const TensorSpec& spec(NodeId id) const { return graph_.node(id).spec; }
  [[nodiscard]] NodeId input(NodeId id, std::size_t i) const { return graph_.node(id).inputs[i]; }

  [[nodiscard]] std::optional<Scalar> constant(NodeId id) const {
    const auto value = constant_value(graph_, id);
    if (!value) return std::nullopt;
    return Scalar::from_real(*value);
  }

  // ---- Integers ---------------------------------------------------------------------------------

  std::optional<Affine> affine(NodeId id) {
    if (graph_.node(id).is_input() || --budget_ < 0 || !is_exact(spec(id).dtype)) {
      return std::nullopt;
    }
    std::optional<Affine> result = std::visit(
        Overload{
            [&](const op::Full& o) { return line(id, Scalar::from_integer(0), o.value); },
            [&](const op::Arange& o) { return line(id, o.step, o.start); },
            [&](const op::Binary& o) { return affine_of_binary(id, o.kind); },
            [&](const op::Unary& o) {
              auto x = o.kind == UnaryKind::kNegative ? affine(input(id, 0)) : std::nullopt;
              if (x) x = Affine{-x->row, -x->column, -x->offset};
              return x;
            },
            [&](const op::Cast&) { return affine(input(id, 0)); },
            [&](const op::Broadcast&) { return affine(input(id, 0)); },
            [&](const op::Reshape&) { return affine_of_reshape(id); },
            [](const auto&) { return std::optional<Affine>(); },
        },
        graph_.node(id).operation);
    // An axis of length 1 has only its first element.
    if (result && dim(spec(id).shape, 1) == 1) result->column = 0;
    if (result && dim(spec(id).shape, 2) == 1) result->row = 0;
    return result;
  }

  /// offset + j step, if these are integers and small.
  [[nodiscard]] std::optional<Affine> line(NodeId id, const Scalar& step,
                                           const Scalar& offset) const {
    const auto length = static_cast<double>(dim(spec(id).shape, 1));
    const bool whole = step.real == std::trunc(step.real) && offset.real == std::trunc(offset.real);
    const bool small = std::abs(offset.real) + length * std::abs(step.real) < kMaxPosition;
    if (!whole || !small) return std::nullopt;
    return Affine{0, step.integer, offset.integer};
  }

  std::optional<Affine> affine_of_binary(NodeId id, BinaryKind kind) {
    if (kind != BinaryKind::kAdd && kind != BinaryKind::kSubtract) return std::nullopt;
    const auto a = affine(input(id, 0));
    const auto b = a ? affine(input(id, 1)) : std::nullopt;
    if (!b) return std::nullopt;
    const std::int64_t sign = kind == BinaryKind::kAdd ? 1 : -1;
    return Affine{a->row + sign * b->row, a->column + sign * b->column,
                  a->offset + sign * b->offset};
  }

  std::optional<Affine> affine_of_reshape(NodeId id) {
    const Shape &from = spec(input(id, 0)).shape, &to = spec(id).shape;
    const auto x = affine(input(id, 0));
    if (!x || same_matrix(from, to)) return x;
    // A row becomes a column, or the other way round.
    const std::int64_t count = num_elements(to);
    const bool from_row = dim(from, 1) == count, to_row = dim(to, 1) == count;
    if ((!from_row && dim(from, 2) != count) || (!to_row && dim(to, 2) != count)) {
      return std::nullopt;
    }
    const std::int64_t step = from_row ? x->column : x->row;
    return to_row ? Affine{0, step, x->offset} : Affine{step, 0, x->offset};
  }

  // ---- Bands ------------------------------------------------------------------------------------

  /// Whether operand i is as large in the last two axes as the node.
  [[nodiscard]] bool spans(NodeId id, std::size_t i) const {
    return same_matrix(spec(input(id, i)).shape, spec(id).shape);
  }

  std::optional<Band> moved(NodeId id) { return spans(id, 0) ? band(input(id, 0)) : std::nullopt; }

  template <typename Fn>
  std::optional<Band> mapped(NodeId id, std::size_t operand, Fn fn) {
    if (!spans(id, operand)) return std::nullopt;
    std::optional<Band> x = band(input(id, operand));
    if (!x) return std::nullopt;
    const DType dtype = spec(input(id, operand)).dtype;
    const auto inside = fn(x->inside, dtype), outside = fn(x->outside, dtype);
    if (!inside || !outside) return std::nullopt;
    x->inside = *inside;
    x->outside = *outside;
    return x;
  }

  std::optional<Band> band_of_binary(NodeId id, BinaryKind kind) {
    if (const auto compared = band_of_comparison(id, kind)) return compared;
    for (const std::size_t i : {0u, 1u}) {
      const auto other = constant(input(id, 1 - i));
      if (!other) continue;
      return mapped(id, i, [&](const Scalar& x, DType dtype) {
        return i == 0 ? fold_binary(kind, x, *other, dtype) : fold_binary(kind, *other, x, dtype);
      });
    }
    if (!spans(id, 0) || !spans(id, 1)) return std::nullopt;
    const auto a = band(input(id, 0));
    const auto b = a ? band(input(id, 1)) : std::nullopt;
    if (!b) return std::nullopt;
    const DType dtype = spec(input(id, 0)).dtype;
    return combined(*a, *b, [&](const Scalar& x, const Scalar& y) {
      return kind == BinaryKind::kBitwiseAnd && dtype == DType::kBool
                 ? fold_binary(BinaryKind::kLogicalAnd, x, y, dtype)
                 : fold_binary(kind, x, y, dtype);
    });
  }

  /// fn of two bands, where it is one: all but the overlap gives one value.
  template <typename Fn>
  static std::optional<Band> combined(const Band& first, const Band& second, Fn fn) {
    for (const Band& a : spellings(first)) {
      for (const Band& b : spellings(second)) {
        const auto both = fn(a.inside, b.inside), neither = fn(a.outside, b.outside);
        if (both && neither && fn(a.inside, b.outside) == neither &&
            fn(a.outside, b.inside) == neither) {
          return Band{std::max(a.low, b.low), std::min(a.high, b.high), *both, *neither};
        }
      }
    }
    return std::nullopt;
  }

  std::optional<Band> band_of_comparison(NodeId id, BinaryKind kind) {
    if (kind < BinaryKind::kEqual || kind > BinaryKind::kGreaterEqual) return std::nullopt;
    const int budget = budget_;
    const auto a = affine(input(id, 0));
    const auto b = a ? affine(input(id, 1)) : std::nullopt;
    if (!b) {
      budget_ = budget - 1;  // The operands may be bands still.
      return std::nullopt;
    }
    Affine x{a->row - b->row, a->column - b->column, a->offset - b->offset};
    const bool mirrored = x.column < 0;
    if (mirrored) x = Affine{-x.row, -x.column, -x.offset};
    if (x.column != 1 || x.row != -1) return std::nullopt;
    return side(mirrored ? mirror(kind) : kind, -x.offset);
  }

  static BinaryKind mirror(BinaryKind kind) {
    switch (kind) {
      case BinaryKind::kLess:
        return BinaryKind::kGreater;
      case BinaryKind::kLessEqual:
        return BinaryKind::kGreaterEqual;
      case BinaryKind::kGreater:
        return BinaryKind::kLess;
      case BinaryKind::kGreaterEqual:
        return BinaryKind::kLessEqual;
      default:
        return kind;
    }
  }

  /// j - i compared with `diagonal`.
  static Band side(BinaryKind kind, std::int64_t diagonal) {
    const Scalar yes = Scalar::from_integer(1), no = Scalar::from_integer(0);
    switch (kind) {
      case BinaryKind::kLess:
        return {-kFar, diagonal - 1, yes, no};
      case BinaryKind::kLessEqual:
        return {-kFar, diagonal, yes, no};
      case BinaryKind::kGreater:
        return {diagonal + 1, kFar, yes, no};
      case BinaryKind::kGreaterEqual:
        return {diagonal, kFar, yes, no};
      case BinaryKind::kEqual:
        return {diagonal, diagonal, yes, no};
      default:
        return {diagonal, diagonal, no, yes};
    }
  }

  /// where(band, a, b), with constants, or with a band (tril of a mask) and a constant.
  std::optional<Band> band_of_select(NodeId id) {
    if (!spans(id, 0)) return std::nullopt;
    const auto condition = band(input(id, 0));
    if (!condition) return std::nullopt;
    const auto arm = [&](std::size_t i) -> std::optional<Band> {
      if (const auto value = constant(input(id, i))) return Band{-kFar, kFar, *value, *value};
      return spans(id, i) ? band(input(id, i)) : std::nullopt;
    };
    const auto a = arm(1);
    const auto b = a ? arm(2) : std::nullopt;
    if (!b) return std::nullopt;
    const auto truth = [](const Scalar& x) { return x.integer != 0; };
    for (const Band& c : spellings(*condition)) {
      const Band &within = truth(c.inside) ? *a : *b, &beyond = truth(c.outside) ? *a : *b;
      if (!(beyond.inside == beyond.outside)) continue;
      if (within.inside == within.outside) return Band{c.low, c.high, within.inside, beyond.inside};
      for (const Band& w : spellings(within)) {
        if (!(w.outside == beyond.inside)) continue;
        return Band{std::max(c.low, w.low), std::min(c.high, w.high), w.inside, w.outside};
      }
    }
    return std::nullopt;
  }

  const ComputationGraph& graph_;
  int budget_ = kMaxNodes;
};

}  // namespace

bool hides(double value, DType dtype) { return value <= (dtype == DType::kF16 ? -6e4 : -1e9); }

std::optional<int> causal_window(const ComputationGraph& graph, NodeId mask, std::int64_t queries,
                                 std::int64_t keys, bool true_is_hidden) {
  const TensorSpec& spec = graph.node(mask).spec;
  if (dim(spec.shape, 1) != keys || dim(spec.shape, 2) != queries) return std::nullopt;
  const auto read = Reader(graph).band(mask);
  if (!read) return std::nullopt;
  const std::int64_t diagonal = keys - queries;
  for (const Band& b : spellings(*read)) {
    if (b.high != diagonal) continue;
    if (spec.dtype == DType::kBool) {
      const bool inside = b.inside.integer != 0, outside = b.outside.integer != 0;
      if (inside == true_is_hidden || outside != true_is_hidden) continue;
    } else {
      const bool certain = std::isinf(b.outside.real) || diagonal >= 0;
      if (b.inside.real != 0 || !hides(b.outside.real, spec.dtype) || !certain) continue;
    }
    if (b.low <= 1 - queries) return 0;
    const std::int64_t window = b.high - b.low + 1;
    if (window >= 1 && window <= std::numeric_limits<int>::max()) return static_cast<int>(window);
  }
  return std::nullopt;
}

}  // namespace metal_candle::passes
