// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See kernel_sources.h.
#include "metal_candle/backend/metal/kernel_sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::metal {
namespace {

constexpr std::string_view kGpu = "metal_candle/backend/gpu/";

std::string_view find_header(std::string_view path) {
  for (const EmbeddedHeader& header : embedded_headers()) {
    if (header.path == path) return header.text;
  }
  throw DeviceError(fmt::format("metal: {} is not part of the library", path));
}

void expand(std::string_view path, std::set<std::string, std::less<>>& seen, std::string& out) {
  const std::string dialect = std::string(kGpu) + "dialect.h";
  const std::string prelude = std::string(kGpu) + "prelude_metal.h";
  if (path == dialect) path = prelude;
  if (!seen.insert(std::string(path)).second) return;
  std::string_view text = find_header(path);
  constexpr std::string_view kInclude = "#include \"";
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end);
    if (line.starts_with("#pragma once")) continue;
    if (!line.starts_with(kInclude)) {
      out += line;
      continue;
    }
    const std::string_view rest = line.substr(kInclude.size());
    expand(rest.substr(0, rest.find('"')), seen, out);
  }
}

// The families of kernels by how their names begin. The first that fits counts.
struct Family {
  std::string_view prefix;
  std::string_view header;
};
constexpr Family kFamilies[] = {
    {"product_", "metal_candle/backend/metal/kernels/product.h"},
    {"zero_memory", "metal_candle/backend/metal/kernels/product.h"},
    {"arg_reduce_", "metal_candle/backend/gpu/kernels/arg_reduce.h"},
    {"attention_d", "metal_candle/backend/gpu/kernels/attention_gradient_tiles.h"},
    {"attention_small_d", "metal_candle/backend/gpu/kernels/attention_gradient_tiles.h"},
    {"attention_statistics_", "metal_candle/backend/gpu/kernels/attention_gradient_tiles.h"},
    {"attention_sum_parts_", "metal_candle/backend/gpu/kernels/attention_gradient_tiles.h"},
    {"attention_one_", "metal_candle/backend/gpu/kernels/attention_one.h"},
    {"attention_", "metal_candle/backend/gpu/kernels/attention_tiles.h"},
    {"cached_attention_", "metal_candle/backend/gpu/kernels/cached_attention.h"},
    {"copy_", "metal_candle/backend/gpu/kernels/copy.h"},
    {"fill_", "metal_candle/backend/gpu/kernels/copy.h"},
    {"place_rows", "metal_candle/backend/gpu/kernels/copy.h"},
    {"transpose_", "metal_candle/backend/gpu/kernels/copy.h"},
    {"cross_entropy_", "metal_candle/backend/gpu/kernels/cross_entropy.h"},
    {"cumulative_", "metal_candle/backend/gpu/kernels/cumulative.h"},
    {"take_", "metal_candle/backend/gpu/kernels/index.h"},
    {"scatter_add_", "metal_candle/backend/gpu/kernels/index.h"},
    {"link_indices", "metal_candle/backend/gpu/kernels/index.h"},
    {"draw_", "metal_candle/backend/gpu/kernels/draw.h"},
    {"loss_rows_", "metal_candle/backend/gpu/kernels/linear_cross_entropy.h"},
    {"lora_rows_", "metal_candle/backend/gpu/kernels/lora.h"},
    {"lora_", "metal_candle/backend/gpu/kernels/lora_many.h"},
    {"few_rows_", "metal_candle/backend/gpu/kernels/matmul.h"},
    {"finish_product_", "metal_candle/backend/gpu/kernels/matmul.h"},
    {"integer_product_", "metal_candle/backend/gpu/kernels/matmul.h"},
    {"norm_", "metal_candle/backend/gpu/kernels/norm.h"},
    {"random_bits_", "metal_candle/backend/gpu/kernels/random.h"},
    {"reduce_", "metal_candle/backend/gpu/kernels/reduce.h"},
    {"rope_", "metal_candle/backend/gpu/kernels/rope.h"},
    {"swiglu_backward_", "metal_candle/backend/gpu/kernels/swiglu.h"},
    {"softmax_", "metal_candle/backend/gpu/kernels/softmax.h"},
    {"log_sum_exp_", "metal_candle/backend/gpu/kernels/softmax.h"},
    {"sort_", "metal_candle/backend/gpu/kernels/sort.h"},
    {"top_p_", "metal_candle/backend/gpu/kernels/top_p.h"},
};

}  // namespace

std::string expand_header(std::string_view path) {
  std::set<std::string, std::less<>> seen;
  std::string out;
  expand(std::string(kGpu) + "dialect.h", seen, out);  // What follows knows its names.
  expand(path, seen, out);
  return out;
}

std::string_view header_of_kernel(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (name.starts_with(family.prefix)) return family.header;
  }
  throw DeviceError(fmt::format("metal: no kernel {}", name));
}

}  // namespace metal_candle::backend::metal
