// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A CPU kernel called without graph, plan or queue: the floor under an evaluation.
#pragma once

#include <memory>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle::bench {

class DirectKernel {
 public:
  /// Inputs are evaluated and contiguous. Allocates outputs and scratch once.
  DirectKernel(const Operation& operation, const std::vector<Tensor>& inputs,
               const std::vector<TensorSpec>& outputs);
  void run() const;

 private:
  std::vector<Tensor> inputs_;
  std::vector<StoragePtr> storages_;
  std::vector<const void*> input_addresses_;
  std::vector<void*> output_addresses_;
  void* scratch_ = nullptr;
  std::unique_ptr<backend::Kernel> kernel_;
};

}  // namespace metal_candle::bench
