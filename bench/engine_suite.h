// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The engine suite: what building, planning and running cost, and how near the kernels are to what
// the machine can do. Each function adds the rows of one subject that the table's filter lets
// through.
#pragma once

#include "bench/harness.h"
#include "bench/peer.h"

namespace metal_candle::bench {

/// Building nodes; tracing, hashing and finding a plan.
void run_graph_cases(Table& table);
/// LoRA at batch 1, against the same arithmetic without a graph, and PyTorch.
void run_lora_cases(Table& table, Peer* torch);
/// Norms, softmax and GELU written in primitives, against copy bandwidth; small rows against
/// PyTorch.
void run_row_cases(Table& table, Peer* torch);
/// Matrix products against direct oneDNN calls.
void run_matmul_cases(Table& table, Peer* torch);
/// A transformer block, forward and backward: modes, fusion, memory.
void run_block_cases(Table& table);

/// All of them.
void run_engine_suite(Table& table);

}  // namespace metal_candle::bench
