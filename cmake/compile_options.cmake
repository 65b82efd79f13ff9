# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Compiler options of this project's own targets, and those that every target of a build shares.

# Warnings for a target of ours. Private: a consumer's warnings are the consumer's business.
function(metal_candle_compile_options target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion $<$<BOOL:${METAL_CANDLE_WERROR}>:-Werror>)
endfunction()

if(NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(CCACHE ccache)
  mark_as_advanced(CCACHE)
  if(CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE}")
  endif()
endif()

# Sanitizers must see every translation unit alike, so these are not per target.
if(METAL_CANDLE_SANITIZE)
  add_compile_options(-fsanitize=${METAL_CANDLE_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${METAL_CANDLE_SANITIZE})
endif()
