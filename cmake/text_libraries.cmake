# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Defines metal_candle::oniguruma and metal_candle::utf8proc, which come without CMake packages. Used
# by the build, and by the installed package for whoever links the static library.
function(metal_candle_find_library name library header)
  if(TARGET metal_candle::${name})
    return()
  endif()
  find_library(METAL_CANDLE_${name}_LIBRARY ${library} REQUIRED)
  find_path(METAL_CANDLE_${name}_INCLUDE_DIR ${header} REQUIRED)
  mark_as_advanced(METAL_CANDLE_${name}_LIBRARY METAL_CANDLE_${name}_INCLUDE_DIR)
  add_library(metal_candle::${name} INTERFACE IMPORTED GLOBAL)
  set_target_properties(metal_candle::${name} PROPERTIES
    INTERFACE_LINK_LIBRARIES "${ARGN};${METAL_CANDLE_${name}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${METAL_CANDLE_${name}_INCLUDE_DIR}")
endfunction()

# Oniguruma exports functions of its own under the names regcomp(), regexec() and so on. With the C
# library before it, a program that uses those gets the C library's.
set(c_library_first "")
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(c_library_first "-Wl,--push-state,--no-as-needed,-lc,--pop-state")
endif()
metal_candle_find_library(oniguruma onig oniguruma.h ${c_library_first})
metal_candle_find_library(utf8proc utf8proc utf8proc.h)
