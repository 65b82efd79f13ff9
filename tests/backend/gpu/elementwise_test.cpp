// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Generated elementwise kernels against the double-precision interpreter: every kind, every dtype,
// every way an operand may lie, and programs against their operations one by one.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "metal_candle/backend/gpu/elementwise_source.h"
#include "metal_candle/core/error.h"
#include "tests/backend/elementwise_cases.h"
#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

struct Case {
  Operation operation;
  std::vector<HostTensor> inputs;
  TensorSpec spec;
  Tolerance tolerance = {};
  Placement placement = Placement::kContiguous;
  std::uint32_t seed = 1;
};

std::vector<const HostTensor*> pointers(const std::vector<HostTensor>& hosts) {
  std::vector<const HostTensor*> all;
  for (const HostTensor& host : hosts) all.push_back(&host);
  return all;
}

// Kernels compiled in one go, then run.
void check_together(const std::vector<Case>& cases) {
  std::set<gpu_sim::SimDevice::Source> sources;
  for (const Case& c : cases) {
    std::mt19937 random(c.seed);  // As run_gpu_kernel() lays them out.
    std::vector<TensorLayout> layouts;
    for (const HostTensor& input : c.inputs) {
      layouts.push_back(place(input, c.placement, random).layout);
    }
    const backend::gpu::ElementwiseLoop loop(layouts, TensorLayout::contiguous(c.spec));
    if (loop.count == 0) continue;
    for (const bool aligned : {true, false}) {
      if (!aligned && c.placement == Placement::kContiguous) continue;
      const auto source = backend::gpu::write_elementwise(c.operation, loop, aligned);
      sources.emplace(source.name, source.text);
    }
  }
  const std::vector<gpu_sim::SimDevice::Source> all(sources.begin(), sources.end());
  static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu()).compile_together(all);
  for (const Case& c : cases) {
    const std::vector<const HostTensor*> inputs = pointers(c.inputs);
    const HostTensor actual =
        run_gpu_kernel(c.operation, inputs, std::span(&c.spec, 1), {}, c.placement, c.seed)[0];
    EXPECT_TRUE(all_close(actual, reference(c.operation, inputs, c.spec), c.tolerance))
        << to_string(c.operation) << " to " << name(c.spec.dtype) << to_string(c.spec.shape);
  }
}

// Whole packets, and not; one gradient alone.
TEST(GpuSwiGluBackward, AgreesWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const Shape& shape : {Shape{3, 64}, Shape{2, 3, 5}, Shape{4099}, Shape{0, 8}}) {
      const HostTensor gate = random_operand(shape, dtype, 1, 3);
      const HostTensor up = random_operand(shape, dtype, 2), dy = random_operand(shape, dtype, 3);
      const HostTensor* const inputs[] = {&gate, &up, &dy};
      expect_gpu_matches(op::SwiGluBackward{}, inputs, {}, elementwise_tolerance(dtype));
      const std::vector<TensorSpec> specs(2, gate.spec);
      const auto both = run_gpu_kernel(op::SwiGluBackward{}, inputs, specs);
      const auto second = run_gpu_kernel(op::SwiGluBackward{}, inputs, specs, {0, 1});
      EXPECT_TRUE(all_close(second[1], both[1], {}));
    }
  }
}

TEST(GpuElementwiseTest, EveryUnaryKindOnEveryDType) {
  std::mt19937 random(7);
  std::vector<Case> cases;
  for (int k = 0; k < kNumUnaryKinds; ++k) {
    const auto kind = static_cast<UnaryKind>(k);
    for (const DType dtype : kAllDTypes) {
      if (is_float_only(kind) && !is_floating(dtype)) continue;
      if (kind == UnaryKind::kBitwiseNot && is_floating(dtype)) continue;
      // Arguments in and around the domain of the inverse functions.
      const HostTensor x = random_tensor({3, 331}, dtype, random, k % 2 == 0 ? 0.7 : 4.0);
      const TensorSpec spec{x.shape(), is_predicate(kind) ? DType::kBool : dtype};
      cases.push_back({op::Unary{kind}, {x}, spec, elementwise_tolerance(spec.dtype)});
    }
  }
  check_together(cases);
}

TEST(GpuElementwiseTest, EveryBinaryKindOnEveryDType) {
  std::mt19937 random(8);
  std::vector<Case> cases;
  for (int k = 0; k < kNumBinaryKinds; ++k) {
    const auto kind = static_cast<BinaryKind>(k);
    for (const DType dtype : kAllDTypes) {
      if (is_float_only(kind) && !is_floating(dtype)) continue;
      if (is_integer_only(kind) && is_floating(dtype)) continue;
      const HostTensor x = random_tensor({5, 213}, dtype, random);
      const HostTensor y = random_tensor({5, 213}, dtype, random);
      const TensorSpec spec{x.shape(), is_predicate(kind) ? DType::kBool : dtype};
      cases.push_back({op::Binary{kind}, {x, y}, spec, elementwise_tolerance(spec.dtype)});
    }
  }
  check_together(cases);
}

TEST(GpuElementwiseTest, CastsSelectsAndConstantsOfEveryDType) {
  std::mt19937 random(9);
  std::vector<Case> cases;
  for (const DType from : kAllDTypes) {
    for (const DType to : kAllDTypes) {
      HostTensor x = random_tensor({700}, from, random, 200.0);
      if (from == DType::kF32) {
        const double edges[] = {2147483648.0, -2147483648.0, 4294967296.0, 1e30,   -1e30,  127.9,
                                -128.9,       255.9,         -0.9,         9.3e18, -9.3e18};
        std::copy(std::begin(edges), std::end(edges), x.real.begin());
        for (double& value : x.real) value = round_to(value, from);
      }
      cases.push_back({op::Cast{}, {x}, {x.shape(), to}, {}});
    }
    const HostTensor c = random_tensor({6, 41}, DType::kBool, random);
    const HostTensor x = random_tensor({6, 41}, from, random);
    const HostTensor y = random_tensor({}, from, random);
    cases.push_back({op::Select{}, {c, x, y}, x.spec, {}});
    cases.push_back({op::Full{Scalar::from_integer(3)}, {}, {{1001}, from}, {}});
    cases.push_back(
        {op::Arange{Scalar::from_integer(-3), Scalar::from_integer(2)}, {}, {{60}, from}, {}});
    if (is_floating(from)) {
      const HostTensor gate = random_tensor({6, 41}, from, random);
      cases.push_back({op::SwiGlu{}, {x, gate}, x.spec, elementwise_tolerance(from)});
      cases.push_back({op::Full{Scalar::from_real(-0.3)}, {}, {{7}, from}, {}});
      // In double, rounded once.
      cases.push_back({op::Arange{Scalar::from_real(-1.7), Scalar::from_real(0.1)},
                       {},
                       {{5000}, from},
                       {0, 1e-15}});
    }
  }
  cases.push_back({op::Arange{Scalar::from_integer(std::int64_t{1} << 53), Scalar::from_integer(2)},
                   {},
                   {{2}, DType::kI64},
                   {}});
  check_together(cases);
}

TEST(GpuElementwiseTest, IntegerDivisionNeverTraps) {
  std::vector<Case> cases;
  const auto add = [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t lowest = std::numeric_limits<T>::lowest();
    const HostTensor x =
        HostTensor::of_integers({6}, {lowest, lowest, 7, -7, 7, -7}, dtype_of<T>());
    const HostTensor y = HostTensor::of_integers({6}, {-1, 0, 0, 2, -2, -2}, dtype_of<T>());
    for (const BinaryKind kind : {BinaryKind::kFloorDivide, BinaryKind::kRemainder}) {
      cases.push_back({op::Binary{kind}, {x, y}, x.spec, {}});
    }
  };
  add(std::int8_t{});
  add(std::int32_t{});
  add(std::int64_t{});
  check_together(cases);
}

TEST(GpuElementwiseTest, FloorDivisionIsExactNextToIntegers) {
  std::mt19937 random(3);
  HostTensor x({4000}, DType::kF32), y({4000}, DType::kF32);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    // Multiples and their neighbours.
    const auto divisor = std::uniform_real_distribution<float>(-3, 3)(random);
    const auto multiple = divisor * static_cast<float>(random() % 5000);
    y.r(i) = static_cast<double>(divisor);
    x.r(i) = static_cast<double>(i % 3 == 0   ? multiple
                                 : i % 3 == 1 ? std::nextafter(multiple, 1e9f)
                                              : std::nextafter(multiple, -1e9f));
  }
  check_together({{op::Binary{BinaryKind::kFloorDivide}, {x, y}, x.spec, {}}});
}

TEST(GpuElementwiseTest, UndefinedCombinationsAreErrors) {
  const HostTensor x({4}, DType::kF32);
  const HostTensor n({4}, DType::kI32);
  const HostTensor* floats[] = {&x, &x};
  const HostTensor* integers[] = {&n, &n};
  EXPECT_THROW(run_gpu_kernel(op::Binary{BinaryKind::kShiftLeft}, floats, std::span(&x.spec, 1)),
               DTypeError);
  EXPECT_THROW(run_gpu_kernel(op::Binary{BinaryKind::kDivide}, integers, std::span(&n.spec, 1)),
               DTypeError);
}

TEST(GpuElementwiseTest, BroadcastsAndStrides) {
  std::mt19937 random(10);
  const std::pair<Shape, Shape> shapes[] = {{{}, {}},
                                            {{0}, {1}},
                                            {{1}, {5000}},
                                            {{3, 0, 2}, {2}},
                                            {{300}, {7, 300}},
                                            {{7, 1}, {7, 300}},
                                            {{9, 1}, {1, 304}},
                                            {{2, 1, 5}, {3, 1}},
                                            {{40, 1}, {40, 3}},
                                            {{4, 3, 2, 8}, {3, 1, 8}},
                                            {{2, 3, 4, 5}, {}},
                                            {{70, 64}, {70, 64}},
                                            {{1, 1, 9}, {6, 1, 1}}};
  std::vector<Case> cases;
  for (const auto& [a, b] : shapes) {
    for (const DType dtype : {DType::kU8, DType::kBF16, DType::kI64}) {
      for (const Placement placement : {Placement::kContiguous, Placement::kScattered}) {
        const HostTensor x = random_tensor(a, dtype, random);
        const HostTensor y = random_tensor(b, dtype, random);
        const TensorSpec spec{broadcast_shapes("test", a, b), dtype};
        cases.push_back({op::Binary{BinaryKind::kSubtract},
                         {x, y},
                         spec,
                         {},
                         placement,
                         static_cast<std::uint32_t>(random())});
      }
    }
  }
  check_together(cases);
}

TEST(GpuElementwiseTest, AtAnyAddressAndOverAnOperand) {
  std::mt19937 random(12);
  for (const std::int64_t n : {1, 7, 1003}) {
    const HostTensor x = random_tensor({n}, DType::kBF16, random);
    const HostTensor y = random_tensor({n}, DType::kBF16, random);
    const HostTensor* inputs[] = {&x, &y};
    const Operation operation = op::Binary{BinaryKind::kSubtract};
    const HostTensor expected = reference(operation, inputs, x.spec);
    for (const std::size_t shift : {0u, 1u, 4u}) {
      for (const int in_place : {-1, 0, 1}) {
        EXPECT_TRUE(all_close(run_gpu_kernel_at(operation, inputs, x.spec, {shift, in_place}),
                              expected, {}))
            << n << " elements, shifted by " << shift;
      }
    }
    const HostTensor f = random_tensor({n}, DType::kF32, random);
    const HostTensor* one[] = {&f};
    const TensorSpec cast{{n}, DType::kI32};
    EXPECT_TRUE(all_close(run_gpu_kernel_at(op::Cast{}, one, cast, {0, 0}),
                          reference(op::Cast{}, one, cast), {}));
  }
}

TEST(GpuElementwiseTest, PacketsLieAtMultiplesOfTheirSize) {
  const TensorLayout x = TensorLayout::contiguous({{4, 64}, DType::kF32});
  const TensorLayout row = TensorLayout::contiguous({{64}, DType::kBF16});
  const TensorLayout scalar = TensorLayout::contiguous({{}, DType::kF32});
  const TensorLayout inputs[] = {x, row, scalar};
  const backend::gpu::ElementwiseLoop loop(inputs, x);
  EXPECT_EQ(loop.packet, 4);
  alignas(64) const std::byte memory[80] = {};
  const auto aligned = [&](std::array<int, 4> offsets) {
    std::vector<const void*> addresses;
    for (const int offset : offsets) addresses.push_back(memory + offset);
    return loop.is_aligned(addresses);
  };
  EXPECT_TRUE(aligned({64, 32, 16, 16}));
  EXPECT_TRUE(aligned({64, 32, 8, 4}));  // 4 of bf16 have 8 bytes.
  EXPECT_FALSE(aligned({64, 32, 4, 16}));
  EXPECT_FALSE(aligned({64, 40, 16, 16}));
  EXPECT_FALSE(aligned({68, 32, 16, 16}));
}

TEST(GpuElementwiseTest, LargeTransposedOperandsAreCopiedFirst) {
  std::mt19937 random(13);
  HostTensor x({136, 128}, DType::kBF16), y({136, 128}, DType::kBF16);
  for (double& value : x.real) value = static_cast<double>(random() % 200);
  for (double& value : y.real) value = static_cast<double>(random() % 200);
  const HostTensor* inputs[] = {&x, &y};
  for (std::uint32_t seed = 0; seed < 6; ++seed) {  // Some of these put the columns first.
    expect_gpu_matches(op::Binary{BinaryKind::kSubtract}, inputs, {}, Tolerance{},
                       Placement::kScattered, seed);
  }
}

// Products that only a sum reads are part of it, and rounded with it: in text that says so, as no
// compiler is asked to decide.
TEST(GpuElementwiseTest, SumsOfProductsAreRoundedOnce) {
  const DType dtype = DType::kF32;
  const auto multiply = op::Binary{BinaryKind::kMultiply};
  const auto make = [&](const Operation& product, const Operation& sum, bool product_first) {
    std::vector<std::int32_t> factors = {0, 1};
    if (std::holds_alternative<op::Unary>(product)) factors = {0};
    const auto arguments =
        product_first ? std::vector<std::int32_t>{3, 2} : std::vector<std::int32_t>{2, 3};
    return op::Elementwise{std::make_shared<const ElementwiseProgram>(ElementwiseProgram{
        {dtype, dtype, dtype}, {{product, dtype, factors}, {sum, dtype, arguments}}})};
  };
  // x * y is 1 - 2^-46, which f32 rounds to 1.
  HostTensor x({1}, dtype), y({1}, dtype), z({1}, dtype);
  x.r(0) = 1 + 0x1p-23;
  y.r(0) = 1 - 0x1p-23;
  z.r(0) = 1;
  const HostTensor* const inputs[] = {&x, &y, &z};
  const auto run = [&](const op::Elementwise& program) {
    return run_gpu_kernel(program, inputs, {&x.spec, 1})[0].r(0);
  };
  const op::Binary add{BinaryKind::kAdd}, subtract{BinaryKind::kSubtract};
  EXPECT_EQ(run(make(multiply, subtract, true)), -0x1p-46);
  EXPECT_EQ(run(make(multiply, subtract, false)), 0x1p-46);
  z.r(0) = -1;
  EXPECT_EQ(run(make(multiply, add, true)), -0x1p-46);
  EXPECT_EQ(run(make(multiply, add, false)), -0x1p-46);
  z.r(0) = -1 - 0x1p-22;
  EXPECT_EQ(run(make(op::Unary{UnaryKind::kSquare}, add, true)), 0x1p-46);
  // What is read twice is made once, and rounded.
  const op::Elementwise twice{std::make_shared<const ElementwiseProgram>(
      ElementwiseProgram{{dtype, dtype, dtype},
                         {{multiply, dtype, {0, 1}},
                          {subtract, dtype, {3, 2}},
                          {op::Binary{BinaryKind::kMaximum}, dtype, {4, 3}}}})};
  z.r(0) = 1;
  EXPECT_EQ(run(twice), 1);
}

// Positions of 64 bits, with operands that lie further apart than 32 bits reach.
TEST(GpuElementwiseTest, WidePositions) {
  const TensorLayout far{{4, 6}, {std::int64_t{1} << 40, 1}, DType::kF32};
  const TensorLayout near = TensorLayout::contiguous({{4, 6}, DType::kF32});
  const TensorLayout inputs[] = {far, near};
  const backend::gpu::ElementwiseLoop loop(inputs, near);
  EXPECT_TRUE(loop.wide);
  const auto source = backend::gpu::write_elementwise(op::Binary{BinaryKind::kAdd}, loop);
  EXPECT_NE(source.text.find("int64_t i_stride0_0"), std::string::npos);
  gpu_sim::sim_backend().gpu().compile(source.name, source.text);
}

TEST(GpuElementwiseProgramTest, GivesWhatItsOperationsGiveOneByOne) {
  std::vector<Case> cases;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    std::vector<HostTensor> hosts;
    std::vector<DType> dtypes;
    const Shape shapes[] = {{5, 60}, {60}, {5, 1}, {}};
    for (const Shape& shape : shapes) {
      dtypes.push_back(kAllDTypes[random() % std::size(kAllDTypes)]);
      hosts.push_back(random_tensor(shape, dtypes.back(), random));
    }
    const auto program = std::make_shared<const ElementwiseProgram>(
        random_program(dtypes, 1 + static_cast<int>(random() % 14), random));
    cases.push_back(
        {op::Elementwise{program}, hosts, {{5, 60}, program->instructions.back().dtype}, {}});
  }
  check_together(cases);
}

}  // namespace
}  // namespace metal_candle::testing
