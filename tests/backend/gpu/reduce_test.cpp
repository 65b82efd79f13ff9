// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions on the GPU in software: along rows and down columns, of parts of warps, of groups and
// of many groups, with packets and without.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::array kKinds{ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kMax,
                            ReduceKind::kMin, ReduceKind::kAny,  ReduceKind::kAll};

// All kinds where they have kernels of their own, some elsewhere.
std::vector<ReduceKind> kinds_of(DType dtype) {
  if (dtype == DType::kF32 || dtype == DType::kI8) return {kKinds.begin(), kKinds.end()};
  return {ReduceKind::kSum, ReduceKind::kMin, ReduceKind::kAny};
}

bool is_logical(ReduceKind kind) { return kind == ReduceKind::kAny || kind == ReduceKind::kAll; }

// Elements whose reduction says something: near 1 for products, mostly zeros for any().
HostTensor operand(ReduceKind kind, const Shape& shape, DType dtype) {
  HostTensor x = random_operand(shape, dtype, 5, is_integer(dtype) ? 20 : 1);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    if (kind == ReduceKind::kProd && x.is_real()) {
      x.r(i) = round_to(std::exp(x.r(i) / std::sqrt(static_cast<double>(x.size()))), dtype);
    } else if (kind == ReduceKind::kAny && x.is_real() && i % 97 != 3) {
      x.r(i) = 0;
    } else if (kind == ReduceKind::kAny && !x.is_real() && i % 97 != 3) {
      x.n(i) = 0;
    }
  }
  return x;
}

void check(ReduceKind kind, const Shape& shape, const Axes& axes, DType dtype,
           Placement placement = Placement::kContiguous, std::uint32_t seed = 1) {
  if (dtype == DType::kBool && !is_logical(kind)) return;
  const HostTensor x = operand(kind, shape, dtype);
  const HostTensor* const inputs[] = {&x};
  Tolerance tolerance;
  if (is_floating(dtype) && (kind == ReduceKind::kSum || kind == ReduceKind::kProd)) {
    const double length = std::sqrt(static_cast<double>(x.size()) + 1);
    tolerance = dtype == DType::kF32 ? Tolerance{1e-5, 1e-6 * length} : Tolerance{1e-2, 1e-2};
  }
  SCOPED_TRACE(to_string(shape) + " " + std::string(name(dtype)));
  expect_gpu_matches(op::Reduce{kind, axes, false}, inputs, {}, tolerance, placement, seed);
}

class GpuReduceTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuReduceTest, Rows) {
  for (const ReduceKind kind : kinds_of(GetParam())) {
    for (const Shape& shape : {Shape{5, 1}, Shape{40, 3}, Shape{70, 8}, Shape{3, 17}, Shape{2, 64},
                               Shape{33, 600}, Shape{3, 1000}, Shape{2, 4099}, Shape{2, 8192}}) {
      check(kind, shape, {1}, GetParam());
    }
  }
}

TEST_P(GpuReduceTest, Columns) {
  for (const ReduceKind kind : kinds_of(GetParam())) {
    for (const Shape& shape : {Shape{5, 1}, Shape{3, 40}, Shape{70, 8}, Shape{17, 3}, Shape{64, 2},
                               Shape{600, 33}, Shape{1000, 64}, Shape{4099, 5}, Shape{30, 500}}) {
      check(kind, shape, {0}, GetParam());
    }
  }
}

TEST_P(GpuReduceTest, AnyAxes) {
  const Shape shape{4, 5, 6, 16};
  for (unsigned mask = 0; mask < 16; ++mask) {
    Axes axes;
    for (int axis = 0; axis < 4; ++axis) {
      if ((mask >> axis & 1) != 0) axes.push_back(axis);
    }
    check(ReduceKind::kSum, shape, axes, GetParam());
    check(ReduceKind::kAny, shape, axes, GetParam());
  }
}

TEST_P(GpuReduceTest, AnyStrides) {
  for (unsigned mask = 1; mask < 8; ++mask) {
    Axes axes;
    for (int axis = 0; axis < 3; ++axis) {
      if ((mask >> axis & 1) != 0) axes.push_back(axis);
    }
    for (std::uint32_t seed = 1; seed < 5; ++seed) {
      check(ReduceKind::kSum, Shape{7, 8, 24}, axes, GetParam(), Placement::kScattered, seed);
      check(ReduceKind::kMin, Shape{7, 8, 24}, axes, GetParam(), Placement::kScattered, seed);
    }
  }
}

TEST_P(GpuReduceTest, EverythingToOne) {
  for (const std::int64_t n : {1, 1000, 40000, 40001}) {
    for (const ReduceKind kind : kinds_of(GetParam())) check(kind, Shape{n}, {0}, GetParam());
  }
}

TEST_P(GpuReduceTest, ZeroSizes) {
  for (const ReduceKind kind : {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kAll}) {
    check(kind, Shape{0, 4}, {0}, GetParam());
    check(kind, Shape{0, 4}, {1}, GetParam());
    check(kind, Shape{4, 0}, {1}, GetParam());
    check(kind, Shape{2, 0, 3}, {0, 1}, GetParam());
    check(kind, Shape{0}, {0}, GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuReduceTest,
                         ::testing::Values(DType::kBool, DType::kU8, DType::kI8, DType::kI32,
                                           DType::kU32, DType::kI64, DType::kF16, DType::kBF16,
                                           DType::kF32),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(GpuReduce, NanStaysAndInfinitiesCount) {
  for (const std::int64_t n : {7, 700, 30000}) {
    for (const int axis : {0, 1}) {
      HostTensor x(axis == 1 ? Shape{3, n} : Shape{n, 3}, DType::kF32);
      const auto at = [&](std::int64_t row, std::int64_t i) {
        return axis == 1 ? row * n + i : i * 3 + row;
      };
      x.r(at(0, n / 2)) = kNan;
      x.r(at(1, n - 1)) = kInf;
      x.r(at(2, 1)) = -kInf;
      const HostTensor* const inputs[] = {&x};
      for (const ReduceKind kind : kKinds) {
        expect_gpu_matches(op::Reduce{kind, {axis}, false}, inputs);
      }
    }
  }
}

// As if it were read once for each place in the larger shape.
TEST(GpuReduce, OperandsThatAreRepeated) {
  const HostTensor x = random_operand(Shape{300}, DType::kF32, 1);
  std::mt19937 random(1);
  PlacedTensor placed = place(x, Placement::kContiguous, random);
  placed.layout = {Shape{5, 300}, Strides{0, 1}, DType::kF32};
  for (const int axis : {0, 1}) {
    const op::Reduce operation{ReduceKind::kSum, {axis}, false};
    const TensorSpec spec{Shape{axis == 0 ? 300 : 5}, DType::kF32};
    const TensorLayout out = TensorLayout::contiguous(spec);
    const bool needed = true;
    const auto kernel = gpu_sim::sim_backend().make_kernel(
        {operation, {&placed.layout, 1}, {&out, 1}, {&needed, 1}});
    std::vector<float> memory(300), scratch(kernel->scratch_bytes() / sizeof(float) + 1);
    void* const input = placed.memory.data();
    void* const output = memory.data();
    gpu_sim::SimEncoder encoder;
    static_cast<const backend::gpu::GpuKernel&>(*kernel).encode(
        {{&input, 1}, {&output, 1}, scratch.data()}, encoder);
    double total = 0;
    for (const double value : x.real) total += value;
    for (std::int64_t i = 0; i < num_elements(spec.shape); ++i) {
      EXPECT_NEAR(memory[static_cast<std::size_t>(i)], axis == 0 ? 5 * x.r(i) : total, 1e-4);
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
