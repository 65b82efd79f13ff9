// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products by cuBLASLt, with the algorithm chosen when the product is made.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "metal_candle/backend/cuda/libraries.h"
#include "metal_candle/backend/gpu/gpu_device.h"

namespace metal_candle::backend::cuda {

class CudaDevice;

class CudaMatmul final : public gpu::Matmul {
 public:
  /// Null if cuBLASLt has no such product.
  static std::unique_ptr<CudaMatmul> make(CudaDevice& device,
                                          const gpu::MatmulDescription& description);
  ~CudaMatmul() override;
  CudaMatmul(const CudaMatmul&) = delete;
  CudaMatmul& operator=(const CudaMatmul&) = delete;

  void run(const gpu::MatmulOperands& operands, CUstream stream) const;

 private:
  CudaMatmul(CudaDevice& device, const gpu::MatmulDescription& description);
  static std::optional<cublasLtMatmulHeuristicResult_t> choose(CudaDevice& device,
                                                               const CudaMatmul& product,
                                                               std::size_t alignment);

  CudaDevice& device_;
  gpu::MatmulDescription description_;
  cublasLtMatrixLayout_t a_ = nullptr;
  cublasLtMatrixLayout_t b_ = nullptr;
  cublasLtMatrixLayout_t out_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulAlgo_t aligned_{};
  cublasLtMatmulAlgo_t unaligned_{};  // For operands that begin anywhere.
};

}  // namespace metal_candle::backend::cuda
