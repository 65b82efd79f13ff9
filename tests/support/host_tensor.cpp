// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Host arrays: conversion, rounding and comparison.
#include "tests/support/host_tensor.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "metal_candle/graph/host_contents.h"

namespace metal_candle::testing {
namespace {

template <typename T>
T load(const char* address) {
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

std::string describe(const HostTensor& tensor, std::int64_t i) {
  return tensor.is_real() ? fmt::format("{:.9g}", tensor.r(i)) : fmt::format("{}", tensor.n(i));
}

bool within(double actual, double expected, Tolerance tolerance) {
  if (std::isnan(expected) || std::isnan(actual)) {
    return std::isnan(expected) && std::isnan(actual);
  }
  if (std::isinf(expected) || std::isinf(actual)) return actual == expected;
  return std::abs(actual - expected) <=
         tolerance.absolute + tolerance.relative * std::abs(expected);
}

}  // namespace

HostTensor::HostTensor(const TensorSpec& tensor_spec) : spec(tensor_spec) {
  const auto count = static_cast<std::size_t>(num_elements(spec.shape));
  if (is_real()) {
    real.resize(count);
  } else {
    integer.resize(count);
  }
}

HostTensor HostTensor::of(const Shape& shape, std::vector<double> values, DType dtype) {
  HostTensor tensor;
  tensor.spec = {shape, dtype};
  if (!is_floating(dtype) || static_cast<std::int64_t>(values.size()) != num_elements(shape)) {
    throw ShapeError(fmt::format("HostTensor: {} values for {} {}", values.size(), name(dtype),
                                 to_string(shape)));
  }
  tensor.real = std::move(values);
  return tensor;
}

HostTensor HostTensor::of_integers(const Shape& shape, std::vector<std::int64_t> values,
                                   DType dtype) {
  HostTensor tensor;
  tensor.spec = {shape, dtype};
  if (is_floating(dtype) || static_cast<std::int64_t>(values.size()) != num_elements(shape)) {
    throw ShapeError(fmt::format("HostTensor: {} values for {} {}", values.size(), name(dtype),
                                 to_string(shape)));
  }
  tensor.integer = std::move(values);
  return tensor;
}

void HostTensor::copy(std::int64_t i, const HostTensor& from, std::int64_t j) {
  if (is_real()) {
    r(i) = from.r(j);
  } else {
    n(i) = from.n(j);
  }
}

std::int64_t ravel(const Dims& index, const Shape& shape) {
  std::int64_t position = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) position = position * shape[axis] + index[axis];
  return position;
}

Dims unravel(std::int64_t position, const Shape& shape) {
  Dims index(shape.size(), 0);
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    index[axis] = position % shape[axis];
    position /= shape[axis];
  }
  return index;
}

double round_to(double value, DType dtype) {
  const auto narrow = static_cast<float>(value);
  if (dtype == DType::kF16) return static_cast<double>(static_cast<float>(Float16(narrow)));
  if (dtype == DType::kBF16) return static_cast<double>(static_cast<float>(BFloat16(narrow)));
  return static_cast<double>(narrow);
}

std::int64_t wrap_to(std::int64_t value, DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return value != 0 ? 1 : 0;
    case DType::kU8:
      return static_cast<std::uint8_t>(value);
    case DType::kI8:
      return static_cast<std::int8_t>(value);
    case DType::kI32:
      return static_cast<std::int32_t>(value);
    case DType::kU32:
      return static_cast<std::uint32_t>(value);
    default:
      return value;
  }
}

HostTensor read_evaluated(const Tensor& tensor) {
  if (!tensor.is_evaluated()) throw Error("read_evaluated: the tensor has no value yet");
  const HostContents contents(tensor);
  HostTensor host(tensor.spec());
  std::int64_t i = 0;
  contents.for_each([&](const std::byte* address) {
    dispatch_dtype(host.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const T element = load<T>(reinterpret_cast<const char*>(address));
      if constexpr (is_floating(dtype_of<T>())) {
        host.r(i) = static_cast<double>(static_cast<float>(element));
      } else {
        host.n(i) = static_cast<std::int64_t>(element);
      }
    });
    ++i;
  });
  return host;
}

Tensor to_tensor(const HostTensor& host) {
  return dispatch_dtype(host.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto count = static_cast<std::size_t>(host.size());
    // Not a vector: one of bool has no contiguous elements.
    const auto elements = std::make_unique<T[]>(count);
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (is_floating(dtype_of<T>())) {
        elements[i] = static_cast<T>(static_cast<float>(host.real[i]));
      } else {
        elements[i] = static_cast<T>(host.integer[i]);
      }
    }
    return Tensor(std::span<const T>(elements.get(), count), host.shape());
  });
}

Tolerance default_tolerance(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {5e-7, 5e-7};
    case DType::kF16:
      return {4e-3, 4e-3};
    case DType::kBF16:
      return {3.2e-2, 3.2e-2};
    default:
      return {};
  }
}

::testing::AssertionResult all_close(const HostTensor& actual, const HostTensor& expected,
                                     Tolerance tolerance) {
  if (actual.spec != expected.spec) {
    return ::testing::AssertionFailure() << fmt::format(
               "actual is {} {}, expected is {} {}", name(actual.dtype()),
               to_string(actual.shape()), name(expected.dtype()), to_string(expected.shape()));
  }
  std::int64_t first = -1, worst = -1, differing = 0;
  double worst_error = -1;
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    const bool equal = expected.is_real() ? within(actual.r(i), expected.r(i), tolerance)
                                          : actual.n(i) == expected.n(i);
    if (equal) continue;
    ++differing;
    if (first < 0) first = i;
    const double error = std::abs(actual.number(i) - expected.number(i));
    if (!(error <= worst_error)) {  // A NaN is worst.
      worst = i;
      worst_error = error;
    }
  }
  if (differing == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << fmt::format(
             "first difference at {} (element {} of {}, {} {}): actual {}, expected {}; {} differ, "
             "the worst at {}: actual {}, expected {}; tolerance {:g} relative + {:g} absolute",
             to_string(unravel(first, expected.shape())), first, expected.size(),
             name(expected.dtype()), to_string(expected.shape()), describe(actual, first),
             describe(expected, first), differing, to_string(unravel(worst, expected.shape())),
             describe(actual, worst), describe(expected, worst), tolerance.relative,
             tolerance.absolute);
}

::testing::AssertionResult all_close(const HostTensor& actual, const HostTensor& expected) {
  return all_close(actual, expected, default_tolerance(expected.dtype()));
}

}  // namespace metal_candle::testing
