# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# cmake -DHEADERS=... -DROOT=folder -DOUTPUT=file.cpp -P embed_metal.cmake: the headers of HEADERS, paths
# below ROOT, as the source file that backend/metal/kernel_sources.h declares.
set(text "#include \"metal_candle/backend/metal/kernel_sources.h\"\n
namespace metal_candle::backend::metal {
namespace {
constexpr EmbeddedHeader kHeaders[] = {\n")
foreach(header IN LISTS HEADERS)
  file(READ "${ROOT}/${header}" one)
  string(APPEND text "{\"${header}\", R\"DIALECT(${one})DIALECT\"},\n")
endforeach()
string(APPEND text "};
}  // namespace
std::span<const EmbeddedHeader> embedded_headers() { return kHeaders; }
}  // namespace metal_candle::backend::metal\n")
file(WRITE "${OUTPUT}" "${text}")
