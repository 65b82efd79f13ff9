# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# The Metal backend: built on macOS, on metal-cpp. Elsewhere the tests build it against a Metal in
# software (tests/metal_sim), from the same sources.
set(METAL_CANDLE_METAL AUTO CACHE STRING "Build the Metal backend: ON, OFF, or AUTO (on macOS, for arm64).")
set(METAL_CANDLE_METAL_CPP "" CACHE PATH
    "The folder of metal-cpp that has Metal/Metal.hpp; fetched with a pinned hash if empty.")

# The kernels' text, as a source file that backend/metal/kernel_sources.h declares.
set(metal_headers
  metal_candle/backend/gpu/prelude_metal.h
  metal_candle/backend/metal/kernels/arguments.h metal_candle/backend/metal/kernels/product.h)
file(GLOB gpu_kernel_headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     metal_candle/backend/gpu/kernels/*.h)
list(APPEND metal_headers ${gpu_kernel_headers})
list(TRANSFORM metal_headers PREPEND "${PROJECT_SOURCE_DIR}/" OUTPUT_VARIABLE metal_header_paths)
set(METAL_CANDLE_METAL_EMBEDDED "${PROJECT_BINARY_DIR}/metal/embedded.cpp")
add_custom_command(OUTPUT "${METAL_CANDLE_METAL_EMBEDDED}"
  COMMAND "${CMAKE_COMMAND}" "-DHEADERS=${metal_headers}" "-DROOT=${PROJECT_SOURCE_DIR}"
          "-DOUTPUT=${METAL_CANDLE_METAL_EMBEDDED}" -P "${PROJECT_SOURCE_DIR}/cmake/embed_metal.cmake"
  DEPENDS ${metal_header_paths} cmake/embed_metal.cmake VERBATIM)
add_custom_target(metal_embedded DEPENDS "${METAL_CANDLE_METAL_EMBEDDED}")

set(METAL_CANDLE_HAS_METAL 0)
if(METAL_CANDLE_METAL STREQUAL "OFF")
  return()
endif()
if(NOT APPLE OR NOT CMAKE_SYSTEM_PROCESSOR STREQUAL "arm64")
  if(NOT METAL_CANDLE_METAL STREQUAL "AUTO")
    message(FATAL_ERROR "METAL_CANDLE_METAL is ${METAL_CANDLE_METAL}, but this is not macOS on arm64")
  endif()
  return()
endif()

if(NOT METAL_CANDLE_METAL_CPP)
  set(fetched "${PROJECT_BINARY_DIR}/metal-cpp")
  if(NOT EXISTS "${fetched}/Metal/Metal.hpp")
    execute_process(COMMAND "${PROJECT_SOURCE_DIR}/scripts/get_metal_cpp.sh" "${fetched}"
                    RESULT_VARIABLE result)
    if(result)
      message(FATAL_ERROR "metal-cpp cannot be fetched; give its folder: -DMETAL_CANDLE_METAL_CPP=...")
    endif()
  endif()
  set(METAL_CANDLE_METAL_CPP "${fetched}" CACHE PATH "" FORCE)
endif()
if(NOT EXISTS "${METAL_CANDLE_METAL_CPP}/Metal/Metal.hpp")
  message(FATAL_ERROR "METAL_CANDLE_METAL_CPP: there is no ${METAL_CANDLE_METAL_CPP}/Metal/Metal.hpp")
endif()
set(METAL_CANDLE_HAS_METAL 1)
find_library(METAL_FRAMEWORK Metal REQUIRED)
find_library(FOUNDATION_FRAMEWORK Foundation REQUIRED)
find_library(QUARTZCORE_FRAMEWORK QuartzCore REQUIRED)

# Kernels compiled ahead where Apple's compiler is; without it they are compiled at first use.
execute_process(COMMAND xcrun --sdk macosx --find metal
                RESULT_VARIABLE no_metal_compiler OUTPUT_QUIET ERROR_QUIET)
set(METAL_CANDLE_METALLIB "")
if(NOT no_metal_compiler)
  set(METAL_CANDLE_METALLIB "${PROJECT_BINARY_DIR}/metal/metal-candle.metallib")
  set(kernels "${PROJECT_SOURCE_DIR}/metal_candle/backend/metal/kernels.metal")
  add_custom_command(OUTPUT "${METAL_CANDLE_METALLIB}"
    COMMAND xcrun --sdk macosx metal -std=metal3.1 -mmacosx-version-min=14.0 -fno-fast-math -O2
            -Wno-c++17-extensions -Wno-unused-variable -I "${PROJECT_SOURCE_DIR}"
            "${kernels}" -o "${METAL_CANDLE_METALLIB}"
    DEPENDS "${kernels}" ${metal_header_paths}
    COMMENT "Compiling GPU kernels" VERBATIM)
  add_custom_target(metal_candle_metallib ALL DEPENDS "${METAL_CANDLE_METALLIB}")
  install(FILES "${METAL_CANDLE_METALLIB}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
