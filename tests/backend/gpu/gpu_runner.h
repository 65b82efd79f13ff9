// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs one GPU kernel in software (tests/gpu_sim) on operands laid out in any way it accepts, and
// compares it with the reference interpreter.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/graph/shape_rules.h"
#include "tests/backend/kernel_runner.h"
#include "tests/gpu_sim/sim_backend.h"
#include "tests/support/host_tensor.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {

/// All outputs of the operation, those that are not needed empty.
inline std::vector<HostTensor> run_gpu_kernel(const Operation& operation,
                                              std::span<const HostTensor* const> hosts,
                                              std::span<const TensorSpec> specs,
                                              std::vector<char> needed = {},
                                              Placement placement = Placement::kContiguous,
                                              std::uint32_t seed = 1) {
  backend::gpu::GpuBackend& backend = gpu_sim::sim_backend();
  std::mt19937 random(seed);
  std::vector<PlacedTensor> inputs;
  std::vector<TensorLayout> layouts;
  std::vector<void*> addresses;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const backend::InputLayout layout = backend.input_layout(operation, static_cast<int>(i));
    Placement where = Placement::kContiguous;
    if (placement != Placement::kContiguous) {
      if (layout == backend::InputLayout::kAny && placement != Placement::kColumns) {
        where = placement;
      }
      if (layout == backend::InputLayout::kMatrix && placement == Placement::kColumns) {
        where = placement;
      }
      if (layout == backend::InputLayout::kDenseRows && placement != Placement::kColumns)
        where = Placement::kScatteredRows;
    }
    inputs.push_back(place(*hosts[i], where, random));
  }
  for (PlacedTensor& input : inputs) {
    layouts.push_back(input.layout);
    addresses.push_back(const_cast<void*>(input.address()));
  }
  if (needed.empty()) needed.assign(specs.size(), 1);
  std::vector<TensorLayout> outputs;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    outputs.push_back(TensorLayout::contiguous(specs[i]));
    const int rank = specs[i].shape.rank();
    if (placement == Placement::kContiguous || rank < 3 ||
        !backend.writes_rows_anywhere(operation, static_cast<int>(i))) {
      continue;
    }
    // The axis before the rows and theirs in the other order, as heads lie that are to be joined.
    Strides& strides = outputs.back().strides;
    strides[rank - 3] = specs[i].shape[rank - 1];
    strides[rank - 2] = specs[i].shape[rank - 3] * specs[i].shape[rank - 1];
  }
  const std::span<const bool> flags(reinterpret_cast<const bool*>(needed.data()), needed.size());
  const auto kernel = backend.make_kernel({operation, layouts, outputs, flags});

  // Guard bytes on both sides show whether the kernel wrote beyond an output.
  constexpr std::size_t kGuard = 64;
  std::vector<std::vector<std::byte>> memories;
  std::vector<void*> results;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    memories.emplace_back(specs[i].bytes() + 2 * kGuard, std::byte{0xa5});
    results.push_back(needed[i] != 0 ? memories.back().data() + kGuard : nullptr);
  }
  std::vector<std::byte> scratch(kernel->scratch_bytes() + 1, std::byte{0xff});
  gpu_sim::SimEncoder encoder;
  static_cast<const backend::gpu::GpuKernel&>(*kernel).encode({addresses, results, scratch.data()},
                                                              encoder);
  std::vector<HostTensor> values;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    for (std::size_t j = 0; j < kGuard; ++j) {
      EXPECT_EQ(memories[i][j], std::byte{0xa5}) << "before output " << i;
      EXPECT_EQ(memories[i][memories[i].size() - 1 - j], std::byte{0xa5}) << "after output " << i;
    }
    values.push_back(needed[i] != 0 ? read_laid_out(memories[i].data() + kGuard, outputs[i])
                                    : HostTensor{});
  }
  return values;
}

/// Runs it and expects what the reference interpreter says. `requested` is what the shape rule asks
/// for where the inputs do not say the output (Cast, Reshape, Broadcast...).
inline void expect_gpu_matches(const Operation& operation, std::span<const HostTensor* const> hosts,
                               const TensorSpec& requested = {},
                               std::optional<Tolerance> tolerance = {},
                               Placement placement = Placement::kContiguous,
                               std::uint32_t seed = 1) {
  std::vector<const TensorSpec*> specs;
  for (const HostTensor* host : hosts) specs.push_back(&host->spec);
  const OutputSpecs outputs = infer_outputs(operation, specs, requested);
  std::vector<TensorSpec> output_specs(outputs.specs.begin(),
                                       outputs.specs.begin() + outputs.count);
  const std::vector<HostTensor> expected = interpret_operation(operation, hosts, output_specs[0]);
  const std::vector<HostTensor> actual =
      run_gpu_kernel(operation, hosts, output_specs, {}, placement, seed);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_TRUE(all_close(actual[i], expected[i],
                          tolerance.value_or(default_tolerance(expected[i].dtype()))))
        << to_string(operation) << ", output " << i;
  }
}

}  // namespace metal_candle::testing
