// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Whole programs on the GPU in software, whose steps run wave by wave, in an order of chance within
// a wave, and as one dispatch where they run one function: against the CPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/backend/gpu/kernels/merged.h"
#include "metal_candle/backend/gpu/wave_encoder.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/tensor.h"
#include "tests/gpu_sim/sim_backend.h"

namespace metal_candle {
namespace {

using backend::gpu::Function;
using backend::gpu::Grid;

class FunctionOfMany final : public Function {
 public:
  explicit FunctionOfMany(const Function* merged) : merged_(merged) {}
  [[nodiscard]] const Function* merged() const override { return merged_; }

 private:
  const Function* merged_;
};

struct Arguments {
  std::uint64_t number;
};

// What arrives, written down.
class Notes final : public backend::gpu::WaveSink {
 public:
  struct Note {
    std::vector<std::uint32_t> steps;
    bool begins;
    std::string what;
  };
  std::vector<Note> notes;
  int groups = 0;

  void begin_group() override { ++groups; }
  void next_serves(std::span<const std::uint32_t> steps, std::size_t begun) override {
    notes.push_back({{steps.begin(), steps.end()}, begun > 0, ""});
  }
  void zero(void*, std::size_t bytes) override {
    notes.back().what = "zero " + std::to_string(bytes);
  }
  void matmul(const backend::gpu::Matmul&, const backend::gpu::MatmulOperands&) override {
    notes.back().what = "matmul";
  }
  void dispatch_bytes(const Function& function, Grid grid, std::uint32_t threads, std::uint32_t,
                      const void* arguments, std::size_t bytes) override {
    std::string text = std::to_string(threads) + " threads:";
    if (bytes == sizeof(Merged<Arguments>) && function.merged() == nullptr) {
      const auto& all = *static_cast<const Merged<Arguments>*>(arguments);
      std::uint32_t begin = 0;
      for (std::uint32_t i = 0; i < all.count; ++i) {
        text += " " + std::to_string(all.at[i].number) + "x" + std::to_string(all.ends[i] - begin);
        begin = all.ends[i];
      }
      EXPECT_EQ(begin, grid.x);
    } else {
      text += " " + std::to_string(static_cast<const Arguments*>(arguments)->number) + "x" +
              std::to_string(grid.x);
    }
    notes.back().what = text;
  }
};

std::vector<std::string> texts(const Notes& notes) {
  std::vector<std::string> all;
  for (const Notes::Note& note : notes.notes) all.push_back(note.what);
  return all;
}

TEST(WaveEncoder, JoinsDispatchesOfOneFunction) {
  const FunctionOfMany merged(nullptr);
  const FunctionOfMany a(&merged);
  const FunctionOfMany alone(nullptr);
  backend::gpu::WaveEncoder encoder;
  const auto run = [&](std::uint32_t step, const Function& function, Grid grid,
                       std::uint32_t threads, std::uint64_t number) {
    encoder.begin_step(step);
    encoder.dispatch(function, grid, threads, Arguments{number});
  };
  run(0, a, {2}, 64, 10);
  run(1, alone, {1}, 64, 11);
  run(2, a, {3}, 64, 12);
  run(3, a, {1, 2}, 64, 13);  // Of two dimensions,
  run(4, a, {1}, 32, 14);     // of other threads,
  run(5, alone, {1}, 64, 15);
  run(6, a, {4}, 64, 16);
  Notes notes;
  encoder.end_wave(notes);
  EXPECT_THAT(texts(notes),
              ::testing::ElementsAre("64 threads: 10x2 12x3 16x4", "64 threads: 11x1",
                                     "64 threads: 13x1", "32 threads: 14x1", "64 threads: 15x1"));
  EXPECT_THAT(notes.notes[0].steps, ::testing::ElementsAre(0, 2, 6));
  Notes none;
  encoder.end_wave(none);
  EXPECT_TRUE(none.notes.empty());
}

// The form for many is perhaps compiled when it is asked for.
TEST(WaveEncoder, AsksForTheFormForManyWhereThereAreMany) {
  class Lazy final : public Function {
   public:
    [[nodiscard]] const Function* merged() const override {
      ++asked;
      return &merged_;
    }
    mutable int asked = 0;

   private:
    FunctionOfMany merged_{nullptr};
  };
  const Lazy alone, twice;
  backend::gpu::WaveEncoder encoder;
  std::uint32_t step = 0;
  for (const Lazy* function : {&alone, &twice, &twice}) {
    encoder.begin_step(step++);
    encoder.dispatch(*function, {1}, 32, Arguments{step});
  }
  Notes notes;
  encoder.end_wave(notes);
  EXPECT_EQ(notes.notes.size(), 2u);
  EXPECT_EQ(alone.asked, 0);
  EXPECT_GE(twice.asked, 1);
}

TEST(WaveEncoder, KeepsTheOrderWithinAStep) {
  const FunctionOfMany merged(nullptr);
  const FunctionOfMany a(&merged);
  backend::gpu::WaveEncoder encoder;
  char memory[4];
  for (std::uint32_t step = 0; step < 2; ++step) {
    encoder.begin_step(step);
    encoder.zero(memory, 4);
    encoder.dispatch(a, {1}, 32, Arguments{step});
    encoder.dispatch(a, {2}, 32, Arguments{10 + step});
  }
  Notes notes;
  encoder.end_wave(notes);
  EXPECT_THAT(texts(notes), ::testing::ElementsAre("zero 4", "zero 4", "32 threads: 0x1 1x1",
                                                   "32 threads: 10x2 11x2"));
  EXPECT_TRUE(notes.notes[0].begins);
  EXPECT_FALSE(notes.notes[2].begins);
  EXPECT_EQ(notes.groups, 3);
}

TEST(WaveEncoder, PiecesOfAStepThatNeedNoOther) {
  const FunctionOfMany merged(nullptr);
  const FunctionOfMany a(&merged);
  backend::gpu::WaveEncoder encoder;
  encoder.begin_step(0);
  encoder.dispatch(a, {1}, 32, Arguments{1});
  encoder.concurrently(true);
  encoder.dispatch(a, {2}, 32, Arguments{2});
  encoder.dispatch(a, {3}, 32, Arguments{3});
  encoder.concurrently(false);
  encoder.dispatch(a, {4}, 32, Arguments{4});
  Notes notes;
  encoder.end_wave(notes);
  EXPECT_THAT(texts(notes),
              ::testing::ElementsAre("32 threads: 1x1", "32 threads: 2x2 3x3", "32 threads: 4x4"));
  for (const Notes::Note& note : notes.notes) EXPECT_THAT(note.steps, ::testing::ElementsAre(0));
  EXPECT_TRUE(notes.notes[0].begins);
  EXPECT_FALSE(notes.notes[1].begins);
}

// A product that is two dispatches, the second after the first.
class ProductInTwo final : public backend::gpu::Matmul {
 public:
  ProductInTwo(const Function& first, const Function& second) : first_(first), second_(second) {}
  bool encode(const backend::gpu::MatmulOperands& operands,
              backend::gpu::Encoder& encoder) const override {
    const auto number = reinterpret_cast<std::uintptr_t>(operands.out);
    encoder.dispatch(first_, {1}, 32, Arguments{number});
    encoder.dispatch(second_, {1}, 64, Arguments{number});
    return true;
  }

 private:
  const Function& first_;
  const Function& second_;
};

TEST(WaveEncoder, DispatchesOfAProductFollowEachOther) {
  const FunctionOfMany merged(nullptr);
  const FunctionOfMany a(&merged);
  const ProductInTwo product(a, a);
  backend::gpu::WaveEncoder encoder;
  encoder.begin_step(0);
  encoder.concurrently(true);
  for (const std::uintptr_t number : {1, 2}) {
    encoder.matmul(product, {.out = reinterpret_cast<void*>(number)});
  }
  encoder.dispatch(a, {1}, 32, Arguments{3});
  encoder.concurrently(false);
  encoder.dispatch(a, {1}, 32, Arguments{4});
  Notes notes;
  encoder.end_wave(notes);
  EXPECT_THAT(texts(notes), ::testing::ElementsAre("32 threads: 1x1 2x1 3x1", "64 threads: 1x1 2x1",
                                                   "32 threads: 4x1"));
  EXPECT_EQ(notes.groups, 3);
}

// What a step does is counted once, however many dispatches it takes at once.
TEST(WaveEncoder, OnlyTheFirstPieceBeginsAStep) {
  const FunctionOfMany alone(nullptr);
  backend::gpu::WaveEncoder encoder;
  encoder.begin_step(0);
  encoder.concurrently(true);
  encoder.dispatch(alone, {1}, 32, Arguments{1});
  encoder.dispatch(alone, {1}, 32, Arguments{2});
  encoder.concurrently(false);
  Notes notes;
  encoder.end_wave(notes);
  ASSERT_EQ(notes.notes.size(), 2u);
  EXPECT_TRUE(notes.notes[0].begins);
  EXPECT_FALSE(notes.notes[1].begins);
  EXPECT_EQ(notes.groups, 1);
}

TEST(WaveEncoder, FillsOneDispatchAfterTheOther) {
  const FunctionOfMany merged(nullptr);
  const FunctionOfMany a(&merged);
  backend::gpu::WaveEncoder encoder;
  constexpr std::uint32_t kCapacity = Merged<Arguments>::kCapacity;
  for (std::uint32_t step = 0; step < 2 * kCapacity + 1; ++step) {
    encoder.begin_step(step);
    encoder.dispatch(a, {1}, 32, Arguments{step});
  }
  Notes notes;
  encoder.end_wave(notes);
  ASSERT_EQ(notes.notes.size(), 3u);
  EXPECT_EQ(notes.notes[0].steps.size(), kCapacity);
  EXPECT_EQ(notes.notes[1].steps.size(), kCapacity);
  EXPECT_EQ(notes.notes[2].steps.size(), 1u);
}

TEST(WaveEncoder, CapacitiesFitAndAreOdd) {
  for (std::uint32_t bytes = 8; bytes <= 4000; bytes += 8) {
    const std::uint32_t capacity = MC_MERGED_CAPACITY(bytes);
    EXPECT_EQ(capacity % 2, 1u);
    EXPECT_LE(4 * (1 + capacity) + capacity * bytes, 4096u + (capacity == 1 ? 8u : 0u)) << bytes;
  }
}

// The same on every device: sines of large arguments show how those are rounded.
Tensor some(const Shape& shape, int key) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < num_elements(shape); ++i) {
    values.push_back(
        static_cast<float>(std::sin(static_cast<double>(i) * (0.37 + 0.01 * key) + key)));
  }
  return {values, shape};
}

/// Evaluated on the CPU and on the GPU in software.
template <typename Program>
void expect_same(const Program& program, double tolerance = 2e-5) {
  const Device gpu = gpu_sim::use_sim_backend();
  std::vector<std::vector<float>> values[2];
  for (const Device& device : {Device::cpu(), gpu}) {
    const Device before = default_device();
    set_default_device(device);
    std::vector<Tensor> outputs = program();
    eval(outputs);
    for (const Tensor& output : outputs) {
      values[device == gpu ? 1 : 0].push_back(output.astype(DType::kF32).to_vector<float>());
    }
    set_default_device(before);
  }
  ASSERT_EQ(values[0].size(), values[1].size());
  for (std::size_t i = 0; i < values[0].size(); ++i) {
    ASSERT_EQ(values[0][i].size(), values[1][i].size());
    for (std::size_t j = 0; j < values[0][i].size(); ++j) {
      ASSERT_NEAR(values[0][i][j], values[1][i][j],
                  tolerance * std::max(1.0f, std::fabs(values[0][i][j])))
          << "output " << i << " at " << j;
    }
  }
}

TEST(GpuPrograms, ManyParametersUpdatedAtOnce) {
  expect_same([] {
    std::vector<Tensor> outputs;
    for (int i = 0; i < 40; ++i) {
      const Tensor g = some({3 + i, 5}, i), m = some({3 + i, 5}, i + 50) * 0.1;
      const Tensor first = m * 0.9 + g * 0.1;
      outputs.push_back(first);
      outputs.push_back(g - first * 0.01);
    }
    return outputs;
  });
}

TEST(GpuPrograms, DecodingALayer) {
  expect_same([] {
    const Tensor x = some({1, 64}, 1);
    const auto weight = [](std::int64_t columns, int key) {
      return (some({columns, 64}, key) * 0.2).transpose().eval();
    };
    const Tensor q = matmul(x, weight(96, 2)), k = matmul(x, weight(32, 3));
    const Tensor v = matmul(x, weight(32, 4)), gate = matmul(x, weight(80, 5));
    const Tensor up = matmul(x, weight(80, 6));
    return std::vector<Tensor>{q, k * v, silu(gate) * up, softmax(k, -1)};
  });
}

TEST(GpuPrograms, GradientsOfLayers) {
  expect_same(
      [] {
        std::vector<Tensor> parameters;
        for (int i = 0; i < 4; ++i) {
          parameters.push_back((some({24, 8}, i) * 0.3).eval());
          parameters.push_back((some({8, 24}, i + 9) * 0.3).eval());
        }
        const auto loss = [](const std::vector<Tensor>& p) {
          Tensor h = some({6, 24}, 30);
          for (std::size_t i = 0; i < p.size(); i += 2) {
            h = h + gelu(rms_norm(matmul(matmul(h, p[i]), p[i + 1]), Tensor(), 1e-5f));
          }
          return mean(h * h);
        };
        return grad(loss)(parameters);
      },
      1e-3);
}

// Whose first output may be written over what they read, while the other is still summed.
TEST(GpuPrograms, GradientsOfNormsAndTheirWeights) {
  for (const std::int64_t columns : {24, 301, 20000}) {
    expect_same(
        [columns] {
          const std::vector<Tensor> parameters = {
              some({6, columns}, 1).eval(), some({columns}, 2).eval(), some({columns}, 3).eval()};
          const auto loss = [](const std::vector<Tensor>& p) {
            const Tensor h = rms_norm(cumsum(p[0], 0), p[1]);
            return mean(sin(layer_norm(h, p[2], p[1])));
          };
          return grad(loss)(parameters);
        },
        1e-3);
  }
}

}  // namespace
}  // namespace metal_candle
