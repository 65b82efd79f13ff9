// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the reference interpreter makes of the operands of a kernel test.
#pragma once

#include <vector>

#include "kernel_harness.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::backend::cpu::testing {

using metal_candle::testing::HostTensor;

inline HostTensor to_host(const Operand& operand) {
  HostTensor host(TensorSpec{operand.shape(), operand.layout().dtype});
  for (std::int64_t i = 0; i < operand.size(); ++i) {
    if (host.is_real()) {
      host.r(i) = operand.get(i);
    } else {
      host.n(i) = static_cast<std::int64_t>(operand.get(i));
    }
  }
  return host;
}

inline std::vector<HostTensor> interpret(const Operation& operation,
                                         const std::vector<Operand>& inputs,
                                         const TensorSpec& spec) {
  std::vector<HostTensor> hosts;
  for (const Operand& input : inputs) hosts.push_back(to_host(input));
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& host : hosts) pointers.push_back(&host);
  return metal_candle::testing::interpret_operation(operation, pointers, spec);
}

}  // namespace metal_candle::backend::cpu::testing
