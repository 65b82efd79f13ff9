// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Products by simdgroup matrices: every tile, layout, epilogue and pair of types, against sums in
// double.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/metal/kernels/arguments.h"
#include "metal_candle/backend/metal/metal_backend.h"
#include "metal_candle/backend/metal/metal_matmul.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/backend/metal/registered_backend.h"
#include "tests/metal_sim/metal_sim.h"

namespace metal_candle::backend::metal {
namespace {

using gpu::MatmulDescription;

float load(const void* base, std::int64_t i, DType dtype) {
  if (dtype == DType::kF16) return static_cast<float>(static_cast<const Float16*>(base)[i]);
  if (dtype == DType::kBF16) return static_cast<float>(static_cast<const BFloat16*>(base)[i]);
  return static_cast<const float*>(base)[i];
}
void store(void* base, std::int64_t i, DType dtype, float x) {
  if (dtype == DType::kF16) {
    static_cast<Float16*>(base)[i] = Float16(x);
  } else if (dtype == DType::kBF16) {
    static_cast<BFloat16*>(base)[i] = BFloat16(x);
  } else {
    static_cast<float*>(base)[i] = x;
  }
}

double activated(double x, op::Activation activation) {
  switch (activation) {
    case op::Activation::kRelu:
      return std::max(x, 0.0);
    case op::Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case op::Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case op::Activation::kSilu:
      return x / (1 + std::exp(-x));
    default:
      return x;
  }
}

struct Operand {
  BufferPtr buffer;
  std::size_t offset = 0;  // Bytes.
  DType dtype = DType::kF32;

  [[nodiscard]] void* host() const { return static_cast<std::byte*>(buffer->contents()) + offset; }
  [[nodiscard]] void* device() const {
    return reinterpret_cast<void*>(static_cast<const MetalBuffer&>(*buffer).device_address() +
                                   offset);
  }
};

class Products : public ::testing::Test {
 protected:
  static MetalBackend& backend() {
    static auto* instance = new MetalBackend(0);
    return *instance;
  }

  Operand random(std::int64_t count, DType dtype, std::int64_t shift = 0) {
    std::uniform_real_distribution<float> values(-1, 1);
    const std::size_t size = size_of(dtype);
    Operand operand{backend().allocate(static_cast<std::size_t>(count + shift) * size),
                    static_cast<std::size_t>(shift) * size, dtype};
    for (std::int64_t i = 0; i < count; ++i) store(operand.host(), i, dtype, values(engine_));
    return operand;
  }

  /// Runs the product on random operands that begin `shift` elements off, and once more.
  void check(MatmulDescription d, std::int64_t shift = 0, const ProductTile* tile = nullptr,
             std::int64_t parts = 1) {
    SCOPED_TRACE(::testing::Message()
                 << d.batch << " x [" << d.m << ", " << d.k << "] @ [" << d.k << ", " << d.n << "] "
                 << name(d.operands) << " to " << name(d.out) << ", strides " << d.a.row_stride
                 << " " << d.a.column_stride << ", " << d.b.row_stride << " " << d.b.column_stride);
    d.out_row_stride = d.n;
    d.out_batch_stride = d.m * d.n;
    const auto extent = [&](const MatmulDescription::Matrix& matrix, std::int64_t rows,
                            std::int64_t columns) {
      return (d.batch - 1) * matrix.batch_stride + (rows - 1) * matrix.row_stride +
             (columns - 1) * matrix.column_stride + 1;
    };
    const Operand a = random(extent(d.a, d.m, d.k), d.operands, shift);
    const Operand b = random(extent(d.b, d.k, d.n), d.operands, shift);
    const Operand bias = random(d.n, d.out), c = random(d.batch * d.m * d.n, d.out);
    const Operand out = random(d.batch * d.m * d.n, d.out);
    auto& device = static_cast<MetalDevice&>(backend().gpu());
    const auto product = tile == nullptr ? MetalMatmul::make(device, d)
                                         : MetalMatmul::make(device, d, {tile, parts});
    ASSERT_NE(product, nullptr);
    const Operand again = random(d.batch * d.m * d.n, d.out);
    const std::size_t scratch_bytes = gpu::round_up(product->scratch_bytes(), 256);
    EXPECT_EQ(scratch_bytes > 0, parts > 1);
    const Operand scratch{backend().allocate(2 * scratch_bytes)};
    run([&](gpu::Encoder& encoder) {
      // Both at once.
      encoder.concurrently(true);
      for (const Operand* to : {&out, &again}) {
        encoder.matmul(*product, {.a = a.device(),
                                  .b = b.device(),
                                  .bias = d.has_bias ? bias.device() : nullptr,
                                  .c = c.device(),
                                  .out = to->device(),
                                  .scratch = static_cast<std::byte*>(scratch.device()) +
                                             (to == &out ? 0 : scratch_bytes)});
      }
      encoder.concurrently(false);
    });
    EXPECT_EQ(std::memcmp(out.host(), again.host(),
                          static_cast<std::size_t>(d.batch * d.m * d.n) * size_of(d.out)),
              0);
    const double unit = d.out == DType::kF16 ? 1e-3 : d.out == DType::kBF16 ? 8e-3 : 1e-6;
    for (std::int64_t batch = 0; batch < d.batch; ++batch) {
      for (std::int64_t i = 0; i < d.m; ++i) {
        for (std::int64_t j = 0; j < d.n; ++j) {
          double sum = 0;
          for (std::int64_t l = 0; l < d.k; ++l) {
            sum +=
                double{load(a.host(),
                            batch * d.a.batch_stride + i * d.a.row_stride + l * d.a.column_stride,
                            d.operands)} *
                load(b.host(),
                     batch * d.b.batch_stride + l * d.b.row_stride + j * d.b.column_stride,
                     d.operands);
          }
          const std::int64_t at = batch * d.out_batch_stride + i * d.n + j;
          double y = d.alpha * sum + (d.has_bias ? load(bias.host(), j, d.out) : 0);
          if (d.beta != 0) y += d.beta * load(c.host(), at, d.out);
          y = activated(y, d.activation);
          const double tolerance = unit * (std::fabs(y) + 1) * std::sqrt(double(d.k) + 8);
          ASSERT_NEAR(load(out.host(), at, d.out), y, tolerance) << "at " << i << ", " << j;
        }
      }
    }
  }

  template <typename Fn>
  void run(Fn encode) {
    const StepLabel label{"product", "", 0, 0, {}, DType::kF32};
    const auto kernel = gpu::make_gpu_kernel(
        [&](const gpu::KernelArguments&, gpu::Encoder& encoder) { encode(encoder); });
    auto buffer = backend().queue(0).make_command_buffer();
    buffer->encode(*kernel, {}, {}, {}, label);
    backend().queue(0).run_inline(buffer);
  }

  std::mt19937 engine_{7};
};

TEST_F(Products, OfEveryTileAndLayout) {
  const std::int64_t shapes[][3] = {{1, 1, 1},    {5, 70, 40},  {13, 130, 33}, {70, 5, 24},
                                    {33, 66, 17}, {64, 64, 64}, {70, 100, 9},  {40, 33, 0}};
  for (const auto& [m, n, k] : shapes) {
    for (int layout = 0; layout < 4; ++layout) {
      MatmulDescription d;
      d.m = m, d.n = n, d.k = k;
      // Rows or columns dense, and some elements apart.
      const std::int64_t gap = layout == 3 ? 3 : 0;
      d.a = (layout & 1) == 0 ? MatmulDescription::Matrix{k + gap, 1, 0}
                              : MatmulDescription::Matrix{1, m + gap, 0};
      d.b = (layout & 2) == 0 ? MatmulDescription::Matrix{n, 1, 0}
                              : MatmulDescription::Matrix{1, k + 2 * gap, 0};
      d.operands = d.out = DType::kF32;
      for (const ProductTile& tile : product_tiles()) {
        SCOPED_TRACE(tile.name);
        check(d, 0, &tile);
      }
    }
  }
}

TEST_F(Products, OfEveryPairOfTypes) {
  const std::pair<DType, DType> pairs[] = {{DType::kF32, DType::kF32},
                                           {DType::kF16, DType::kF16},
                                           {DType::kF16, DType::kF32},
                                           {DType::kBF16, DType::kBF16},
                                           {DType::kBF16, DType::kF32}};
  for (const auto& [operands, out] : pairs) {
    for (const std::int64_t m : {3, 12, 40}) {
      for (const std::int64_t n : {6, 72}) {
        for (const std::int64_t shift : {0, 1}) {
          MatmulDescription d;
          d.m = m, d.n = n, d.k = 48;
          d.a = {48, 1, 0};
          d.b = m == 12 ? MatmulDescription::Matrix{1, 48, 0} : MatmulDescription::Matrix{n, 1, 0};
          d.operands = operands, d.out = out;
          for (const ProductTile& tile : product_tiles()) check(d, shift, &tile);
        }
      }
    }
  }
}

TEST_F(Products, WithEveryEpilogue) {
  using enum op::Activation;
  for (const op::Activation activation : {kNone, kRelu, kGelu, kGeluTanh, kSilu}) {
    for (const bool has_bias : {false, true}) {
      for (const float beta : {0.0f, 1.0f, 0.5f}) {
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          MatmulDescription d;
          d.m = 10, d.n = 20, d.k = 30;
          d.a = {30, 1, 0}, d.b = {20, 1, 0};
          d.operands = d.out = dtype;
          d.alpha = 0.5f, d.beta = beta, d.has_bias = has_bias, d.activation = activation;
          check(d);
        }
      }
    }
  }
}

TEST_F(Products, DividedAlongTheirDepth) {
  const std::int64_t shapes[][4] = {
      {3, 70, 517, 2}, {1, 9, 1000, 7}, {65, 5, 96, 3}, {40, 33, 640, 16}};
  const std::pair<DType, DType> pairs[] = {{DType::kF32, DType::kF32},
                                           {DType::kF16, DType::kF16},
                                           {DType::kBF16, DType::kBF16},
                                           {DType::kBF16, DType::kF32}};
  std::size_t number = 0;
  for (const auto& [m, n, k, parts] : shapes) {
    for (const auto& [operands, out] : pairs) {
      for (const bool dense_rows : {true, false}) {
        MatmulDescription d;
        d.batch = dense_rows ? 1 : 3, d.m = m, d.n = n, d.k = k;
        d.a = dense_rows ? MatmulDescription::Matrix{k, 1, 0}
                         : MatmulDescription::Matrix{1, m, m * k};
        d.b = dense_rows ? MatmulDescription::Matrix{1, k, 0}
                         : MatmulDescription::Matrix{n, 1, n * k};
        d.operands = operands, d.out = out;
        d.alpha = 0.5f, d.beta = dense_rows ? 0.25f : 0.0f, d.has_bias = dense_rows;
        d.activation = dense_rows ? op::Activation::kSilu : op::Activation::kNone;
        check(d, 0, &product_tiles()[number++ % product_tiles().size()], parts);
      }
    }
  }
}

TEST_F(Products, OfBatches) {
  MatmulDescription d;
  d.batch = 5, d.m = 9, d.n = 70, d.k = 20;
  d.a = {20, 1, 180}, d.b = {70, 1, 1400};
  check(d);
  d.b.batch_stride = 0;  // One for all.
  check(d);
}

// Deep and thin, two at once, with the scratch that a plan gives them.
TEST(MetalProductPlans, ThinProductsAgreeWithTheCpu) {
  const Device devices[] = {Device::cpu(), registered_backend().device()};
  std::vector<std::vector<float>> values[2];
  for (std::size_t i = 0; i < 2; ++i) {
    const Device before = default_device();
    set_default_device(devices[i]);
    const auto some = [](const Shape& shape, double frequency) {
      return sin(arange(num_elements(shape)).astype(DType::kF32) * frequency).reshape(shape).eval();
    };
    const Tensor x = some({1500, 9}, 0.3).transpose(), w = some({1500, 70}, 0.7);
    const Tensor other = some({1500, 70}, 0.11), bias = some({70}, 0.5);
    std::vector<Tensor> outputs = {matmul(x, w), relu(matmul(x, other) * 0.1 + bias)};
    const std::uint64_t dispatches = metal_sim::statistics().dispatches;
    eval(outputs);
    // Both as one, and both sums as one.
    EXPECT_EQ(metal_sim::statistics().dispatches - dispatches, 2 * i);
    for (const Tensor& output : outputs) values[i].push_back(output.to_vector<float>());
    set_default_device(before);
  }
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(values[0][i].size(), values[1][i].size());
    for (std::size_t j = 0; j < values[0][i].size(); ++j) {
      ASSERT_NEAR(values[0][i][j], values[1][i][j], 1e-3) << j;
    }
  }
}

TEST_F(Products, ZerosOfAnyLengthAndPlace) {
  for (const std::size_t bytes : {1, 15, 16, 17, 100, 5000}) {
    for (const std::size_t offset : {0, 1, 15, 16}) {
      const BufferPtr buffer = backend().allocate(6000);
      std::memset(buffer->contents(), 0x5a, 6000);
      run([&](gpu::Encoder& encoder) {
        encoder.zero(reinterpret_cast<void*>(
                         static_cast<const MetalBuffer&>(*buffer).device_address() + offset),
                     bytes);
      });
      const auto* contents = static_cast<const char*>(buffer->contents());
      for (std::size_t i = 0; i < 6000; ++i) {
        const bool inside = i >= offset && i < offset + bytes;
        ASSERT_EQ(contents[i], inside ? 0 : 0x5a) << bytes << " bytes at " << offset << ": " << i;
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::metal
