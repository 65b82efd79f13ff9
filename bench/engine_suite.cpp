// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See engine_suite.h.
#include "bench/engine_suite.h"

#include "bench/peer_scripts.h"

namespace metal_candle::bench {

void run_engine_suite(Table& table) {
  std::string why;
  const std::unique_ptr<Peer> torch =
      table.lists() ? nullptr
                    : Peer::start(std::string(kPeerLoopScript) + kTorchEngineScript, "torch", why);
  table.note(torch ? "PyTorch " + torch->version()
                   : "PyTorch rows are without a reference: " + why);
  table.header();
  run_graph_cases(table);
  run_lora_cases(table, torch.get());
  run_row_cases(table, torch.get());
  run_matmul_cases(table, torch.get());
  run_block_cases(table);
}

}  // namespace metal_candle::bench
