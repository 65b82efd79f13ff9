// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products. Weights are [in, out]; those stored [out, in] are passed transposed (a view).
#pragma once

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// a [..., m, k] @ b [..., k, n] -> [..., m, n]. Batch dimensions broadcast; a vector on the left
/// is a row and on the right a column, and that axis vanishes, as in NumPy. Operands meet in
/// promote(); bool, i8 and u8 are multiplied as i32; f16 and bf16 accumulate in f32. Throws
/// ShapeError for scalars, inner dimensions that differ or batches that do not broadcast.
[[nodiscard]] Tensor matmul(const Tensor& a, const Tensor& b);

/// a [m], b [n] (flattened if not 1-d) -> [m, n].
[[nodiscard]] Tensor outer(const Tensor& a, const Tensor& b);
/// The sum over the last axes: a [..., k], b [..., k] -> [all but the last of a, then of b]. A
/// scalar multiplies.
[[nodiscard]] Tensor inner(const Tensor& a, const Tensor& b);
/// a [n], b [n] -> []. Throws ShapeError unless both are vectors of one length.
[[nodiscard]] Tensor dot(const Tensor& a, const Tensor& b);

/// x [..., in] @ weight [..., in, out] + bias [out]; no bias if empty. Operands meet in promote();
/// of one floating dtype, they are rounded once, after the bias. Throws ShapeError as matmul()
/// does, and for a bias that does not fit.
[[nodiscard]] Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

/// beta * c + alpha * (a @ b); c broadcasts to the product.
[[nodiscard]] Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, float alpha = 1,
                           float beta = 1);

/// scale * (x [..., k] @ a [k, r]) @ b [r, n], as one operation (Hu et al., "LoRA", 2021). All of
/// one floating dtype, or DTypeError.
[[nodiscard]] Tensor lora(const Tensor& x, const Tensor& a, const Tensor& b, float scale = 1);

/// x [..., k] @ weight [k, n] + bias [n] + scale * (x @ a [k, r]) @ b [r, n], as one operation; no
/// bias if empty. All of one floating dtype, or DTypeError.
[[nodiscard]] Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& a,
                                 const Tensor& b, float scale = 1, const Tensor& bias = {});

using op::Activation;
/// What linear_epilogue() does to the product; empty tensors are left out.
struct LinearEpilogue {
  float scale = 1;
  Tensor bias = {};  // [n].
  Activation activation = Activation::kNone;
  Tensor residual = {};  // [..., m, n].
};
/// activation(scale * (x [..., m, k] @ weight [..., k, n]) + bias) + residual, as one operation.
/// All of one floating dtype, or DTypeError.
[[nodiscard]] Tensor linear_epilogue(const Tensor& x, const Tensor& weight,
                                     const LinearEpilogue& epilogue);

}  // namespace metal_candle
