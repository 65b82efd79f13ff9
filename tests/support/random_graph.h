// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random graphs over the public operations, numerically tame, with a bound on the error of every
// output: shared subgraphs, views, dead branches, several outputs, all dtypes, composites and what
// they are spelled as.
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/graph/tensor.h"

namespace metal_candle::testing {

struct RandomGraph {
  std::vector<Tensor> outputs;
  /// How far element of outputs[i] may be from what exact arithmetic gives, whatever is fused and
  /// wherever it is rounded; 0 for integers, bool and what is only moved about.
  std::vector<double> errors;
};

/// The graph of this seed, of at most `operations` calls. The same seed with fewer operations gives
/// a beginning of the same graph (with outputs of its own). Builds it anew, leaves included, in the
/// mode of the calling thread.
[[nodiscard]] RandomGraph make_random_graph(std::uint64_t seed, int operations);

}  // namespace metal_candle::testing
