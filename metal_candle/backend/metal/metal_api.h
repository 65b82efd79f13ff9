// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-cpp, and what every use of it needs.
#pragma once

#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <string>
#include <string_view>

namespace metal_candle::backend::metal {

/// Objects that Metal hands out without ownership live until the pool of their thread goes. Every
/// function of this folder that may be the first on its thread has one.
class AutoreleaseScope {
 public:
  AutoreleaseScope() : pool_(NS::AutoreleasePool::alloc()->init()) {}
  ~AutoreleaseScope() { pool_->release(); }
  AutoreleaseScope(const AutoreleaseScope&) = delete;
  AutoreleaseScope& operator=(const AutoreleaseScope&) = delete;

 private:
  NS::AutoreleasePool* pool_;
};

/// Within an AutoreleaseScope.
inline NS::String* ns_string(const std::string& text) {
  return NS::String::string(text.c_str(), NS::UTF8StringEncoding);
}
/// What an error says; `otherwise` where there is none.
inline std::string error_text(NS::Error* error, std::string_view otherwise) {
  if (error == nullptr || error->localizedDescription() == nullptr) return std::string(otherwise);
  return error->localizedDescription()->utf8String();
}

}  // namespace metal_candle::backend::metal
