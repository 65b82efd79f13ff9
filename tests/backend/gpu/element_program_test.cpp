// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The kernel that interprets elementwise programs against those that are generated for them: the
// same bits, whatever the operation, the types and the way that operands lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "metal_candle/backend/gpu/element_program.h"
#include "metal_candle/backend/gpu/elementwise_source.h"
#include "metal_candle/core/error.h"
#include "tests/backend/elementwise_cases.h"
#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"
#include "tests/support/message_of.h"

namespace metal_candle::testing {
namespace {

using backend::gpu::ElementProgram;
using backend::gpu::ElementwiseLoop;

constexpr DType kValues[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kBool};

struct Case {
  Operation operation;
  std::vector<HostTensor> inputs;
  TensorSpec spec;
  Placement placement = Placement::kContiguous;
  std::uint32_t seed = 1;
};

gpu_sim::SimDevice& device() {
  return static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu());
}

// The operands of a case, the loop over them, and memory for results.
class Laid {
 public:
  explicit Laid(const Case& c) : spec_(c.spec) {
    std::mt19937 random(c.seed);
    for (const HostTensor& input : c.inputs) {
      inputs_.push_back(place(input, c.placement, random));
      layouts_.push_back(inputs_.back().layout);
    }
  }
  [[nodiscard]] ElementwiseLoop loop() const { return {layouts_, TensorLayout::contiguous(spec_)}; }
  [[nodiscard]] std::vector<const void*> addresses(void* out) const {
    std::vector<const void*> all{out};
    for (const PlacedTensor& input : inputs_) all.push_back(input.address());
    return all;
  }

 private:
  TensorSpec spec_;
  std::vector<PlacedTensor> inputs_;
  std::vector<TensorLayout> layouts_;
};

// Bits of the elements, but of any NaN the same: its bits are the processor's to choose here.
std::vector<std::uint32_t> bits_of(const void* memory, const TensorSpec& spec) {
  std::vector<std::uint32_t> all(static_cast<std::size_t>(num_elements(spec.shape)));
  const std::size_t bytes = size_of(spec.dtype);
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::memcpy(&all[i], static_cast<const std::byte*>(memory) + i * bytes, bytes);
    const bool nan = spec.dtype == DType::kF32
                         ? std::bit_cast<float>(all[i]) != std::bit_cast<float>(all[i])
                         : (spec.dtype == DType::kF16 && (all[i] & 0x7fff) > 0x7c00) ||
                               (spec.dtype == DType::kBF16 && (all[i] & 0x7fff) > 0x7f80);
    if (nan) all[i] = 0xffffffff;
  }
  return all;
}

// Generated kernels are compiled in one go.
void expect_same_bits(const std::vector<Case>& cases) {
  std::set<gpu_sim::SimDevice::Source> sources;
  std::vector<Laid> laid;
  for (const Case& c : cases) {
    laid.emplace_back(c);
    const auto source = write_elementwise(c.operation, laid.back().loop(), /*aligned=*/false);
    sources.emplace(source.name, source.text);
  }
  const std::vector<gpu_sim::SimDevice::Source> all(sources.begin(), sources.end());
  device().compile_together(all);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    SCOPED_TRACE(to_string(c.operation) + " of " + std::string(name(c.spec.dtype)) +
                 to_string(c.spec.shape));
    const ElementwiseLoop loop = laid[i].loop();
    const std::optional<ElementProgram> program = ElementProgram::make(c.operation, loop);
    ASSERT_TRUE(program);
    gpu_sim::SimEncoder encoder;
    ShiftedMemory interpreted(c.spec.bytes(), 0), compiled(c.spec.bytes(), 0);
    program->encode(device(), laid[i].addresses(interpreted.data()), encoder);
    const auto source = write_elementwise(c.operation, loop, /*aligned=*/false);
    std::vector<std::byte> arguments = source.arguments;
    const std::vector<const void*> addresses = laid[i].addresses(compiled.data());
    std::memcpy(arguments.data(), addresses.data(), addresses.size() * sizeof(void*));
    const std::uint32_t groups =
        std::max(1u, backend::gpu::groups_for(loop.packets, std::int64_t{64} * source.in_flight));
    encoder.dispatch_bytes(device().compile(source.name, source.text), {groups}, 64, 0,
                           arguments.data(), arguments.size());
    EXPECT_TRUE(interpreted.intact());
    EXPECT_EQ(bits_of(interpreted.data(), c.spec), bits_of(compiled.data(), c.spec));
  }
}

bool is_interpreted(const Operation& operation, const std::vector<DType>& inputs, DType output) {
  std::vector<TensorLayout> layouts;
  for (const DType dtype : inputs) layouts.push_back(TensorLayout::contiguous({{40}, dtype}));
  const ElementwiseLoop loop(layouts, TensorLayout::contiguous({{40}, output}));
  return ElementProgram::make(operation, loop).has_value();
}

TEST(GpuElementProgramTest, EveryUnaryKind) {
  std::mt19937 random(21);
  std::vector<Case> cases;
  for (int k = 0; k < kNumUnaryKinds; ++k) {
    const auto kind = static_cast<UnaryKind>(k);
    for (const DType dtype : kValues) {
      if (is_float_only(kind) && !is_floating(dtype)) continue;
      const TensorSpec spec{{3, 331}, is_predicate(kind) ? DType::kBool : dtype};
      if (!is_interpreted(op::Unary{kind}, {dtype}, spec.dtype)) {
        EXPECT_EQ(kind == UnaryKind::kBitwiseNot, is_floating(dtype)) << name(kind);
        continue;
      }
      const HostTensor x = random_tensor(spec.shape, dtype, random, k % 2 == 0 ? 0.7 : 4.0);
      cases.push_back({op::Unary{kind}, {x}, spec});
    }
  }
  EXPECT_GE(cases.size(), 3u * (kNumUnaryKinds - 1));
  expect_same_bits(cases);
}

TEST(GpuElementProgramTest, EveryBinaryKind) {
  std::mt19937 random(22);
  std::vector<Case> cases;
  for (int k = 0; k < kNumBinaryKinds; ++k) {
    const auto kind = static_cast<BinaryKind>(k);
    for (const DType dtype : kValues) {
      if (is_float_only(kind) && !is_floating(dtype)) continue;
      const TensorSpec spec{{5, 213}, is_predicate(kind) ? DType::kBool : dtype};
      if (!is_interpreted(op::Binary{kind}, {dtype, dtype}, spec.dtype)) {
        EXPECT_TRUE(is_integer_only(kind) || dtype == DType::kBool) << name(kind);
        continue;
      }
      cases.push_back(
          {op::Binary{kind},
           {random_tensor(spec.shape, dtype, random), random_tensor(spec.shape, dtype, random)},
           spec});
    }
  }
  EXPECT_GE(cases.size(), 3u * (kNumBinaryKinds - 5));
  expect_same_bits(cases);
}

TEST(GpuElementProgramTest, CastsSelectsConstantsAndGates) {
  std::mt19937 random(23);
  std::vector<Case> cases;
  for (const DType from : kValues) {
    for (const DType to : kValues) {
      cases.push_back({op::Cast{}, {random_tensor({701}, from, random, 200.0)}, {{701}, to}});
    }
    const HostTensor c = random_tensor({6, 41}, DType::kBool, random);
    const HostTensor x = random_tensor({6, 41}, from, random);
    cases.push_back({op::Select{}, {c, x, random_tensor({}, from, random)}, x.spec});
    cases.push_back({op::Full{Scalar::from_real(-0.3)}, {}, {{7}, from}});
    if (!is_floating(from)) continue;
    cases.push_back({op::SwiGlu{}, {x, random_tensor({6, 41}, from, random)}, x.spec});
  }
  expect_same_bits(cases);
}

TEST(GpuElementProgramTest, OperandsThatAreBroadcastOrStrided) {
  std::mt19937 random(24);
  const std::pair<Shape, Shape> shapes[] = {
      {{}, {}},           {{1}, {5000}},        {{300}, {7, 300}},      {{7, 1}, {7, 300}},
      {{9, 1}, {1, 304}}, {{2, 1, 5}, {3, 1}},  {{40, 1}, {40, 3}},     {{4, 3, 2, 8}, {3, 1, 8}},
      {{2, 3, 4, 5}, {}}, {{70, 64}, {70, 64}}, {{1, 1, 9}, {6, 1, 1}}, {{5, 6, 8}, {5, 1, 8}}};
  std::vector<Case> cases;
  for (const auto& [a, b] : shapes) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const Placement placement : {Placement::kContiguous, Placement::kScattered}) {
        const TensorSpec spec{broadcast_shapes("test", a, b), dtype};
        cases.push_back({op::Binary{BinaryKind::kSubtract},
                         {random_tensor(a, dtype, random), random_tensor(b, dtype, random)},
                         spec,
                         placement,
                         static_cast<std::uint32_t>(random())});
      }
    }
  }
  expect_same_bits(cases);
}

// A program of any of the functions; every instruction takes registers of one dtype.
ElementwiseProgram any_program(std::vector<DType> inputs, int length, std::mt19937& random) {
  ElementwiseProgram program{std::move(inputs), {}};
  std::vector<DType> dtypes = program.inputs;
  const auto pick_of = [&](DType dtype) {
    std::vector<std::int32_t> all;
    for (std::size_t r = 0; r < dtypes.size(); ++r) {
      if (dtypes[r] == dtype) all.push_back(static_cast<std::int32_t>(r));
    }
    // The newest ones more often, as in programs that somebody wrote.
    const std::size_t back = std::min<std::size_t>(random() % 3 * (random() % 6), all.size() - 1);
    return all[all.size() - 1 - back];
  };
  while (static_cast<int>(program.instructions.size()) < length) {
    const DType dtype =
        dtypes[dtypes.size() - 1 - random() % std::min<std::size_t>(dtypes.size(), 4)];
    const std::int32_t a = pick_of(dtype);
    ElementwiseInstruction next{op::Cast{}, dtype, {a}};
    switch (random() % 8) {
      case 0:
      case 1: {
        const auto kind = static_cast<UnaryKind>(random() % kNumUnaryKinds);
        next.operation = op::Unary{kind};
        if (is_predicate(kind)) next.dtype = DType::kBool;
        break;
      }
      case 2:
        next.dtype = kValues[random() % std::size(kValues)];
        break;
      case 3:
        next.operation = op::Full{Scalar::from_real(0.3 + static_cast<double>(random() % 9))};
        next.arguments.clear();
        break;
      case 4:
        if (std::find(dtypes.begin(), dtypes.end(), DType::kBool) == dtypes.end()) continue;
        next.operation = op::Select{};
        next.arguments = {pick_of(DType::kBool), a, pick_of(dtype)};
        break;
      default: {
        const auto kind = static_cast<BinaryKind>(random() % kNumBinaryKinds);
        next.operation = op::Binary{kind};
        next.arguments = {a, pick_of(dtype)};
        if (is_predicate(kind)) next.dtype = DType::kBool;
      }
    }
    const bool casts = std::holds_alternative<op::Cast>(next.operation);
    if (!casts && !next.arguments.empty() &&
        !is_interpreted(next.operation, std::vector<DType>(next.arguments.size(), dtype),
                        next.dtype) &&
        !std::holds_alternative<op::Select>(next.operation)) {
      continue;
    }
    dtypes.push_back(next.dtype);
    program.instructions.push_back(std::move(next));
  }
  return program;
}

TEST(GpuElementProgramTest, Programs) {
  std::vector<Case> cases;
  int refused = 0;
  for (std::uint32_t seed = 0; seed < 80; ++seed) {
    std::mt19937 random(100 + seed);
    const bool rows = seed % 2 == 0;
    std::vector<HostTensor> hosts;
    std::vector<DType> dtypes;
    const Shape shapes[] = {{5, rows ? 60 : 61}, {rows ? 60 : 61}, {5, 1}, {}, {5, rows ? 60 : 61}};
    for (std::size_t k = 0; k < 1 + seed % 12; ++k) {
      dtypes.push_back(kValues[random() % std::size(kValues)]);
      hosts.push_back(random_tensor(shapes[k % 5], dtypes.back(), random));
    }
    const auto program = std::make_shared<const ElementwiseProgram>(
        any_program(dtypes, 2 + static_cast<int>(random() % 60), random));
    const DType output = program->instructions.back().dtype;
    const Case next{op::Elementwise{program},
                    hosts,
                    {{5, rows ? 60 : 61}, output},
                    seed % 3 == 0 ? Placement::kScattered : Placement::kContiguous,
                    seed};
    if (ElementProgram::make(next.operation, Laid(next).loop())) {
      cases.push_back(next);
    } else {
      ++refused;
    }
  }
  EXPECT_LE(refused, 8);
  expect_same_bits(cases);
}

ElementwiseInstruction binary(BinaryKind kind, std::int32_t a, std::int32_t b) {
  return {op::Binary{kind}, DType::kF32, {a, b}};
}

// Products that are part of a sum, on either side, alone and one after another.
TEST(GpuElementProgramTest, SumsOfProducts) {
  using enum BinaryKind;
  const ElementwiseInstruction square{op::Unary{UnaryKind::kSquare}, DType::kF32, {0}};
  const std::vector<std::vector<ElementwiseInstruction>> all = {
      {binary(kMultiply, 0, 1), binary(kAdd, 3, 2)},
      {binary(kMultiply, 0, 1), binary(kAdd, 2, 3)},
      {binary(kMultiply, 0, 1), binary(kSubtract, 3, 2)},
      {binary(kMultiply, 0, 1), binary(kSubtract, 2, 3)},
      {square, binary(kSubtract, 3, 1), binary(kAdd, 4, 2)},
      {binary(kMultiply, 0, 1), binary(kMultiply, 1, 2), binary(kAdd, 3, 4)},
      {binary(kMultiply, 0, 1), binary(kAdd, 3, 2), binary(kMultiply, 4, 1), binary(kAdd, 5, 2),
       binary(kMultiply, 6, 6), binary(kSubtract, 0, 7)},
      // Read twice, so it stays.
      {binary(kMultiply, 0, 1), binary(kAdd, 3, 2), binary(kMaximum, 4, 3)},
  };
  std::mt19937 random(5);
  std::vector<Case> cases;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::vector<HostTensor> hosts;
    for (const Shape& shape : {Shape{5, 61}, Shape{61}, Shape{5, 1}}) {
      hosts.push_back(random_tensor(shape, dtype, random));
    }
    for (std::vector<ElementwiseInstruction> instructions : all) {
      for (ElementwiseInstruction& instruction : instructions) instruction.dtype = dtype;
      const auto program = std::make_shared<const ElementwiseProgram>(
          ElementwiseProgram{{dtype, dtype, dtype}, std::move(instructions)});
      cases.push_back({op::Elementwise{program}, hosts, {{5, 61}, dtype}});
    }
  }
  expect_same_bits(cases);
}

// Values that all stay until the end take a slot each.
TEST(GpuElementProgramTest, AsManyValuesAtATimeAsFitAGroup) {
  const auto program_of = [](std::int32_t values) {
    ElementwiseProgram program{{DType::kF32}, {}};
    for (std::int32_t i = 0; i < values; ++i) {
      program.instructions.push_back({op::Unary{UnaryKind::kSin}, DType::kF32, {i}});
    }
    std::int32_t sum = values;  // The last one; and back from there.
    for (std::int32_t i = values - 1, next = values + 1; i >= 0; --i, ++next) {
      program.instructions.push_back(binary(BinaryKind::kAdd, sum, i));
      sum = next;
    }
    return op::Elementwise{std::make_shared<const ElementwiseProgram>(program)};
  };
  std::mt19937 random(25);
  const HostTensor x = random_tensor({130}, DType::kF32, random);
  EXPECT_TRUE(is_interpreted(program_of(16), {DType::kF32}, DType::kF32));
  EXPECT_FALSE(is_interpreted(program_of(17), {DType::kF32}, DType::kF32));
  expect_same_bits({{program_of(16), {x}, x.spec}});
}

TEST(GpuElementProgramTest, WhatNeedsAKernelOfItsOwn) {
  using enum DType;
  EXPECT_TRUE(is_interpreted(op::Cast{}, {kBool}, kF16));
  EXPECT_FALSE(is_interpreted(op::Cast{}, {kI32}, kF32));
  EXPECT_FALSE(is_interpreted(op::Cast{}, {kF32}, kU8));
  EXPECT_FALSE(is_interpreted(op::Binary{BinaryKind::kAdd}, {kI64, kI64}, kI64));
  EXPECT_FALSE(is_interpreted(op::Binary{BinaryKind::kAdd}, {kBool, kBool}, kBool));
  EXPECT_FALSE(is_interpreted(op::Arange{}, {}, kF32));
  EXPECT_FALSE(is_interpreted(op::Binary{BinaryKind::kShiftLeft}, {kF32, kF32}, kF32));

  const TensorLayout far{{4, 6}, {std::int64_t{1} << 40, 1}, kF32};
  const ElementwiseLoop loop(std::span(&far, 1), TensorLayout::contiguous({{4, 6}, kF32}));
  EXPECT_FALSE(ElementProgram::make(op::Unary{UnaryKind::kSin}, loop));

  ElementwiseProgram program{{kF32}, {}};
  for (std::int32_t i = 0; i < 96; ++i) {
    program.instructions.push_back({op::Unary{UnaryKind::kSin}, kF32, {i}});
  }
  EXPECT_FALSE(
      is_interpreted(op::Elementwise{std::make_shared<ElementwiseProgram>(program)}, {kF32}, kF32));
  program.instructions.pop_back();
  EXPECT_TRUE(
      is_interpreted(op::Elementwise{std::make_shared<ElementwiseProgram>(program)}, {kF32}, kF32));
  const ElementwiseProgram many{std::vector<DType>(17, kF32), {binary(BinaryKind::kAdd, 0, 16)}};
  EXPECT_FALSE(is_interpreted(op::Elementwise{std::make_shared<ElementwiseProgram>(many)},
                              many.inputs, kF32));
}

TEST(GpuElementProgramTest, OverAnOperandAndAtAnyAddress) {
  std::mt19937 random(26);
  const TensorSpec spec{{1003}, DType::kBF16};
  const HostTensor x = random_tensor(spec.shape, spec.dtype, random);
  const ElementwiseLoop loop(std::vector{TensorLayout::contiguous(spec)},
                             TensorLayout::contiguous(spec));
  const Operation operation = op::Unary{UnaryKind::kNegative};
  const HostTensor* inputs[] = {&x};
  const HostTensor expected = reference(operation, inputs, spec);
  for (const std::size_t shift : {0u, 2u, 6u, 8u}) {
    ShiftedMemory memory(spec.bytes(), shift);
    for (std::int64_t i = 0; i < x.size(); ++i) write_element(x, i, memory.data(), i);
    gpu_sim::SimEncoder encoder;
    ElementProgram::make(operation, loop)
        ->encode(device(), std::vector<const void*>{memory.data(), memory.data()}, encoder);
    EXPECT_TRUE(memory.intact());
    EXPECT_TRUE(all_close(read_contiguous(memory.data(), spec), expected, {}));
  }
}

// A device that compiles when it is told to.
class PatientDevice final : public backend::gpu::GpuDevice {
 public:
  [[nodiscard]] const backend::gpu::DeviceLimits& limits() const override {
    return device().limits();
  }
  const backend::gpu::Function& function(std::string_view name) override {
    functions_asked.insert(std::string(name));
    return device().function(name);
  }
  const backend::gpu::Function& compile(std::string_view name, const std::string& text) override {
    return device().compile(name, text);
  }
  std::shared_ptr<const backend::gpu::PendingFunction> compile_later(
      std::string_view name, const std::string& text) override {
    pending.push_back({std::make_shared<backend::gpu::PendingFunction>(), std::string(name), text});
    return pending.back().function;
  }
  std::shared_ptr<const backend::gpu::Matmul> make_matmul(
      const backend::gpu::MatmulDescription& description) override {
    return device().make_matmul(description);
  }
  struct Pending {
    std::shared_ptr<backend::gpu::PendingFunction> function;
    std::string name, text;
    void finish() const { function->deliver(device().compile(name, text)); }
  };
  std::vector<Pending> pending;
  std::set<std::string> functions_asked;
};

class GpuPendingKernelTest : public ::testing::Test {
 protected:
  static constexpr std::int64_t kSize = 1000;

  [[nodiscard]] std::unique_ptr<backend::Kernel> make(const Operation& operation, DType dtype) {
    const TensorLayout layout = TensorLayout::contiguous({{kSize}, dtype});
    const bool needed = true;
    return backend::gpu::make_elementwise(
        {operation, std::span(&layout, 1), std::span(&layout, 1), std::span(&needed, 1)}, device_);
  }
  // What it gives for `shift` elements beside an aligned address.
  std::vector<float> run(const backend::Kernel& kernel, std::size_t shift = 0) {
    ShiftedMemory in(kSize * sizeof(float), shift * sizeof(float));
    ShiftedMemory out(kSize * sizeof(float), shift * sizeof(float));
    std::vector<float> values(kSize);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.01f * static_cast<float>(i) - 4;
    std::memcpy(in.data(), values.data(), kSize * sizeof(float));
    void* inputs[] = {in.data()};
    void* outputs[] = {out.data()};
    device_.functions_asked.clear();
    gpu_sim::SimEncoder encoder;
    static_cast<const backend::gpu::GpuKernel&>(kernel).encode({inputs, outputs}, encoder);
    EXPECT_TRUE(out.intact());
    std::memcpy(values.data(), out.data(), kSize * sizeof(float));
    return values;
  }
  [[nodiscard]] bool interpreted() const {
    return device_.functions_asked.contains("element_program");
  }

  PatientDevice device_;
};

TEST_F(GpuPendingKernelTest, IsInterpretedUntilItIsCompiled) {
  const auto kernel = make(op::Unary{UnaryKind::kSilu}, DType::kF32);
  ASSERT_EQ(device_.pending.size(), 1u);
  const std::vector<float> first = run(*kernel);
  EXPECT_TRUE(interpreted());
  device_.pending[0].finish();
  EXPECT_EQ(run(*kernel), first);
  EXPECT_FALSE(interpreted());
  // Elsewhere it is another kernel.
  EXPECT_EQ(run(*kernel, 1), first);
  EXPECT_TRUE(interpreted());
  ASSERT_EQ(device_.pending.size(), 2u);
  device_.pending[1].finish();
  EXPECT_EQ(run(*kernel, 1), first);
  EXPECT_FALSE(interpreted());
  EXPECT_EQ(device_.pending.size(), 2u);
}

TEST_F(GpuPendingKernelTest, IsCompiledAtOnceWhereItCannotBeInterpreted) {
  const auto kernel = make(op::Unary{UnaryKind::kSquare}, DType::kI32);
  run(*kernel);
  run(*kernel, 1);
  EXPECT_FALSE(interpreted());
  EXPECT_TRUE(device_.pending.empty());
}

TEST_F(GpuPendingKernelTest, WhatDoesNotCompileIsToldWhenItIsEncoded) {
  const auto kernel = make(op::Unary{UnaryKind::kSilu}, DType::kF32);
  run(*kernel);
  device_.pending[0].function->fail("silu does not compile");
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(message_of<DeviceError>([&] { run(*kernel); }),
                ::testing::HasSubstr("silu does not compile"));
  }
}

}  // namespace
}  // namespace metal_candle::testing
