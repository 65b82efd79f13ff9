// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

Runtime::~Runtime() {
  // Namespaces that hold each other would otherwise never be freed.
  for (const auto& each : namespaces_) each->clear();
}

std::shared_ptr<Namespace> Runtime::make_namespace() {
  budget.spend(sizeof(Namespace));
  return namespaces_.emplace_back(std::make_shared<Namespace>());
}

}  // namespace metal_candle::jinja
