// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs one CPU kernel on operands of any dtype and strides, without a graph. Operands are read and
// written as doubles, for tests to compare with scalar references in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"

namespace metal_candle::backend::cpu::testing {

/// 64-byte aligned bytes of exactly the size asked for, so that sanitizers see any overrun.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t size)
      : data_(static_cast<std::byte*>(::operator new (size, std::align_val_t{64})), Free{}) {
    std::memset(data_.get(), 0xcb, size);
  }
  [[nodiscard]] std::byte* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::shared_ptr<std::byte> data_;
};

/// A tensor in memory of its own; copies share it.
class Operand {
 public:
  Operand(const Shape& shape, DType dtype)
      : Operand(TensorLayout{shape, contiguous_strides(shape), dtype}) {}
  explicit Operand(const TensorLayout& layout)
      : layout_(layout), first_(first_element(layout)), bytes_(extent(layout)) {}
  /// Normally distributed, rounded to the dtype; small integers for integer dtypes.
  static Operand random(const TensorLayout& layout, std::uint32_t seed, double scale = 1) {
    Operand operand(layout);
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal(0, scale);
    for (std::int64_t i = 0; i < operand.size(); ++i) {
      const double v = normal(engine);
      operand.set(i, is_floating(layout.dtype) ? v : std::round(v * 10));
    }
    return operand;
  }
  static Operand random(const Shape& shape, DType dtype, std::uint32_t seed, double scale = 1) {
    return random(TensorLayout{shape, contiguous_strides(shape), dtype}, seed, scale);
  }
  static Operand of(const Shape& shape, DType dtype, const std::vector<double>& values) {
    Operand operand(shape, dtype);
    for (std::size_t i = 0; i < values.size(); ++i) {
      operand.set(static_cast<std::int64_t>(i), values[i]);
    }
    return operand;
  }

  [[nodiscard]] const TensorLayout& layout() const { return layout_; }
  [[nodiscard]] const Shape& shape() const { return layout_.shape; }
  [[nodiscard]] std::int64_t size() const { return num_elements(layout_.shape); }
  /// Of the element with all indices 0.
  [[nodiscard]] void* address() const { return bytes_.get() + first_; }
  [[nodiscard]] double get(std::int64_t i) const {
    return dispatch_dtype(layout_.dtype, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
        return static_cast<double>(static_cast<float>(at<T>(i)));
      } else {
        return static_cast<double>(at<T>(i));
      }
    });
  }
  void set(std::int64_t i, double value) const {
    dispatch_dtype(layout_.dtype, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
        at<T>(i) = T(static_cast<float>(value));
      } else if constexpr (std::is_same_v<T, std::uint8_t>) {
        at<T>(i) = static_cast<T>(static_cast<std::int64_t>(value) & 255);
      } else if constexpr (std::is_same_v<T, std::uint32_t>) {
        at<T>(i) = static_cast<T>(static_cast<std::int64_t>(value));
      } else {
        at<T>(i) = static_cast<T>(value);
      }
    });
  }
  [[nodiscard]] std::vector<double> values() const {
    std::vector<double> result;
    for (std::int64_t i = 0; i < size(); ++i) result.push_back(get(i));
    return result;
  }

 private:
  static std::size_t first_element(const TensorLayout& layout) {
    std::int64_t low = 0;
    for (int i = 0; i < layout.shape.rank(); ++i) {
      if (layout.shape[i] > 1)
        low += std::min<std::int64_t>(0, (layout.shape[i] - 1) * layout.strides[i]);
    }
    return static_cast<std::size_t>(-low) * size_of(layout.dtype);
  }
  static std::size_t extent(const TensorLayout& layout) {
    if (num_elements(layout.shape) == 0) return 0;
    std::int64_t span = 1;
    for (int i = 0; i < layout.shape.rank(); ++i) {
      span += (layout.shape[i] - 1) * std::abs(layout.strides[i]);
    }
    return static_cast<std::size_t>(span) * size_of(layout.dtype);
  }
  template <typename T>
  T& at(std::int64_t i) const {
    std::int64_t offset = 0;
    for (int axis = layout_.shape.rank() - 1; axis >= 0; --axis) {
      offset += i % layout_.shape[axis] * layout_.strides[axis];
      i /= layout_.shape[axis];
    }
    return *(static_cast<T*>(address()) + offset);
  }

  TensorLayout layout_;
  std::size_t first_;
  AlignedBytes bytes_;
};

using MakeKernel = std::unique_ptr<Kernel> (*)(const KernelRequest&);

struct RunOptions {
  int in_place = -1;              // The input that output 0 is written over.
  std::vector<bool> needed = {};  // All, if empty.
};

/// Makes the kernel and runs it once. An output that is not needed comes back as it was allocated.
inline std::vector<Operand> run_kernel(MakeKernel make, const Operation& operation,
                                       const std::vector<Operand>& inputs,
                                       const std::vector<TensorSpec>& outputs,
                                       const RunOptions& options = {}) {
  std::vector<TensorLayout> in, out;
  std::vector<const void*> from;
  std::vector<void*> to;
  std::vector<Operand> results;
  for (const Operand& o : inputs) {
    in.push_back(o.layout());
    from.push_back(o.address());
  }
  const auto needed = std::make_unique<bool[]>(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    needed[i] = options.needed.empty() || options.needed[i];
    const bool over = i == 0 && options.in_place >= 0;
    results.push_back(over ? inputs[static_cast<std::size_t>(options.in_place)]
                           : Operand(outputs[i].shape, outputs[i].dtype));
    out.push_back(TensorLayout::contiguous(outputs[i]));
    to.push_back(needed[i] ? results.back().address() : nullptr);
  }
  const std::unique_ptr<Kernel> kernel =
      make({operation, in, out, std::span<const bool>(needed.get(), outputs.size())});
  const AlignedBytes scratch(kernel->scratch_bytes());
  static_cast<const CpuKernel&>(*kernel).run({from, to, scratch.get()});
  return results;
}

/// Half a unit in the last place, relative: what one rounding may cost.
inline double rounding(DType dtype) {
  if (dtype == DType::kF16) return 0x1p-11;
  if (dtype == DType::kBF16) return 0x1p-8;
  return dtype == DType::kF32 ? 0x1p-24 : 0;
}

/// Element by element: equal, both NaN, or within relative and absolute bounds.
inline ::testing::AssertionResult near(const Operand& actual, const std::vector<double>& expected,
                                       double relative, double absolute) {
  if (actual.size() != static_cast<std::int64_t>(expected.size())) {
    return ::testing::AssertionFailure() << actual.size() << " elements, not " << expected.size();
  }
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    const double a = actual.get(i), e = expected[static_cast<std::size_t>(i)];
    if (a == e || (std::isnan(a) && std::isnan(e))) continue;
    if (std::abs(a - e) <= absolute + relative * std::abs(e)) continue;
    return ::testing::AssertionFailure()
           << "element " << i << " of " << to_string(actual.shape()) << ' '
           << name(actual.layout().dtype) << " is " << a << ", not " << e;
  }
  return ::testing::AssertionSuccess();
}
/// With room for one rounding to the dtype of the result and `error` before it, relative to 1 or
/// the expected value, whichever is larger.
inline ::testing::AssertionResult near(const Operand& actual, const std::vector<double>& expected,
                                       double error = 1e-5) {
  return near(actual, expected, error + 1.01 * rounding(actual.layout().dtype), error);
}

/// Runs fn with one thread and with several, for results that must not depend on it.
inline void with_thread_counts(const std::function<void(int)>& fn) {
  const int before = num_threads();
  for (const int count : {1, 2, 3}) {
    set_num_threads(count);
    fn(count);
  }
  set_num_threads(before);
}

inline constexpr DType kFloatingDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

/// Strides of rows with a gap after each, and with the leading axes in reverse order in memory.
inline TensorLayout padded_rows(const Shape& shape, DType dtype) {
  Strides strides(shape.size(), 1);
  std::int64_t step = shape.back() + 5;
  for (int i = 0; i + 1 < shape.rank(); ++i) {
    strides[i] = step;
    step *= shape[i];
  }
  return {shape, strides, dtype};
}

}  // namespace metal_candle::backend::cpu::testing
