// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Generated kernels that reduce what a program computes, on the GPU in software: along rows and
// down columns, of parts of warps, of groups and of many groups, with packets and without, of
// operands that lie in any way.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <vector>

#include "metal_candle/backend/gpu/reduce_source.h"
#include "tests/backend/elementwise_cases.h"
#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

constexpr ReduceKind kKinds[] = {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kMax,
                                 ReduceKind::kMin, ReduceKind::kAny,  ReduceKind::kAll};

using Instructions = std::vector<ElementwiseInstruction>;

op::Elementwise program(std::vector<DType> inputs, Instructions instructions) {
  return {std::make_shared<const ElementwiseProgram>(
      ElementwiseProgram{std::move(inputs), std::move(instructions)})};
}

// (x - y)^2, of which each operand has a say.
op::Elementwise squared_difference(DType dtype) {
  return program({dtype, dtype}, {{op::Binary{BinaryKind::kSubtract}, dtype, {0, 1}},
                                  {op::Unary{UnaryKind::kSquare}, dtype, {2}}});
}

struct Case {
  op::ElementwiseReduce operation;
  std::vector<HostTensor> inputs;
  Placement placement = Placement::kContiguous;
  std::uint32_t seed = 1;
};

// Notes the texts that kernels would be compiled from.
class RecordingDevice final : public backend::gpu::GpuDevice {
 public:
  [[nodiscard]] const backend::gpu::DeviceLimits& limits() const override { return real_.limits(); }
  const backend::gpu::Function& function(std::string_view name) override {
    return real_.function(name);
  }
  const backend::gpu::Function& compile(std::string_view name, const std::string& text) override {
    sources_.emplace(name, text);
    return none_;
  }
  std::shared_ptr<const backend::gpu::Matmul> make_matmul(
      const backend::gpu::MatmulDescription& description) override {
    return real_.make_matmul(description);
  }
  void describe(const backend::gpu::BoxedMatrix& matrix, TileMap& out) const override {
    real_.describe(matrix, out);
  }
  [[nodiscard]] std::vector<gpu_sim::SimDevice::Source> sources() const {
    return {sources_.begin(), sources_.end()};
  }

 private:
  backend::gpu::GpuDevice& real_ = gpu_sim::sim_backend().gpu();
  std::set<gpu_sim::SimDevice::Source> sources_;
  backend::gpu::Function none_;
};

Tolerance tolerance_of(const Case& c) {
  const DType dtype = c.operation.elementwise.program->instructions.back().dtype;
  const ReduceKind kind = c.operation.reduce.kind;
  if (!is_floating(dtype) || kind == ReduceKind::kAny || kind == ReduceKind::kAll) return {};
  if (kind == ReduceKind::kMax || kind == ReduceKind::kMin) return elementwise_tolerance(dtype);
  const double length = std::sqrt(static_cast<double>(c.inputs[0].size()) + 1);
  return dtype == DType::kF32 ? Tolerance{kind == ReduceKind::kProd ? 1e-4 : 1e-5, 1e-6 * length}
                              : Tolerance{1e-2, 1e-2};
}

// Not by the shape rule, which does not let through all that kernels can do.
TensorSpec spec_of(const Case& c) {
  Shape shape;
  for (const HostTensor& input : c.inputs) {
    shape = broadcast_shapes("a program", shape, input.shape());
  }
  const op::Reduce& reduce = c.operation.reduce;
  TensorSpec spec{{}, c.operation.elementwise.program->instructions.back().dtype};
  if (reduce.kind == ReduceKind::kAny || reduce.kind == ReduceKind::kAll) spec.dtype = DType::kBool;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool is_reduced =
        std::find(reduce.axes.begin(), reduce.axes.end(), axis) != reduce.axes.end();
    if (!is_reduced || reduce.keepdims) spec.shape.push_back(is_reduced ? 1 : shape[axis]);
  }
  return spec;
}

// Kernels compiled in one go, then run.
void check_together(const std::vector<Case>& cases) {
  RecordingDevice recorder;
  for (const Case& c : cases) {
    std::mt19937 random(c.seed);  // As run_gpu_kernel() lays them out.
    std::vector<TensorLayout> layouts;
    for (const HostTensor& input : c.inputs) {
      layouts.push_back(place(input, c.placement, random).layout);
    }
    const Operation operation = c.operation;
    backend::gpu::make_elementwise_reduce({operation, layouts, {}, {}}, recorder);
  }
  const auto sources = recorder.sources();
  if (!sources.empty()) {
    static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu()).compile_together(sources);
  }
  for (const Case& c : cases) {
    std::vector<const HostTensor*> inputs;
    for (const HostTensor& input : c.inputs) inputs.push_back(&input);
    const TensorSpec spec = spec_of(c);
    const HostTensor actual =
        run_gpu_kernel(c.operation, inputs, {&spec, 1}, {}, c.placement, c.seed)[0];
    const HostTensor expected = interpret_operation(c.operation, inputs, spec)[0];
    EXPECT_TRUE(all_close(actual, expected, tolerance_of(c)))
        << to_string(c.operation) << " of " << to_string(c.inputs[0].shape());
  }
}

// Elements whose reduction says something: of floating ones, differences are near 1 for products.
HostTensor operand(ReduceKind kind, const Shape& shape, DType dtype, bool is_second) {
  HostTensor x = random_operand(shape, dtype, is_second ? 3 : 2, is_integer(dtype) ? 6 : 1);
  if (kind != ReduceKind::kProd || !x.is_real()) return x;
  std::mt19937 random(1);
  for (double& value : x.real) value = is_second ? 1 : random() % 2 == 0 ? 2.25 : 1.796875;
  return x;
}

Case difference_case(ReduceKind kind, const Shape& x, const Shape& y, const Axes& axes, DType dtype,
                     Placement placement = Placement::kContiguous, std::uint32_t seed = 1) {
  return {{squared_difference(dtype), {kind, axes, false}},
          {operand(kind, x, dtype, false), operand(kind, y, dtype, true)},
          placement,
          seed};
}

class GpuElementwiseReduceTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuElementwiseReduceTest, Rows) {
  std::vector<Case> cases;
  for (const ReduceKind kind : kKinds) {
    for (const Shape& x : {Shape{5, 1}, Shape{40, 3}, Shape{70, 8}, Shape{2, 64}, Shape{33, 600},
                           Shape{2, 4099}, Shape{2, 8192}}) {
      cases.push_back(difference_case(kind, x, x, {1}, GetParam()));
      if (kind != ReduceKind::kSum) continue;
      cases.push_back(difference_case(kind, x, {x[0], 1}, {1}, GetParam()));
      cases.push_back(difference_case(kind, x, {x[1]}, {1}, GetParam()));
      cases.push_back(difference_case(kind, x, {}, {1}, GetParam()));
    }
  }
  check_together(cases);
}

TEST_P(GpuElementwiseReduceTest, Columns) {
  std::vector<Case> cases;
  for (const ReduceKind kind : kKinds) {
    for (const Shape& x : {Shape{5, 1}, Shape{3, 40}, Shape{70, 8}, Shape{64, 2}, Shape{600, 33},
                           Shape{4099, 5}, Shape{300, 500}}) {
      cases.push_back(difference_case(kind, x, x, {0}, GetParam()));
      if (kind != ReduceKind::kSum) continue;
      cases.push_back(difference_case(kind, x, {x[0], 1}, {0}, GetParam()));
      cases.push_back(difference_case(kind, x, {x[1]}, {0}, GetParam()));
      cases.push_back(difference_case(kind, x, {}, {0}, GetParam()));
    }
  }
  check_together(cases);
}

TEST_P(GpuElementwiseReduceTest, AnyAxesAndStrides) {
  std::vector<Case> cases;
  for (unsigned mask = 0; mask < 16; ++mask) {
    Axes axes;
    for (int axis = 0; axis < 4; ++axis) {
      if ((mask >> axis & 1) != 0) axes.push_back(axis);
    }
    const Shape shape{3, 5, 6, 16};
    cases.push_back(difference_case(ReduceKind::kSum, shape, {5, 1, 16}, axes, GetParam()));
    for (std::uint32_t seed = 1; seed < 4; ++seed) {
      cases.push_back(difference_case(ReduceKind::kSum, shape, {5, 1, 16}, axes, GetParam(),
                                      Placement::kScattered, seed));
    }
  }
  check_together(cases);
}

TEST_P(GpuElementwiseReduceTest, EverythingToOne) {
  std::vector<Case> cases;
  for (const std::int64_t n : {1, 1000, 40000, 40001}) {
    for (const ReduceKind kind : kKinds) {
      if (kind == ReduceKind::kProd && n > 1000) continue;  // Parts of it overflow.
      cases.push_back(difference_case(kind, {n}, {n}, {0}, GetParam()));
    }
  }
  check_together(cases);
}

TEST_P(GpuElementwiseReduceTest, ZeroSizes) {
  std::vector<Case> cases;
  for (const ReduceKind kind : {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kAll}) {
    cases.push_back(difference_case(kind, {0, 4}, {4}, {0}, GetParam()));
    cases.push_back(difference_case(kind, {0, 4}, {0, 4}, {1}, GetParam()));
    cases.push_back(difference_case(kind, {4, 0}, {4, 1}, {1}, GetParam()));
    cases.push_back(difference_case(kind, {2, 0, 3}, {3}, {0, 1}, GetParam()));
    cases.push_back(difference_case(kind, {0}, {1}, {0}, GetParam()));
  }
  check_together(cases);
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuElementwiseReduceTest,
                         ::testing::Values(DType::kI8, DType::kI64, DType::kBF16, DType::kF32),
                         [](const auto& test) { return std::string(name(test.param)); });

// Operands that lie across the way the reduction walks are copied first, to where they lie along.
TEST(GpuElementwiseReduce, TransposedOperands) {
  std::vector<Case> cases;
  for (const int axis : {0, 1}) {
    for (std::uint32_t seed = 0; seed < 6; ++seed) {  // Some of these put the columns first.
      cases.push_back(difference_case(ReduceKind::kSum, {150, 200}, {150, 200}, {axis}, DType::kF32,
                                      Placement::kScattered, seed));
    }
  }
  check_together(cases);
}

// Operands of several dtypes, whose packets have as many elements; results of 16 bits in the middle
// are rounded where the program says so, and what is reduced is not.
TEST(GpuElementwiseReduce, ConversionsAndPredicates) {
  std::vector<Case> cases;
  for (const Shape& shape : {Shape{6, 640}, Shape{6, 641}}) {
    for (const int axis : {0, 1}) {
      for (const DType dtype : {DType::kBF16, DType::kF16, DType::kI32, DType::kBool}) {
        cases.push_back(
            {{program({dtype}, {{op::Cast{}, DType::kF32, {0}}}), {ReduceKind::kSum, {axis}, true}},
             {random_operand(shape, dtype, 4, 3)}});
        cases.push_back(
            {{program({dtype, DType::kF32}, {{op::Cast{}, DType::kF32, {0}},
                                             {op::Binary{BinaryKind::kLess}, DType::kBool, {2, 1}},
                                             {op::Cast{}, DType::kI32, {3}}}),
              {ReduceKind::kSum, {axis}, false}},
             {random_operand(shape, dtype, 4, 3), random_operand(shape, DType::kF32, 5, 3)}});
      }
      for (const ReduceKind kind : {ReduceKind::kAny, ReduceKind::kAll}) {
        cases.push_back(
            {{program({DType::kF32, DType::kF32},
                      {{op::Binary{BinaryKind::kGreater}, DType::kBool, {0, 1}}}),
              {kind, {axis}, false}},
             {random_operand(shape, DType::kF32, 4), random_operand({shape[1]}, DType::kF32, 5)}});
      }
    }
  }
  check_together(cases);
}

TEST(GpuElementwiseReduce, RoundsWhereTheProgramConverts) {
  // 1 + 2^-10 is 1 in bf16.
  HostTensor x(Shape{512}, DType::kF32);
  for (double& value : x.real) value = 1 + 0x1p-10;
  const HostTensor* const inputs[] = {&x};
  const auto sum = [&](Instructions instructions) {
    const op::ElementwiseReduce operation{program({DType::kF32}, std::move(instructions)),
                                          {ReduceKind::kSum, {0}, false}};
    const TensorSpec spec{{}, operation.elementwise.program->instructions.back().dtype};
    return run_gpu_kernel(operation, inputs, {&spec, 1})[0].r(0);
  };
  EXPECT_EQ(sum({{op::Cast{}, DType::kBF16, {0}}}), 512);
  EXPECT_EQ(sum({{op::Cast{}, DType::kBF16, {0}}, {op::Cast{}, DType::kF32, {1}}}), 512);
  EXPECT_EQ(sum({{op::Unary{UnaryKind::kAbs}, DType::kF32, {0}}}), 512.5);
}

TEST(GpuElementwiseReduce, AddressesThatAreNotAligned) {
  for (const Shape& shape : {Shape{4, 256}, Shape{256, 4}}) {
    for (const int axis : {0, 1}) {
      const HostTensor x = random_operand(shape, DType::kBF16, 1);
      const HostTensor y = random_operand(shape, DType::kBF16, 2);
      const HostTensor* const inputs[] = {&x, &y};
      const op::ElementwiseReduce operation{squared_difference(DType::kBF16),
                                            {ReduceKind::kMax, {axis}, false}};
      const TensorSpec spec{Shape{shape[1 - axis]}, DType::kBF16};
      const HostTensor expected = interpret_operation(operation, inputs, spec)[0];
      for (const std::size_t shift : {0, 1, 4}) {
        const HostTensor actual = run_gpu_kernel_at(operation, inputs, spec, {shift});
        EXPECT_TRUE(all_close(actual, expected, elementwise_tolerance(DType::kBF16)));
      }
    }
  }
}

// The order of additions is that of the reduction by itself, so f32 sums agree to the bit.
TEST(GpuElementwiseReduce, AddsInTheOrderOfAPlainReduction) {
  for (const Shape& shape : {Shape{3, 5000}, Shape{5000, 3}, Shape{40, 40}, Shape{2, 60000}}) {
    for (const Axes& axes : {Axes{0}, Axes{1}, Axes{0, 1}}) {
      const HostTensor x = random_operand(shape, DType::kF32, 1);
      const HostTensor* const inputs[] = {&x};
      const op::Reduce reduce{ReduceKind::kSum, axes, true};
      const op::Elementwise absolute =
          program({DType::kF32}, {{op::Unary{UnaryKind::kAbs}, DType::kF32, {0}}});
      const HostTensor elements = run_gpu_kernel(absolute, inputs, {&x.spec, 1})[0];
      const HostTensor* const reduced[] = {&elements};
      TensorSpec spec{shape, DType::kF32};
      for (const std::int64_t axis : axes) spec.shape[static_cast<int>(axis)] = 1;
      const HostTensor apart = run_gpu_kernel(reduce, reduced, {&spec, 1})[0];
      const HostTensor fused =
          run_gpu_kernel(op::ElementwiseReduce{absolute, reduce}, inputs, {&spec, 1})[0];
      EXPECT_EQ(fused.real, apart.real) << to_string(shape);
    }
  }
}

// Sizes and constants are arguments: layers of a model share a kernel.
TEST(GpuElementwiseReduce, SharesKernels) {
  RecordingDevice recorder;
  for (const std::int64_t n : {64, 1024, 100000}) {
    for (const double scale : {2.0, 3.0}) {
      const Operation operation = op::ElementwiseReduce{
          program({DType::kF32}, {{op::Full{Scalar::from_real(scale)}, DType::kF32, {}},
                                  {op::Binary{BinaryKind::kMultiply}, DType::kF32, {0, 1}}}),
          {ReduceKind::kSum, {1}, false}};
      const TensorLayout input = TensorLayout::contiguous({{7, n}, DType::kF32});
      backend::gpu::make_elementwise_reduce({operation, {&input, 1}, {}, {}}, recorder);
    }
  }
  EXPECT_EQ(recorder.sources().size(), 1u);
}

// Operands that lie further apart than 32 bits reach.
TEST(GpuElementwiseReduce, WideOffsets) {
  const TensorLayout far{{4, 6}, {std::int64_t{1} << 40, 1}, DType::kF32};
  RecordingDevice recorder;
  const Operation operation =
      op::ElementwiseReduce{squared_difference(DType::kF32), {ReduceKind::kSum, {1}, false}};
  const TensorLayout inputs[] = {far, TensorLayout::contiguous({{4, 6}, DType::kF32})};
  backend::gpu::make_elementwise_reduce({operation, inputs, {}, {}}, recorder);
  const auto sources = recorder.sources();
  ASSERT_EQ(sources.size(), 1u);
  const auto& [name, text] = sources[0];
  EXPECT_NE(text.find("int64_t k_stride0_0"), std::string::npos);
  gpu_sim::sim_backend().gpu().compile(name, text);
}

TEST(GpuElementwiseReduce, RandomPrograms) {
  std::vector<Case> cases;
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    std::vector<HostTensor> hosts;
    std::vector<DType> dtypes;
    const Shape shapes[] = {{5, 60}, {60}, {5, 1}, {}};
    for (const Shape& shape : shapes) {
      dtypes.push_back(kAllDTypes[random() % std::size(kAllDTypes)]);
      hosts.push_back(random_tensor(shape, dtypes.back(), random));
    }
    const auto random_one = std::make_shared<const ElementwiseProgram>(
        random_program(dtypes, 1 + static_cast<int>(random() % 14), random));
    // What does not depend on the order of additions.
    const DType dtype = random_one->instructions.back().dtype;
    const ReduceKind kind = dtype == DType::kBool ? ReduceKind::kAny
                            : is_floating(dtype)  ? ReduceKind::kMax
                                                  : ReduceKind::kSum;
    const std::int64_t axis = seed % 2;
    const op::ElementwiseReduce operation{{random_one}, {kind, {axis}, false}};
    cases.push_back({operation, hosts});
  }
  check_together(cases);
}

}  // namespace
}  // namespace metal_candle::testing
