// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cuda_matmul.h. cuBLASLt's matrices are column-major, ours are row-major, and a row-major
// matrix is the transpose of a column-major one in the same memory: so this computes out^T = b^T
// a^T.
#include "metal_candle/backend/cuda/cuda_matmul.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "metal_candle/backend/cuda/cuda_device.h"

namespace metal_candle::backend::cuda {
namespace {

// More than any algorithm asks for on Hopper, where the library's own advice is 32 MiB.
constexpr std::size_t kMaxWorkspace = std::size_t{32} << 20;

// What fast algorithms need; operands in the middle of a tensor may have less.
constexpr std::size_t kAlignment = 16;

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

// What lies in memory with rows of `rows` x `columns`, as the column-major matrix whose transpose
// it is, or which it is.
struct Orientation {
  bool transposed;  // The operand is the transpose of the column-major matrix in memory.
  std::int64_t rows, columns, leading;
};

// The operand X^T (columns x rows) of a product, where X is row-major with these strides.
bool orient(const gpu::MatmulDescription::Matrix& matrix, std::int64_t rows, std::int64_t columns,
            Orientation* out) {
  // Of an axis of length 1 the stride does not matter.
  const bool row_major =
      (matrix.column_stride == 1 || columns == 1) && (matrix.row_stride >= columns || rows == 1);
  if (row_major) {
    *out = {false, columns, rows, rows == 1 ? columns : matrix.row_stride};
    return true;
  }
  const bool column_major =
      (matrix.row_stride == 1 || rows == 1) && (matrix.column_stride >= rows || columns == 1);
  if (column_major) *out = {true, rows, columns, columns == 1 ? rows : matrix.column_stride};
  return column_major;
}

bool epilogue(const gpu::MatmulDescription& d, cublasLtEpilogue_t* out) {
  switch (d.activation) {
    case op::Activation::kNone:
      *out = d.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
      return true;
    case op::Activation::kRelu:
      *out = d.has_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
      return true;
    case op::Activation::kGeluTanh:
      *out = d.has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
      return true;
    default:
      return false;
  }
}

template <typename T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t which, const T& value) {
  check(cublas_lt().cublasLtMatmulDescSetAttribute(operation, which, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute");
}

cublasLtMatrixLayout_t make_layout(DType dtype, const Orientation& matrix, std::int64_t batch,
                                   std::int64_t batch_stride) {
  const CublasLt& library = cublas_lt();
  cublasLtMatrixLayout_t layout = nullptr;
  check(library.cublasLtMatrixLayoutCreate(
            &layout, data_type(dtype), static_cast<std::uint64_t>(matrix.rows),
            static_cast<std::uint64_t>(matrix.columns), matrix.leading),
        "cublasLtMatrixLayoutCreate");
  if (batch > 1) {
    const auto count = static_cast<std::int32_t>(batch);
    check(library.cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                   &count, sizeof(count)),
          "cublasLtMatrixLayoutSetAttribute");
    check(library.cublasLtMatrixLayoutSetAttribute(layout,
                                                   CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                   &batch_stride, sizeof(batch_stride)),
          "cublasLtMatrixLayoutSetAttribute");
  }
  return layout;
}

}  // namespace

CudaMatmul::CudaMatmul(CudaDevice& device, const gpu::MatmulDescription& description)
    : device_(device), description_(description) {}

std::unique_ptr<CudaMatmul> CudaMatmul::make(CudaDevice& device, const gpu::MatmulDescription& d) {
  const CublasLt& library = cublas_lt();
  device.enter();
  Orientation a;
  Orientation b;
  cublasLtEpilogue_t kind = CUBLASLT_EPILOGUE_DEFAULT;
  if (!orient(d.a, d.m, d.k, &a) || !orient(d.b, d.k, d.n, &b) || !epilogue(d, &kind)) {
    return nullptr;
  }
  // What the library does not multiply in packets of 16 bytes, it rounds before the epilogue.
  const auto packet = static_cast<std::int64_t>(kAlignment / size_of(d.operands));
  const bool in_packets =
      a.leading % packet == 0 && b.leading % packet == 0 && d.out_row_stride % packet == 0;
  if (kind != CUBLASLT_EPILOGUE_DEFAULT && size_of(d.operands) == 2 && !in_packets) return nullptr;
  std::unique_ptr<CudaMatmul> product(new CudaMatmul(device, d));
  // b^T [n, k] is the first factor, a^T [k, m] the second.
  product->a_ = make_layout(d.operands, b, d.batch, d.b.batch_stride);
  product->b_ = make_layout(d.operands, a, d.batch, d.a.batch_stride);
  product->out_ =
      make_layout(d.out, {false, d.n, d.m, d.out_row_stride}, d.batch, d.out_batch_stride);
  check(library.cublasLtMatmulDescCreate(&product->operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const auto operation_of = [](const Orientation& matrix) {
    return matrix.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  set(product->operation_, CUBLASLT_MATMUL_DESC_TRANSA, operation_of(b));
  set(product->operation_, CUBLASLT_MATMUL_DESC_TRANSB, operation_of(a));
  set(product->operation_, CUBLASLT_MATMUL_DESC_EPILOGUE, kind);
  if (d.has_bias) {
    set(product->operation_, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(d.out));
  }

  const auto aligned = choose(device, *product, kAlignment);
  const auto unaligned = choose(device, *product, size_of(d.operands));
  if (!aligned || !unaligned) return nullptr;
  product->aligned_ = aligned->algo;
  product->unaligned_ = unaligned->algo;
  product->scratch_bytes_ = std::max(aligned->workspaceSize, unaligned->workspaceSize);
  return product;
}

// The library's best guess for operands that begin at multiples of `alignment` bytes, or that of
// its next ones which tuning chose.
std::optional<cublasLtMatmulHeuristicResult_t> CudaMatmul::choose(CudaDevice& device,
                                                                  const CudaMatmul& product,
                                                                  std::size_t alignment) {
  const CublasLt& library = cublas_lt();
  cublasLtMatmulPreference_t preference = nullptr;
  check(library.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
    check(library.cublasLtMatmulPreferenceSetAttribute(preference, which, &value, sizeof(value)),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMaxWorkspace);
  // Parts of a sum are added up in f32: none is rounded to the output's dtype before.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto which :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    prefer(which, static_cast<std::uint32_t>(alignment));
  }
  const gpu::MatmulDescription& d = product.description_;
  const auto form = static_cast<std::int64_t>((d.a.row_stride == 1 ? 1 : 0) +
                                              (d.b.row_stride == 1 ? 2 : 0) + 4 * d.batch);
  const std::int64_t wanted = device.tuning().get(
      Tunable::kGpuProductAlgorithm,
      [&] {
        return ShapeClass{d.operands, {d.m, d.n, d.k}, form};
      },
      0);
  constexpr int kMostAlgorithms = 8;
  std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms> found{};
  const int asked = static_cast<int>(std::clamp<std::int64_t>(wanted, 0, kMostAlgorithms - 1)) + 1;
  int count = 0;
  const cublasStatus_t status = library.cublasLtMatmulAlgoGetHeuristic(
      device.cublas(), product.operation_, product.a_, product.b_, product.out_, product.out_,
      preference, asked, found.data(), &count);
  library.cublasLtMatmulPreferenceDestroy(preference);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0)) {
    return {};
  }
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  return found[static_cast<std::size_t>(std::min(asked, count) - 1)];
}

CudaMatmul::~CudaMatmul() {
  const CublasLt& library = cublas_lt();
  if (a_ != nullptr) library.cublasLtMatrixLayoutDestroy(a_);
  if (b_ != nullptr) library.cublasLtMatrixLayoutDestroy(b_);
  if (out_ != nullptr) library.cublasLtMatrixLayoutDestroy(out_);
  if (operation_ != nullptr) library.cublasLtMatmulDescDestroy(operation_);
}

void CudaMatmul::run(const gpu::MatmulOperands& operands, CUstream stream) const {
  const CublasLt& library = cublas_lt();
  cublasLtMatmulDesc_t operation = operation_;
  if (description_.has_bias) {
    // The bias's address is part of the operation, which threads share: each has a copy.
    thread_local cublasLtMatmulDescOpaque_t copy;
    copy = *reinterpret_cast<const cublasLtMatmulDescOpaque_t*>(operation_);
    operation = &copy;
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  }
  const auto misaligned = [](const void* address) {
    return reinterpret_cast<std::uintptr_t>(address) % kAlignment != 0;
  };
  const bool unaligned = misaligned(operands.a) || misaligned(operands.b) ||
                         misaligned(operands.c) || misaligned(operands.out);
  const cublasStatus_t status = library.cublasLtMatmul(
      device_.cublas(), operation, &description_.alpha, operands.b, a_, operands.a, b_,
      &description_.beta, operands.c, out_, operands.out, out_, unaligned ? &unaligned_ : &aligned_,
      operands.scratch, scratch_bytes_, stream);
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string call = fmt::format(
      "cublasLtMatmul of {} times [{}, {}] and [{}, {}], {}", description_.batch, description_.m,
      description_.k, description_.k, description_.n, metal_candle::name(description_.operands));
  check(status, call.c_str());
}

std::unique_ptr<gpu::Matmul> CudaDevice::make_matmul(const gpu::MatmulDescription& description) {
  return CudaMatmul::make(*this, description);
}

}  // namespace metal_candle::backend::cuda
