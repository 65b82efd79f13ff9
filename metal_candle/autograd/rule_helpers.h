// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What gradient rules of several families share.
#pragma once

#include "metal_candle/graph/tensor.h"

namespace metal_candle::detail {

/// dy times the derivative of an activation (kRelu, kGelu, kGeluTanh or kSilu) at x.
[[nodiscard]] Tensor activation_gradient(UnaryKind kind, const Tensor& x, const Tensor& dy);

/// x with its last two axes swapped: a view.
[[nodiscard]] Tensor matrix_transpose(const Tensor& x);

/// The gradient of a @ b with respect to b, given that of the product: a^T @ dy, summed over what b
/// was broadcast along. Where b has no batch axes that sum is part of the matrix product.
[[nodiscard]] Tensor right_matmul_gradient(const Tensor& a, const Tensor& b, const Tensor& dy);

}  // namespace metal_candle::detail
