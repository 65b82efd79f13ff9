# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# cmake -DHEADERS=... -DOUTPUT=file.cpp -P embed_text.cmake: the text of headers, without what includes
# others, as reduction_text() of backend/gpu/reduce.h.
include("${CMAKE_CURRENT_LIST_DIR}/dialect_text.cmake")
dialect_text(text ${HEADERS})
file(WRITE "${OUTPUT}" "#include \"metal_candle/backend/gpu/reduce.h\"

namespace metal_candle::backend::gpu {
std::string reduction_text() { return R\"DIALECT(${text})DIALECT\"; }
}  // namespace metal_candle::backend::gpu
")
