// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions of elementwise programs against the double-precision interpreter, and against the
// kernels of the two operations one after the other.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/core/error.h"
#include "tests/backend/elementwise_cases.h"
#include "tests/backend/kernel_runner.h"

namespace metal_candle::testing {
namespace {

using backend::cpu::make_elementwise;
using backend::cpu::make_elementwise_reduce;
using backend::cpu::make_reduce;

constexpr ReduceKind kKinds[] = {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kMax,
                                 ReduceKind::kMin, ReduceKind::kAny,  ReduceKind::kAll};
constexpr DType kFloating[] = {DType::kF32, DType::kF16, DType::kBF16};

bool is_logical(ReduceKind kind) { return kind == ReduceKind::kAny || kind == ReduceKind::kAll; }

std::vector<Axes> axes_of_rank(int rank) {
  std::vector<Axes> result;
  for (int mask = 0; mask < 1 << rank; ++mask) {
    Axes axes;
    for (int i = 0; i < rank; ++i) {
      if ((mask >> i & 1) != 0) axes.push_back(i);
    }
    result.push_back(axes);
  }
  return result;
}

/// A program, its operands and how they are reduced.
struct Case {
  op::ElementwiseReduce operation;
  std::vector<HostTensor> operands;

  Case(const op::ElementwiseReduce& fused, std::vector<HostTensor> inputs)
      : operation(fused), operands(std::move(inputs)) {}

  [[nodiscard]] TensorSpec space() const {
    TensorSpec spec{{}, operation.elementwise.program->instructions.back().dtype};
    for (const HostTensor& operand : operands) {
      spec.shape = broadcast_shapes("test", spec.shape, operand.shape());
    }
    return spec;
  }
  [[nodiscard]] TensorSpec result() const {
    const TensorSpec from = space();
    TensorSpec spec{{}, is_logical(operation.reduce.kind) ? DType::kBool : from.dtype};
    for (int i = 0; i < from.shape.rank(); ++i) {
      const Axes& axes = operation.reduce.axes;
      const bool is_reduced = std::find(axes.begin(), axes.end(), i) != axes.end();
      if (!is_reduced) spec.shape.push_back(from.shape[i]);
      if (is_reduced && operation.reduce.keepdims) spec.shape.push_back(1);
    }
    return spec;
  }
  [[nodiscard]] std::vector<const HostTensor*> addresses() const {
    std::vector<const HostTensor*> result;
    for (const HostTensor& operand : operands) result.push_back(&operand);
    return result;
  }
  [[nodiscard]] std::vector<PlacedTensor> placed(Placement placement, std::uint32_t seed) const {
    std::mt19937 random(seed);
    std::vector<PlacedTensor> result;
    for (const HostTensor& operand : operands) {
      result.push_back(place(operand, placement, random));
    }
    return result;
  }

  [[nodiscard]] HostTensor run(std::vector<PlacedTensor> inputs) const {
    return run_kernel(make_elementwise_reduce, operation, inputs, result());
  }
  [[nodiscard]] HostTensor run(Placement placement = Placement::kContiguous,
                               std::uint32_t seed = 1) const {
    return run(placed(placement, seed));
  }
  /// By the kernels of Elementwise and Reduce.
  [[nodiscard]] HostTensor unfused() const {
    const HostTensor x = run_kernel(make_elementwise, operation.elementwise, addresses(), space());
    const HostTensor* const inputs[] = {&x};
    return run_kernel(make_reduce, operation.reduce, inputs, result());
  }
  /// How far sums may be apart that are added up in another order.
  [[nodiscard]] Tolerance tolerance() const {
    const TensorSpec from = space();
    const bool adds =
        operation.reduce.kind == ReduceKind::kSum || operation.reduce.kind == ReduceKind::kProd;
    if (!adds || !is_floating(from.dtype)) return {0, 0};
    const double terms = static_cast<double>(num_elements(from.shape)) /
                         std::max<double>(1, static_cast<double>(num_elements(result().shape)));
    const double rounding = from.dtype == DType::kBF16  ? 0x1p-7
                            : from.dtype == DType::kF16 ? 0x1p-10
                                                        : 0x1p-22;
    return {1e-6 + rounding, 2e-6 * (1 + std::sqrt(terms))};
  }
  [[nodiscard]] std::string text() const {
    std::string result = to_string(Operation(operation));
    for (const HostTensor& operand : operands) result += ' ' + to_string(operand.shape());
    return result;
  }
};

void check_close(const Case& c, const HostTensor& actual, const HostTensor& expected) {
  EXPECT_TRUE(all_close(actual, expected, c.tolerance())) << c.text();
}

void check(const Case& c) {
  const HostTensor actual = c.run();
  check_close(c, actual, c.unfused());
  // The interpreter rounds f16 and bf16 after each instruction.
  const bool is_exact =
      c.operation.elementwise.program->instructions.size() == 1 || size_of(c.space().dtype) != 2;
  if (!is_exact) return;
  const auto inputs = c.addresses();
  check_close(c, actual, reference(c.operation, inputs, c.result()));
}

HostTensor ordinary(const Shape& shape, DType dtype, std::uint32_t seed, double scale = 1) {
  std::mt19937 random(seed);
  HostTensor host(shape, dtype);
  for (double& value : host.real) {
    value = round_to(std::normal_distribution<>(0, scale)(random), dtype);
  }
  for (std::int64_t& value : host.integer) {
    value = wrap_to(static_cast<std::int64_t>(random() % 21) - 10, dtype);
  }
  return host;
}

op::Elementwise program_of(std::vector<DType> inputs,
                           std::vector<ElementwiseInstruction> instructions) {
  return {std::make_shared<const ElementwiseProgram>(
      ElementwiseProgram{std::move(inputs), std::move(instructions)})};
}
/// x * x.
op::Elementwise squares(DType dtype) {
  return program_of({dtype}, {{op::Unary{UnaryKind::kSquare}, dtype, {0}}});
}
/// (x - y) * z.
op::Elementwise scaled_difference(DType dtype) {
  return program_of({dtype, dtype, dtype}, {{op::Binary{BinaryKind::kSubtract}, dtype, {0, 1}},
                                            {op::Binary{BinaryKind::kMultiply}, dtype, {3, 2}}});
}

TEST(ElementwiseReduceKernel, EveryKindDTypeAndAxis) {
  for (const DType dtype : kAllDTypes) {
    for (const ReduceKind kind : kKinds) {
      if (dtype == DType::kBool && !is_logical(kind)) continue;
      const BinaryKind join = dtype == DType::kBool ? BinaryKind::kLogicalXor : BinaryKind::kAdd;
      const op::Elementwise sums = program_of({dtype, dtype}, {{op::Binary{join}, dtype, {0, 1}}});
      for (const Axes& axes : axes_of_rank(3)) {
        // Products of few, near 1.
        const bool is_product = kind == ReduceKind::kProd && is_floating(dtype);
        HostTensor x = ordinary(is_product ? Shape{2, 3, 2} : Shape{5, 7, 33}, dtype, 1);
        HostTensor y = ordinary({is_product ? 2 : 33}, dtype, 2);
        for (double& value : y.real) value = is_product ? 1 : value;
        for (double& value : x.real) value = is_product ? round_to(value / 8, dtype) : value;
        for (const bool keepdims : {false, true}) {
          check({{sums, {kind, axes, keepdims}}, {x, y}});
        }
      }
    }
  }
}

TEST(ElementwiseReduceKernel, LongAndShortRowsAndColumns) {
  for (const DType dtype : kFloating) {
    for (const std::int64_t n : {1, 3, 7, 64, 191, 192, 1000, 1025, 4097, 40000}) {
      for (const Shape& shape :
           {Shape{3, n}, Shape{n, 3}, Shape{n, 40}, Shape{4, n, 5}, Shape{n}}) {
        if (num_elements(shape) > 100000 && dtype != DType::kF32) continue;
        for (const Axes& axes : axes_of_rank(shape.rank())) {
          check({{squares(dtype), {ReduceKind::kSum, axes, false}}, {ordinary(shape, dtype, 2)}});
        }
      }
    }
  }
}

TEST(ElementwiseReduceKernel, ProgramsOfOtherDTypes) {
  // sum(f32(x)) and any(x < y).
  const op::Elementwise widened = program_of({DType::kBF16}, {{op::Cast{}, DType::kF32, {0}}});
  const op::Elementwise less = program_of({DType::kF32, DType::kF32},
                                          {{op::Binary{BinaryKind::kLess}, DType::kBool, {0, 1}}});
  for (const Axes& axes : axes_of_rank(2)) {
    check({{widened, {ReduceKind::kSum, axes, false}}, {ordinary({70, 600}, DType::kBF16, 1)}});
    check({{less, {ReduceKind::kAny, axes, true}},
           {ordinary({70, 300}, DType::kF32, 1), ordinary({70, 1}, DType::kF32, 2, 3)}});
  }
}

TEST(ElementwiseReduceKernel, OperandsBroadcast) {
  const Shape shapes[][3] = {
      {{6, 5, 240}, {240}, {6, 1, 1}},
      {{6, 5, 24}, {5, 1}, {}},
      {{40, 1, 30}, {300, 1}, {30}},
      {{7, 1}, {1, 900}, {}},
      {{1, 9}, {}, {800, 1}},
      {{}, {}, {1}},
      {{2, 3, 4, 300}, {3, 1, 1}, {4, 1}},
  };
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI64}) {
    for (const auto& shape : shapes) {
      Case c{{scaled_difference(dtype), {ReduceKind::kSum, {}, false}},
             {ordinary(shape[0], dtype, 1), ordinary(shape[1], dtype, 2),
              ordinary(shape[2], dtype, 3)}};
      for (const Axes& axes : axes_of_rank(c.space().shape.rank())) {
        c.operation.reduce.axes = axes;
        check(c);
      }
    }
  }
}

TEST(ElementwiseReduceKernel, OperandsLieInAnyWay) {
  const Shape shapes[] = {{6, 5, 24}, {20, 300}, {30, 40, 50}, {5, 3000}, {300, 17}};
  for (const Shape& shape : shapes) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI32, DType::kU8}) {
      Case c{{scaled_difference(dtype), {ReduceKind::kSum, {}, false}},
             {ordinary(shape, dtype, 1), ordinary(shape, dtype, 2),
              ordinary({shape.back()}, dtype, 3)}};
      for (const Axes& axes : axes_of_rank(shape.rank())) {
        for (const auto kind : {ReduceKind::kSum, ReduceKind::kMax}) {
          c.operation.reduce = {kind, axes, false};
          const HostTensor expected = c.unfused();
          for (std::uint32_t seed = 0; seed < 4; ++seed) {
            check_close(c, c.run(Placement::kScattered, seed), expected);
            check_close(c, c.run(Placement::kScatteredRows, seed), expected);
          }
          // Each of the large ones transposed, and both.
          for (const unsigned which : {1u, 2u, 3u}) {
            std::mt19937 random(1);
            std::vector<PlacedTensor> inputs = c.placed(Placement::kContiguous, 1);
            for (std::size_t i = 0; i < 2; ++i) {
              if ((which >> i & 1) != 0) {
                inputs[i] = place(c.operands[i], Placement::kColumns, random);
              }
            }
            check_close(c, c.run(std::move(inputs)), expected);
          }
        }
      }
    }
  }
}

TEST(ElementwiseReduceKernel, RandomPrograms) {
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::vector<HostTensor> operands;
    std::vector<DType> dtypes;
    const Shape shapes[] = {{5, 60}, {60}, {5, 1}, {}};
    for (const Shape& shape : shapes) {
      dtypes.push_back(kAllDTypes[random() % std::size(kAllDTypes)]);
      operands.push_back(random_tensor(shape, dtypes.back(), random));
    }
    const op::Elementwise program{std::make_shared<const ElementwiseProgram>(
        random_program(dtypes, 1 + static_cast<int>(random() % 12), random))};
    const bool is_bool = program.program->instructions.back().dtype == DType::kBool;
    // Not sums, which infinite terms make worth little to compare.
    const ReduceKind kind = is_bool ? kKinds[4 + random() % 2] : kKinds[2 + random() % 4];
    const auto placement = seed % 2 == 0 ? Placement::kContiguous : Placement::kScattered;
    for (const Axes& axes : axes_of_rank(2)) {
      const Case c{{program, {kind, axes, false}}, operands};
      check_close(c, c.run(placement, seed), c.unfused());
    }
  }
}

TEST(ElementwiseReduceKernel, NanAndInfinity) {
  for (const Axes& axes : {Axes{0}, Axes{1}, Axes{0, 1}}) {
    for (const auto kind : {ReduceKind::kMax, ReduceKind::kMin, ReduceKind::kSum}) {
      HostTensor x({40, 300}, DType::kF32);
      for (std::int64_t i = 0; i < x.size(); i += 7) x.r(i) = INFINITY;
      for (std::int64_t i = 0; i < x.size(); i += 301) x.r(i) = NAN;
      check({{squares(DType::kF32), {kind, axes, false}}, {x}});
    }
  }
}

TEST(ElementwiseReduceKernel, NothingToReduce) {
  for (const Shape& shape : {Shape{3, 0}, Shape{0, 3}, Shape{0, 0}, Shape{2, 0, 400}, Shape{0}}) {
    for (const Axes& axes : axes_of_rank(shape.rank())) {
      for (const auto kind : {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kAll}) {
        check({{squares(DType::kF32), {kind, axes, false}}, {HostTensor(shape, DType::kF32)}});
        check({{scaled_difference(DType::kI32), {kind, axes, true}},
               {HostTensor(shape, DType::kI32), HostTensor({}, DType::kI32),
                HostTensor({1}, DType::kI32)}});
      }
    }
  }
}

TEST(ElementwiseReduceKernel, HalfPrecisionIsRoundedBeforeItIsReduced) {
  // 1 + 2^-8 is not a bf16, but 1 is; the sum of 1000 of them would show it.
  HostTensor x({1000}, DType::kBF16);
  for (double& value : x.real) value = 1;
  const op::Elementwise program =
      program_of({DType::kBF16}, {{op::Full{Scalar::from_real(0x1p-8)}, DType::kBF16, {}},
                                  {op::Binary{BinaryKind::kAdd}, DType::kBF16, {0, 1}}});
  const Case c{{program, {ReduceKind::kSum, {0}, false}}, {x}};
  EXPECT_EQ(c.run().r(0), c.unfused().r(0));
  EXPECT_EQ(c.run().r(0), 1000);
}

// A naive running f32 sum is off by far more.
TEST(ElementwiseReduceKernel, LongSumsAreAccurate) {
  for (const Shape& shape : {Shape{3000000}, Shape{1500000, 2}, Shape{100000, 30}}) {
    HostTensor x(shape, DType::kF32);
    for (double& value : x.real) value = round_to(0.1, DType::kF32);
    const Case c{{program_of({DType::kF32}, {{op::Unary{UnaryKind::kAbs}, DType::kF32, {0}}}),
                  {ReduceKind::kSum, {0}, false}},
                 {x}};
    const double expected = x.r(0) * static_cast<double>(shape[0]);
    const HostTensor sums = c.run();
    for (const double sum : sums.real) {
      EXPECT_NEAR(sum, expected, 2e-6 * expected) << to_string(shape);
    }
  }
}

TEST(ElementwiseReduceKernel, ThreadsDoNotChangeTheResult) {
  const int before = backend::cpu::num_threads();
  for (const Shape& shape : {Shape{700, 1500}, Shape{20000, 30}, Shape{30, 100, 250}}) {
    for (const Axes& axes : axes_of_rank(shape.rank())) {
      const Case c{{scaled_difference(DType::kF32), {ReduceKind::kSum, axes, false}},
                   {ordinary(shape, DType::kF32, 1), ordinary({shape.back()}, DType::kF32, 2),
                    ordinary({}, DType::kF32, 3)}};
      std::vector<double> first;
      for (const int threads : {1, 2, 3}) {
        backend::cpu::set_num_threads(threads);
        const HostTensor result = c.run();
        if (threads == 1) first = result.real;
        EXPECT_EQ(result.real, first) << c.text();
      }
    }
  }
  backend::cpu::set_num_threads(before);
}

TEST(ElementwiseReduceKernel, RefusesAnotherDtype) {
  const HostTensor x({3}, DType::kU8);
  const HostTensor* const inputs[] = {&x};
  const Operation operation =
      op::ElementwiseReduce{squares(DType::kU8), {ReduceKind::kSum, {0}, false}};
  EXPECT_THROW(run_kernel(make_elementwise_reduce, operation, inputs, {{}, DType::kI32}),
               DTypeError);
}

}  // namespace
}  // namespace metal_candle::testing
