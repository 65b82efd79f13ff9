// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A dense row-major array in host memory, wider than any dtype it stands for: what the reference
// interpreter computes with and what tests compare results with.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle::testing {

/// Elements of a floating dtype are doubles, all others exact 64-bit integers.
struct HostTensor {
  TensorSpec spec;
  std::vector<double> real;           // Elements, if the dtype is floating.
  std::vector<std::int64_t> integer;  // Elements, if it is not.

  HostTensor() = default;
  /// Zeros.
  explicit HostTensor(const TensorSpec& tensor_spec);
  HostTensor(const Shape& shape, DType dtype) : HostTensor(TensorSpec{shape, dtype}) {}
  static HostTensor of(const Shape& shape, std::vector<double> values, DType dtype = DType::kF32);
  static HostTensor of_integers(const Shape& shape, std::vector<std::int64_t> values,
                                DType dtype = DType::kI32);

  [[nodiscard]] const Shape& shape() const { return spec.shape; }
  [[nodiscard]] DType dtype() const { return spec.dtype; }
  [[nodiscard]] bool is_real() const { return is_floating(spec.dtype); }
  [[nodiscard]] std::int64_t size() const { return num_elements(spec.shape); }

  // Elements by row-major position.
  double& r(std::int64_t i) { return real[static_cast<std::size_t>(i)]; }
  [[nodiscard]] double r(std::int64_t i) const { return real[static_cast<std::size_t>(i)]; }
  std::int64_t& n(std::int64_t i) { return integer[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::int64_t n(std::int64_t i) const {
    return integer[static_cast<std::size_t>(i)];
  }
  /// The element as a double, whatever the dtype.
  [[nodiscard]] double number(std::int64_t i) const {
    return is_real() ? r(i) : static_cast<double>(n(i));
  }
  /// Element i becomes element j of `from`, which has the same kind of elements.
  void copy(std::int64_t i, const HostTensor& from, std::int64_t j);
};

/// The row-major position of an index.
[[nodiscard]] std::int64_t ravel(const Dims& index, const Shape& shape);
/// The index at a row-major position.
[[nodiscard]] Dims unravel(std::int64_t position, const Shape& shape);

/// The nearest value of a floating dtype.
[[nodiscard]] double round_to(double value, DType dtype);
/// An integer reduced to the width of an integer dtype, as arithmetic in that dtype wraps; bool
/// takes value != 0.
[[nodiscard]] std::int64_t wrap_to(std::int64_t value, DType dtype);

/// Reads a tensor that is evaluated already. Throws Error if it is not.
[[nodiscard]] HostTensor read_evaluated(const Tensor& tensor);
/// A leaf with these elements, rounded to the dtype.
[[nodiscard]] Tensor to_tensor(const HostTensor& host);

/// |actual - expected| <= absolute + relative * |expected|.
struct Tolerance {
  double relative = 0;
  double absolute = 0;
};
/// About four units in the last place of the dtype, relative and absolute; exact for integers.
[[nodiscard]] Tolerance default_tolerance(DType dtype);

/// Equal shapes and dtypes, and elements within tolerance; NaN equals NaN. The failure names the
/// first element that differs, how many do and the worst. Use as
/// EXPECT_TRUE(all_close(actual, expected)) << what.
[[nodiscard]] ::testing::AssertionResult all_close(const HostTensor& actual,
                                                   const HostTensor& expected, Tolerance tolerance);
/// With the default tolerance of the expected dtype.
[[nodiscard]] ::testing::AssertionResult all_close(const HostTensor& actual,
                                                   const HostTensor& expected);

}  // namespace metal_candle::testing
