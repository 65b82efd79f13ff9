// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The text of the kernels, which is part of the library: what is compiled at first use where no
// compiled library was installed, and what generated kernels are compiled after.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace metal_candle::backend::metal {

/// A header of the kernels, by the path with which it is included.
struct EmbeddedHeader {
  std::string_view path;
  std::string_view text;
};
/// Made by the build.
[[nodiscard]] std::span<const EmbeddedHeader> embedded_headers();

/// `path` and all that it includes, each once, as one text without includes of ours. dialect.h
/// stands for Metal's prelude. Throws DeviceError for a header that is not there.
[[nodiscard]] std::string expand_header(std::string_view path);

/// The header that defines the kernel. Throws DeviceError when no family has kernels so called.
[[nodiscard]] std::string_view header_of_kernel(std::string_view name);

}  // namespace metal_candle::backend::metal
