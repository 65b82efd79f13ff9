// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt's place, beside driver.cpp: products are launches that compute nothing.
#include <cublasLt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/cuda_sim/control.h"

struct Preference {
  std::size_t workspace = 0;
  std::uint32_t alignment = 0;
};

namespace {

// What each algorithm takes, if it may have that much.
constexpr std::size_t kWorkspace = 4096;

template <typename T>
cublasStatus_t make(T* out) {
  static int any;
  *out = reinterpret_cast<T>(&any);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

metal_candle::cuda_sim::Products& metal_candle_cuda_sim_products() {
  static metal_candle::cuda_sim::Products products;
  return products;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return make(handle); }
std::size_t cublasLtGetVersion() { return 130100; }
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void*,
                              cublasLtMatrixLayout_t, const void*, cublasLtMatrixLayout_t,
                              const void*, const void*, cublasLtMatrixLayout_t, void*,
                              cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t* algorithm, void*,
                              std::size_t, cudaStream_t) {
  auto& products = metal_candle_cuda_sim_products();
  ++products.run;
  products.alignment_run = static_cast<std::uint32_t>(algorithm->data[0]);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t,
                                        cudaDataType_t) {
  return make(description);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t,
                                              const void*, std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType,
                                          std::uint64_t, std::uint64_t, std::int64_t) {
  return make(layout);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t,
                                                cublasLtMatrixLayoutAttribute_t, const void*,
                                                std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete reinterpret_cast<Preference*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void* value, std::size_t size) {
  auto& mine = *reinterpret_cast<Preference*>(preference);
  if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    std::memcpy(&mine.workspace, value, size);
  } else if (which == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES) {
    std::memcpy(&mine.alignment, value, size);
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  const auto& mine = *reinterpret_cast<const Preference*>(preference);
  auto& products = metal_candle_cuda_sim_products();
  ++products.asked;
  products.workspace_allowed = mine.workspace;
  std::memset(results, 0, sizeof(*results));
  results->algo.data[0] = mine.alignment;
  results->workspaceSize = std::min(mine.workspace, kWorkspace);
  *count = mine.alignment >= products.least_alignment ? 1 : 0;
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
