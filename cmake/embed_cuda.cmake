# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# cmake -DHEADERS=... -DIMAGE=kernels.fatbin -DELEMENT_IMAGE=elements.fatbin -DOUTPUT=file.cpp
# -P embed_cuda.cmake: the source file that backend/cuda/embedded.h declares.
include("${CMAKE_CURRENT_LIST_DIR}/dialect_text.cmake")
dialect_text(text ${HEADERS})
file(WRITE "${OUTPUT}" "#include \"metal_candle/backend/cuda/embedded.h\"

asm(\".section .rodata\\n\"
    \".balign 16\\n\"
    \"metal_candle_cuda_kernels:\\n\"
    \".incbin \\\"${IMAGE}\\\"\\n\"
    \".balign 16\\n\"
    \"metal_candle_cuda_elements:\\n\"
    \".incbin \\\"${ELEMENT_IMAGE}\\\"\\n\"
    \".byte 0\\n\"
    \".previous\\n\");
extern \"C\" __attribute__((visibility(\"hidden\"))) const char metal_candle_cuda_kernels[];
extern \"C\" __attribute__((visibility(\"hidden\"))) const char metal_candle_cuda_elements[];

namespace metal_candle::backend::cuda {
const void* kernel_image() { return metal_candle_cuda_kernels; }
const void* element_image() { return metal_candle_cuda_elements; }
const char* const kDialectText = R\"DIALECT(${text})DIALECT\";
}  // namespace metal_candle::backend::cuda
")
