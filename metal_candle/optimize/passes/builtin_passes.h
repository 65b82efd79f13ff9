// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The built-in passes: one file each, named like the pass, whose head comment gives the rewrite.
#pragma once

#include <memory>
#include <vector>

#include "metal_candle/optimize/fusion_pass.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {

/// In the order in which they are tried within a stage.
[[nodiscard]] std::vector<PassEntry> builtin_passes();

namespace passes {

using PassPtr = std::unique_ptr<FusionPass>;

[[nodiscard]] PassPtr dead_code();
[[nodiscard]] PassPtr layout();
[[nodiscard]] PassPtr constant_folding();
[[nodiscard]] PassPtr common_subexpressions();

[[nodiscard]] PassPtr sigmoid();
[[nodiscard]] PassPtr silu();
[[nodiscard]] PassPtr gelu();
[[nodiscard]] PassPtr softmax();
[[nodiscard]] PassPtr rms_norm();
[[nodiscard]] PassPtr layer_norm();
[[nodiscard]] PassPtr linear_cross_entropy();
[[nodiscard]] PassPtr cross_entropy();
[[nodiscard]] PassPtr attention();
[[nodiscard]] PassPtr lora();

[[nodiscard]] PassPtr lora_linear();
[[nodiscard]] PassPtr matmul_scale();
[[nodiscard]] PassPtr matmul_bias();
[[nodiscard]] PassPtr matmul_activation();
[[nodiscard]] PassPtr matmul_residual();
[[nodiscard]] PassPtr swiglu();
[[nodiscard]] PassPtr norm_backward_residual();
[[nodiscard]] PassPtr product_sum();
[[nodiscard]] PassPtr swiglu_product();
[[nodiscard]] PassPtr norm_linear();
[[nodiscard]] PassPtr lora_low();
[[nodiscard]] PassPtr cached_attention();

[[nodiscard]] PassPtr elementwise_reduce();
[[nodiscard]] PassPtr elementwise();

}  // namespace passes
}  // namespace metal_candle
