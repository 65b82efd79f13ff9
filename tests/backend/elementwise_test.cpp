// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise kernels against the double-precision interpreter: every kind, every dtype, every way
// an operand may lie, and fused programs against their operations one by one.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "metal_candle/backend/elementwise.h"
#include "metal_candle/core/error.h"
#include "tests/backend/elementwise_cases.h"
#include "tests/backend/kernel_runner.h"

namespace metal_candle::testing {
namespace {

using backend::cpu::make_elementwise;

TEST(ElementwiseTest, EveryUnaryKindOnEveryDType) {
  std::mt19937 random(7);
  for (int k = 0; k < kNumUnaryKinds; ++k) {
    const auto kind = static_cast<UnaryKind>(k);
    for (const DType dtype : kAllDTypes) {
      if (is_float_only(kind) && !is_floating(dtype)) continue;
      if (kind == UnaryKind::kBitwiseNot && is_floating(dtype)) continue;
      // Arguments in and around the domain of the inverse functions.
      const HostTensor x = random_tensor({3, 331}, dtype, random, k % 2 == 0 ? 0.7 : 4.0);
      const TensorSpec spec{x.shape(), is_predicate(kind) ? DType::kBool : dtype};
      const HostTensor* inputs[] = {&x};
      const Operation operation = op::Unary{kind};
      const HostTensor actual = run_kernel(make_elementwise, operation, inputs, spec);
      EXPECT_TRUE(
          all_close(actual, reference(operation, inputs, spec), elementwise_tolerance(spec.dtype)))
          << name(kind) << " " << name(dtype);
    }
  }
}

TEST(ElementwiseTest, EveryBinaryKindOnEveryDType) {
  std::mt19937 random(8);
  for (int k = 0; k < kNumBinaryKinds; ++k) {
    const auto kind = static_cast<BinaryKind>(k);
    for (const DType dtype : kAllDTypes) {
      if (is_float_only(kind) && !is_floating(dtype)) continue;
      if (is_integer_only(kind) && is_floating(dtype)) continue;
      const HostTensor x = random_tensor({5, 213}, dtype, random);
      const HostTensor y = random_tensor({5, 213}, dtype, random);
      const TensorSpec spec{x.shape(), is_predicate(kind) ? DType::kBool : dtype};
      const HostTensor* inputs[] = {&x, &y};
      const Operation operation = op::Binary{kind};
      const HostTensor actual = run_kernel(make_elementwise, operation, inputs, spec);
      EXPECT_TRUE(
          all_close(actual, reference(operation, inputs, spec), elementwise_tolerance(spec.dtype)))
          << name(kind) << " " << name(dtype);
    }
  }
}

TEST(ElementwiseTest, CastsBetweenAllDTypes) {
  std::mt19937 random(9);
  for (const DType from : kAllDTypes) {
    for (const DType to : kAllDTypes) {
      HostTensor x = random_tensor({700}, from, random, 200.0);
      if (from == DType::kF32) {
        const double edges[] = {2147483648.0, -2147483648.0, 4294967296.0, 1e30,   -1e30,  127.9,
                                -128.9,       255.9,         -0.9,         9.3e18, -9.3e18};
        std::copy(std::begin(edges), std::end(edges), x.real.begin());
        for (double& value : x.real) value = round_to(value, from);
      }
      const HostTensor* inputs[] = {&x};
      const TensorSpec spec{x.shape(), to};
      EXPECT_TRUE(all_close(run_kernel(make_elementwise, op::Cast{}, inputs, spec),
                            reference(op::Cast{}, inputs, spec), {0, 0}))
          << name(from) << " to " << name(to);
    }
  }
}

TEST(ElementwiseTest, IntegerDivisionNeverTraps) {
  const auto check = [](auto zero) {
    using T = decltype(zero);
    const std::int64_t lowest = std::numeric_limits<T>::lowest();
    const HostTensor x =
        HostTensor::of_integers({6}, {lowest, lowest, 7, -7, 7, -7}, dtype_of<T>());
    const HostTensor y = HostTensor::of_integers({6}, {-1, 0, 0, 2, -2, -2}, dtype_of<T>());
    const HostTensor* inputs[] = {&x, &y};
    const TensorSpec spec = x.spec;
    const auto quotient =
        run_kernel(make_elementwise, op::Binary{BinaryKind::kFloorDivide}, inputs, spec);
    const auto remainder =
        run_kernel(make_elementwise, op::Binary{BinaryKind::kRemainder}, inputs, spec);
    EXPECT_EQ(quotient.integer, (std::vector<std::int64_t>{lowest, 0, 0, -4, -4, 3}));
    EXPECT_EQ(remainder.integer, (std::vector<std::int64_t>{0, 0, 0, 1, -1, -1}));
  };
  check(std::int8_t{});
  check(std::int32_t{});
  check(std::int64_t{});
}

TEST(ElementwiseTest, UndefinedCombinationsAreErrors) {
  const HostTensor x({4}, DType::kF32);
  const HostTensor n({4}, DType::kI32);
  const HostTensor* floats[] = {&x, &x};
  const HostTensor* integers[] = {&n, &n};
  EXPECT_THROW(
      run_kernel(make_elementwise, op::Binary{BinaryKind::kShiftLeft}, floats, {{4}, DType::kF32}),
      DTypeError);
  EXPECT_THROW(
      run_kernel(make_elementwise, op::Binary{BinaryKind::kDivide}, integers, {{4}, DType::kI32}),
      DTypeError);
}

TEST(ElementwiseTest, BroadcastsAndStrides) {
  std::mt19937 random(10);
  const std::pair<Shape, Shape> cases[] = {{{}, {}},
                                           {{0}, {1}},
                                           {{1}, {5000}},
                                           {{3, 0, 2}, {2}},
                                           {{300}, {7, 300}},
                                           {{7, 1}, {7, 300}},
                                           {{5000}, {3, 5000}},
                                           {{9, 1}, {1, 3000}},
                                           {{2, 1, 5}, {3, 1}},
                                           {{40, 1}, {40, 3}},
                                           {{4, 3, 2, 5}, {3, 1, 5}},
                                           {{2, 3, 4, 5}, {}},
                                           {{200, 201}, {200, 201}},
                                           {{1, 1, 9}, {6, 1, 1}}};
  for (const auto& [a, b] : cases) {
    for (const DType dtype : {DType::kU8, DType::kBF16, DType::kF32, DType::kI64}) {
      for (const Placement placement : {Placement::kContiguous, Placement::kScattered}) {
        const HostTensor x = random_tensor(a, dtype, random);
        const HostTensor y = random_tensor(b, dtype, random);
        const TensorSpec spec{broadcast_shapes("test", a, b), dtype};
        const HostTensor* inputs[] = {&x, &y};
        const Operation operation = op::Binary{BinaryKind::kSubtract};
        const auto actual = run_kernel(make_elementwise, operation, inputs, spec, placement,
                                       static_cast<std::uint32_t>(random()));
        EXPECT_TRUE(all_close(actual, reference(operation, inputs, spec), {0, 0}))
            << to_string(a) << " " << to_string(b) << " " << name(dtype);
      }
    }
  }
}

TEST(ElementwiseTest, SelectBroadcastsItsCondition) {
  std::mt19937 random(11);
  for (const DType dtype : kAllDTypes) {
    const HostTensor c = random_tensor({6, 1}, DType::kBool, random);
    const HostTensor x = random_tensor({6, 40}, dtype, random);
    const HostTensor y = random_tensor({}, dtype, random);
    const HostTensor* inputs[] = {&c, &x, &y};
    const auto actual = run_kernel(make_elementwise, op::Select{}, inputs, x.spec);
    EXPECT_TRUE(all_close(actual, reference(op::Select{}, inputs, x.spec), {0, 0})) << name(dtype);
  }
}

TEST(ElementwiseTest, WritesOverAnOperand) {
  std::mt19937 random(12);
  for (const std::int64_t n : {1, 7, 1000, 100000}) {
    for (const int in_place : {0, 1}) {
      const HostTensor x = random_tensor({n}, DType::kF32, random);
      const HostTensor y = random_tensor({n}, DType::kF32, random);
      std::vector<PlacedTensor> placed = {place(x, Placement::kContiguous, random),
                                          place(y, Placement::kContiguous, random)};
      const HostTensor* inputs[] = {&x, &y};
      const Operation operation = op::Binary{BinaryKind::kMultiply};
      EXPECT_TRUE(all_close(run_kernel(make_elementwise, operation, placed, x.spec, in_place),
                            reference(operation, inputs, x.spec), {0, 0}));
      const TensorSpec cast{{n}, DType::kI32};
      placed[0] = place(x, Placement::kContiguous, random);
      const HostTensor* only[] = {&x};
      EXPECT_TRUE(
          all_close(run_kernel(make_elementwise, op::Cast{}, std::span(placed).first(1), cast, 0),
                    reference(op::Cast{}, only, cast), {0, 0}));
    }
  }
}

TEST(ElementwiseTest, ResultsTooLargeForTheCaches) {
  // Written with streaming stores, from an output that is not aligned to a vector.
  constexpr std::int64_t kRows = 1100;
  constexpr std::int64_t kColumns = 4099;
  HostTensor x({kRows, kColumns}, DType::kF32);
  HostTensor y({kColumns}, DType::kF32);
  for (std::int64_t i = 0; i < x.size(); ++i) x.r(i) = static_cast<double>(i % 1000);
  for (std::int64_t i = 0; i < y.size(); ++i) y.r(i) = static_cast<double>(i);
  const HostTensor* inputs[] = {&x, &y};
  const auto actual = run_kernel(make_elementwise, op::Binary{BinaryKind::kAdd}, inputs, x.spec);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(actual.r(i), static_cast<double>(i % 1000 + i % kColumns)) << i;
  }
}

TEST(ElementwiseTest, SwiGlu) {
  std::mt19937 random(13);
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    const HostTensor x = random_tensor({4, 500}, dtype, random);
    const HostTensor y = random_tensor({4, 500}, dtype, random);
    const HostTensor* inputs[] = {&x, &y};
    EXPECT_TRUE(all_close(run_kernel(make_elementwise, op::SwiGlu{}, inputs, x.spec),
                          reference(op::SwiGlu{}, inputs, x.spec), elementwise_tolerance(dtype)));
  }
}

TEST(ElementwiseTest, FullAndArange) {
  for (const DType dtype : kAllDTypes) {
    const TensorSpec spec{{1001}, dtype};
    const Operation full = op::Full{Scalar::from_integer(3)};
    EXPECT_TRUE(
        all_close(run_kernel(make_elementwise, full, std::span<const HostTensor* const>(), spec),
                  reference(full, {}, spec), {0, 0}));
    if (dtype == DType::kBool) continue;
    const Operation range =
        is_floating(dtype)
            ? Operation(op::Arange{Scalar::from_real(-1), Scalar::from_real(0.1)})
            : Operation(op::Arange{Scalar::from_integer(5), Scalar::from_integer(-3)});
    EXPECT_TRUE(
        all_close(run_kernel(make_elementwise, range, std::span<const HostTensor* const>(), spec),
                  reference(range, {}, spec), {0, 0}))
        << name(dtype);
  }
  const Operation exact =
      op::Arange{Scalar::from_integer((std::int64_t{1} << 53) + 1), Scalar::from_integer(1)};
  const auto big =
      run_kernel(make_elementwise, exact, std::span<const HostTensor* const>(), {{2}, DType::kI64});
  EXPECT_EQ(big.integer[1], (std::int64_t{1} << 53) + 2);
}

// ---- Programs -----------------------------------------------------------------------------------

bool is_half(DType dtype) { return dtype == DType::kF16 || dtype == DType::kBF16; }

HostTensor converted(const HostTensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const HostTensor* const inputs[] = {&x};
  return run_kernel(make_elementwise, op::Cast{}, inputs, {x.shape(), dtype});
}

// Runs each instruction by a kernel of its own, each result in the full shape. What is f16 or bf16
// in the middle is f32, except for constants and conversions.
HostTensor run_one_by_one(const ElementwiseProgram& program, std::vector<HostTensor> registers,
                          const Shape& shape) {
  std::vector<DType> dtypes;  // As the program has them.
  for (HostTensor& input : registers) {
    dtypes.push_back(input.dtype());
    if (is_half(input.dtype())) input = converted(input, DType::kF32);
  }
  for (const ElementwiseInstruction& instruction : program.instructions) {
    const Operation& operation = instruction.operation;
    const DType dtype = instruction.dtype;
    std::vector<const HostTensor*> arguments;
    for (const std::int32_t a : instruction.arguments) {
      arguments.push_back(&registers[static_cast<std::size_t>(a)]);
    }
    const bool same = std::holds_alternative<op::Cast>(operation) &&
                      dtypes[static_cast<std::size_t>(instruction.arguments[0])] == dtype;
    if (same) {
      const DType held = arguments[0]->dtype();
      registers.push_back(run_kernel(make_elementwise, operation, arguments, {shape, held}));
    } else if (!is_half(dtype)) {
      registers.push_back(run_kernel(make_elementwise, operation, arguments, {shape, dtype}));
    } else if (backend::rounds_inside(operation)) {
      registers.push_back(converted(
          run_kernel(make_elementwise, operation, arguments, {shape, dtype}), DType::kF32));
    } else {
      registers.push_back(run_kernel(make_elementwise, operation, arguments, {shape, DType::kF32}));
    }
    dtypes.push_back(dtype);
  }
  return converted(registers.back(), dtypes.back());
}

TEST(ElementwiseProgramTest, GivesWhatItsOperationsGiveOneByOne) {
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::vector<HostTensor> hosts;
    std::vector<DType> dtypes;
    const Shape shapes[] = {{5, 60}, {60}, {5, 1}, {}};
    for (const Shape& shape : shapes) {
      dtypes.push_back(kAllDTypes[random() % std::size(kAllDTypes)]);
      hosts.push_back(random_tensor(shape, dtypes.back(), random));
    }
    const auto program = std::make_shared<const ElementwiseProgram>(
        random_program(dtypes, 1 + static_cast<int>(random() % 12), random));
    std::vector<const HostTensor*> inputs;
    for (const HostTensor& host : hosts) inputs.push_back(&host);
    const TensorSpec spec{{5, 60}, program->instructions.back().dtype};
    const Operation fused = op::Elementwise{program};
    const auto placement = seed % 2 == 0 ? Placement::kContiguous : Placement::kScattered;
    EXPECT_TRUE(all_close(run_kernel(make_elementwise, fused, inputs, spec, placement, seed),
                          run_one_by_one(*program, hosts, spec.shape), {0, 0}))
        << "seed " << seed << ": " << to_string(fused);
  }
}

// Every operation that can be part of a chain, with the value on either side, for lengths of whole
// blocks, of whole vectors and of less.
TEST(ElementwiseProgramTest, Chains) {
  constexpr UnaryKind kUnary[] = {UnaryKind::kAbs,  UnaryKind::kNegative, UnaryKind::kSquare,
                                  UnaryKind::kSqrt, UnaryKind::kRsqrt,    UnaryKind::kRelu,
                                  UnaryKind::kExp,  UnaryKind::kLog,      UnaryKind::kReciprocal,
                                  UnaryKind::kTanh, UnaryKind::kSilu,     UnaryKind::kSigmoid,
                                  UnaryKind::kGelu, UnaryKind::kGeluTanh};
  constexpr BinaryKind kBinary[] = {BinaryKind::kAdd,      BinaryKind::kSubtract,
                                    BinaryKind::kMultiply, BinaryKind::kDivide,
                                    BinaryKind::kMaximum,  BinaryKind::kMinimum};
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return static_cast<std::int32_t>(random() % n); };
    constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
    const DType dtype = kDTypes[seed % 3];
    constexpr std::int64_t kLengths[] = {3, 16, 128, 300, 517};
    const Shape shape{kLengths[below(std::size(kLengths))]};
    std::vector<HostTensor> hosts;
    for (const Shape& operand : {shape, shape, Shape{}}) {
      hosts.push_back(random_tensor(operand, dtype, random));
    }
    auto program = std::make_shared<ElementwiseProgram>();
    program->inputs = {dtype, dtype, dtype};
    program->instructions.push_back({op::Full{Scalar::from_real(0.25)}, dtype, {}});
    std::int32_t value = below(2);
    const int length = 1 + below(46);  // Some are longer than a chain can be.
    for (int i = 0; i < length; ++i) {
      const auto next = static_cast<std::int32_t>(3 + program->instructions.size());
      if (random() % 3 == 0) {
        const UnaryKind kind = kUnary[below(std::size(kUnary))];
        program->instructions.push_back({op::Unary{kind}, dtype, {value}});
      } else {
        // Now and then with an earlier result, which ends a chain, or with itself.
        const std::int32_t other = below(random() % 4 == 0 ? static_cast<std::size_t>(next) : 4);
        const BinaryKind kind = kBinary[below(std::size(kBinary))];
        program->instructions.push_back(
            {op::Binary{kind}, dtype,
             random() % 2 == 0 ? std::vector{value, other} : std::vector{other, value}});
      }
      value = next;
    }
    std::vector<const HostTensor*> inputs;
    for (const HostTensor& host : hosts) inputs.push_back(&host);
    const Operation fused = op::Elementwise{program};
    EXPECT_TRUE(all_close(run_kernel(make_elementwise, fused, inputs, {shape, dtype}),
                          run_one_by_one(*program, hosts, shape), {0, 0}))
        << "seed " << seed << ": " << to_string(fused);
  }
}

TEST(ElementwiseProgramTest, GeluInPrimitives) {
  const auto binary = [](BinaryKind kind, std::int32_t a, std::int32_t b) {
    return ElementwiseInstruction{op::Binary{kind}, DType::kF32, {a, b}};
  };
  const auto full = [](double value) {
    return ElementwiseInstruction{op::Full{Scalar::from_real(value)}, DType::kF32, {}};
  };
  auto program = std::make_shared<ElementwiseProgram>();
  program->inputs = {DType::kF32};
  program->instructions = {full(M_SQRT1_2),
                           binary(BinaryKind::kMultiply, 0, 1),
                           {op::Unary{UnaryKind::kErf}, DType::kF32, {2}},
                           full(1.0),
                           binary(BinaryKind::kAdd, 3, 4),
                           binary(BinaryKind::kMultiply, 0, 5),
                           full(0.5),
                           binary(BinaryKind::kMultiply, 6, 7)};
  std::mt19937 random(14);
  HostTensor x({33, 1000}, DType::kF32);
  for (double& value : x.real)
    value = round_to(std::normal_distribution<>(0, 3)(random), x.dtype());
  const HostTensor* inputs[] = {&x};
  EXPECT_TRUE(all_close(run_kernel(make_elementwise, op::Elementwise{program}, inputs, x.spec),
                        reference(op::Unary{UnaryKind::kGelu}, inputs, x.spec), {1e-6, 1e-6}));
}

}  // namespace
}  // namespace metal_candle::testing
