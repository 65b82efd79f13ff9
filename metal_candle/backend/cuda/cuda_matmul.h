// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products by cuBLASLt. The algorithm for operands where packets of 16 bytes begin is chosen
// when a product is made; that for others, of which most products never see any, when they come.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "metal_candle/backend/cuda/libraries.h"
#include "metal_candle/backend/gpu/gpu_device.h"

namespace metal_candle::backend::cuda {

class CudaDevice;

class CudaMatmul final : public gpu::Matmul {
 public:
  /// Null if cuBLASLt has no such product.
  static std::shared_ptr<const CudaMatmul> make(CudaDevice& device,
                                                const gpu::MatmulDescription& description);
  ~CudaMatmul() override;
  CudaMatmul(const CudaMatmul&) = delete;
  CudaMatmul& operator=(const CudaMatmul&) = delete;

  /// Chooses the algorithm for such operands, if that has not been done. run() does too, but it may
  /// be called while a stream is captured, and is told on the thread that encodes if there is none.
  void prepare(const gpu::MatmulOperands& operands) const { algorithm(operands); }
  void run(const gpu::MatmulOperands& operands, CUstream stream) const;

 private:
  struct Choice {
    std::once_flag made;
    cublasLtMatmulAlgo_t algorithm{};
  };

  CudaMatmul(CudaDevice& device, const gpu::MatmulDescription& description);
  std::optional<cublasLtMatmulHeuristicResult_t> choose(std::size_t alignment,
                                                        std::size_t most_workspace) const;
  const cublasLtMatmulAlgo_t& algorithm(const gpu::MatmulOperands& operands) const;
  [[nodiscard]] std::string describe() const;

  CudaDevice& device_;
  gpu::MatmulDescription description_;
  cublasLtMatrixLayout_t a_ = nullptr;
  cublasLtMatrixLayout_t b_ = nullptr;
  cublasLtMatrixLayout_t out_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  std::int64_t wanted_ = 0;  // Which of the library's suggestions.
  mutable Choice aligned_;
  mutable Choice unaligned_;  // For operands that begin anywhere.
};

/// Products by description: plans, and layers of one, ask for the same again. Thread safe.
class ProductCache {
 public:
  /// Null if cuBLASLt has no such product.
  std::shared_ptr<const CudaMatmul> find_or_make(CudaDevice& device,
                                                 const gpu::MatmulDescription& description);

 private:
  // Those in use are kept by who uses them.
  static constexpr std::size_t kCapacity = 1024;
  using Key = std::array<std::int64_t, 20>;
  static Key key_of(CudaDevice& device, const gpu::MatmulDescription& description);

  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const CudaMatmul>> products_;
};

}  // namespace metal_candle::backend::cuda
