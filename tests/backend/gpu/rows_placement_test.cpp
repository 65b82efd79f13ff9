// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels over rows and columns give the same bits over an operand as beside it, and the same
// values wherever operands begin.
#include <gtest/gtest.h>

#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

struct Case {
  Operation operation;
  std::vector<HostTensor> inputs;
};

std::vector<Case> cases(const Shape& shape, DType dtype) {
  const HostTensor x = random_operand(shape, dtype, 1), dy = random_operand(shape, dtype, 2);
  const HostTensor weight = random_operand({shape.back()}, dtype, 3);
  HostTensor rows(Shape{shape[0], shape[1]}, DType::kF32);
  HostTensor targets(rows.shape(), DType::kI32);
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    rows.r(i) = 3;
    targets.n(i) = i % shape.back();
  }
  const HostTensor offset = HostTensor::of_integers(Shape{}, {5});
  const HostTensor frequencies = HostTensor::of(Shape{2}, {1, 0.25});
  return {{op::Softmax{2}, {x}},
          {op::Softmax{1}, {x}},
          {op::LogSoftmax{2}, {x}},
          {op::SoftmaxBackward{2}, {x, dy}},
          {op::SoftmaxBackward{0}, {x, dy}},
          {op::RmsNorm{1e-5f}, {x, weight}},
          {op::LayerNorm{1e-5f}, {x, weight, weight}},
          {op::RmsNormBackward{1e-5f}, {x, dy}},
          {op::LayerNormBackward{1e-5f}, {x, dy}},
          {op::CrossEntropyBackward{-1}, {x, targets, rows, rows}},
          {op::Cumulative{ReduceKind::kSum, 2, false}, {x}},
          {op::Cumulative{ReduceKind::kSum, 1, true}, {x}},
          {op::Rope{4, false, false, 1.0f}, {x, offset, frequencies}},
          {op::Rope{4, true, true, 1.0f}, {x, offset, frequencies}}};
}

TEST(GpuRowsPlacement, OverAnOperandAsBesideIt) {
  const backend::gpu::GpuBackend& backend = gpu_sim::sim_backend();
  for (const Shape& shape : {Shape{2, 3, 8}, Shape{2, 3, 301}, Shape{1, 2, 20000}}) {
    for (const Case& c : cases(shape, DType::kF32)) {
      SCOPED_TRACE(to_string(c.operation) + to_string(shape));
      std::vector<const HostTensor*> inputs;
      for (const HostTensor& input : c.inputs) inputs.push_back(&input);
      const HostTensor apart = run_gpu_kernel_at(c.operation, inputs, inputs[0]->spec, {});
      for (int i = 0; i < static_cast<int>(inputs.size()); ++i) {
        const bool same = inputs[static_cast<std::size_t>(i)]->spec == inputs[0]->spec;
        if (!same || !backend.can_run_in_place(c.operation, i, 0)) continue;
        const HostTensor over =
            run_gpu_kernel_at(c.operation, inputs, inputs[0]->spec, {.in_place = i});
        EXPECT_EQ(apart.real, over.real) << i;
      }
    }
  }
}

TEST(GpuRowsPlacement, WhereverOperandsBegin) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Shape& shape : {Shape{2, 3, 8}, Shape{2, 3, 400}, Shape{1, 2, 20000}}) {
      for (const Case& c : cases(shape, dtype)) {
        SCOPED_TRACE(to_string(c.operation) + to_string(shape));
        std::vector<const HostTensor*> inputs;
        for (const HostTensor& input : c.inputs) inputs.push_back(&input);
        const HostTensor aligned = run_gpu_kernel_at(c.operation, inputs, inputs[0]->spec, {});
        const HostTensor shifted =
            run_gpu_kernel_at(c.operation, inputs, inputs[0]->spec, {.shift = 1});
        const double epsilon = dtype == DType::kF32 ? 1e-5 : 8e-3;
        EXPECT_TRUE(all_close(shifted, aligned, Tolerance{epsilon, epsilon}));
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
