// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The list of built-in passes. The order matters within a stage: at one node, the first pass that
// applies wins, so what takes more of the graph stands before what takes less.
#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle {

std::vector<PassEntry> builtin_passes() {
  using enum OptimizerStage;
  return {
      {"dead_code", kCanonicalize, passes::dead_code},
      {"layout", kCanonicalize, passes::layout},
      {"constant_folding", kCanonicalize, passes::constant_folding},
      {"common_subexpressions", kCanonicalize, passes::common_subexpressions},

      {"sigmoid", kCompose, passes::sigmoid},
      {"silu", kCompose, passes::silu},
      {"gelu", kCompose, passes::gelu},
      {"softmax", kCompose, passes::softmax},
      // A centred x is an x too: rms_norm would take the larger part of a layer norm.
      {"layer_norm", kCompose, passes::layer_norm},
      {"rms_norm", kCompose, passes::rms_norm},
      // Before lora, to which the gradient of x may look like the first of two products.
      {"linear_cross_entropy", kCompose, passes::linear_cross_entropy},
      {"cross_entropy", kCompose, passes::cross_entropy},
      {"attention", kCompose, passes::attention},
      {"lora", kCompose, passes::lora},

      {"lora_linear", kEpilogue, passes::lora_linear},
      {"matmul_scale", kEpilogue, passes::matmul_scale},
      {"matmul_bias", kEpilogue, passes::matmul_bias},
      {"matmul_activation", kEpilogue, passes::matmul_activation},
      {"matmul_residual", kEpilogue, passes::matmul_residual},
      {"product_sum", kEpilogue, passes::product_sum},
      {"swiglu", kEpilogue, passes::swiglu},
      {"swiglu_product", kEpilogue, passes::swiglu_product},
      {"norm_backward_residual", kEpilogue, passes::norm_backward_residual},

      {"norm_linear", kPrologue, passes::norm_linear},
      {"lora_low", kPrologue, passes::lora_low},
      {"cached_attention", kPrologue, passes::cached_attention},

      {"elementwise_reduce", kElementwise, passes::elementwise_reduce},
      {"elementwise", kElementwise, passes::elementwise},
  };
}

}  // namespace metal_candle
