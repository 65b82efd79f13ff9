// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Inside of random_graph.h: a pool of tensors, each with bounds on its values and its error, and
// the steps that add to it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "metal_candle/graph/ops.h"

namespace metal_candle::testing {

/// SplitMix64: the same numbers with every standard library.
class RandomSource {
 public:
  explicit RandomSource(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  /// In [0, count).
  int below(std::int64_t count) {
    return static_cast<int>(next() % static_cast<std::uint64_t>(count));
  }
  bool chance(int percent) { return below(100) < percent; }
  double real(double low, double high) {
    return low + (high - low) * static_cast<double>(next() >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t state_;
};

/// A tensor of which |value| <= bound and |computed - exact| <= error.
struct TameTensor {
  Tensor tensor;
  double bound = 0;
  double error = 0;

  /// The same bits however it is computed: fit for comparisons, sorting orders and indices.
  [[nodiscard]] bool exact() const { return error == 0; }
  [[nodiscard]] DType dtype() const { return tensor.dtype(); }
  [[nodiscard]] const Shape& shape() const { return tensor.shape(); }
  [[nodiscard]] int rank() const { return tensor.rank(); }
  [[nodiscard]] bool is_real() const { return is_floating(tensor.dtype()); }
  [[nodiscard]] bool is_whole() const { return is_integer(tensor.dtype()); }
};

/// Rounding of one operation of this dtype, relative to its result: a few units in the last place.
double unit(DType dtype);

class RandomGraphBuilder {
 public:
  explicit RandomGraphBuilder(std::uint64_t seed);
  /// Calls one random operation (or adds a leaf).
  void step();
  [[nodiscard]] const std::vector<TameTensor>& pool() const { return pool_; }

 private:
  // Each returns false when what it picked does not suit it. In random_graph.cpp ...
  bool unary();
  bool binary();
  bool scalar_operand();
  bool compare();
  bool select();
  bool convert();
  bool whole_numbers();
  // ... random_graph_layout.cpp ...
  bool rearrange();
  bool resize();
  bool join();
  bool read_by_index();
  bool write_by_index();
  // ... random_graph_reduce.cpp ...
  bool reduce();
  bool running();
  bool sorting();
  // ... and random_graph_nn.cpp.
  bool product();
  bool projection();
  bool normalize();
  bool spelled_softmax();
  bool spelled_norm();
  bool attend();
  bool loss();
  bool position();

  /// A tensor of the pool for which `wanted` holds, recent ones more often.
  std::optional<TameTensor> pick(const std::function<bool(const TameTensor&)>& wanted);
  std::optional<TameTensor> pick_real(int least_rank = 0);
  std::optional<TameTensor> pick_any();

  /// A new leaf: values in [-1, 1], or small whole numbers.
  TameTensor leaf(const Shape& shape, DType dtype);
  TameTensor index_leaf(const Shape& shape, std::int64_t length);
  Shape random_shape();
  DType random_float();
  /// Adds a result; scales it down if it is large, leaves it out if it is not accurate enough to
  /// be of further use.
  bool give(Tensor tensor, double bound, double error);
  /// The rounding of a result with these bounds.
  static double rounding(const Tensor& tensor, double bound) {
    return is_floating(tensor.dtype()) ? unit(tensor.dtype()) * bound : 0;
  }

  RandomSource random_;
  std::vector<TameTensor> pool_;
};

/// Whether shapes broadcast, to at most `limit` elements.
bool broadcast_fits(const Shape& a, const Shape& b, std::int64_t limit);

inline constexpr std::int64_t kMostElements = 3000;

}  // namespace metal_candle::testing
