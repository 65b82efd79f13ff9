# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# The CUDA backend: built where nvcc is. Nothing of CUDA is linked: the driver, cuBLASLt and NVRTC are
# opened at run time.
set(METAL_CANDLE_CUDA AUTO CACHE STRING "Build the CUDA backend: ON, OFF, or AUTO (where nvcc is).")
set(METAL_CANDLE_CUDA_ARCHITECTURES "80;86;89;90a" CACHE STRING
    "Compute capabilities to compile GPU kernels for; the lowest also as PTX, for others.")

set(METAL_CANDLE_HAS_CUDA 0)
if(METAL_CANDLE_CUDA STREQUAL "OFF")
  return()
endif()
find_program(METAL_CANDLE_NVCC nvcc HINTS /usr/local/cuda/bin)
mark_as_advanced(METAL_CANDLE_NVCC)
if(NOT METAL_CANDLE_NVCC)
  if(NOT METAL_CANDLE_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "METAL_CANDLE_CUDA is ${METAL_CANDLE_CUDA}, but there is no nvcc")
  endif()
  return()
endif()
cmake_path(GET METAL_CANDLE_NVCC PARENT_PATH cuda_folder)
cmake_path(GET cuda_folder PARENT_PATH cuda_folder)
find_path(METAL_CANDLE_CUDA_INCLUDE cublasLt.h HINTS "${cuda_folder}/include" REQUIRED)
mark_as_advanced(METAL_CANDLE_CUDA_INCLUDE)
set(METAL_CANDLE_HAS_CUDA 1)

# In a folder of its own, so that no other source waits for it: a target's objects wait for all
# that commands of its folder make for it.
set(kernel_image "${PROJECT_BINARY_DIR}/cuda/kernels.fatbin")
set(element_image "${PROJECT_BINARY_DIR}/cuda/elements.fatbin")
add_subdirectory(cmake/cuda_kernels)

set(dialect_headers
  metal_candle/backend/gpu/prelude_cuda.h metal_candle/backend/gpu/kernels/merged.h
  metal_candle/backend/gpu/kernels/common.h metal_candle/backend/gpu/kernels/element_functions.h)
set(embedded "${PROJECT_BINARY_DIR}/cuda/embedded.cpp")
list(TRANSFORM dialect_headers PREPEND "${PROJECT_SOURCE_DIR}/" OUTPUT_VARIABLE dialect_paths)
add_custom_command(OUTPUT "${embedded}"
  COMMAND "${CMAKE_COMMAND}" "-DHEADERS=${dialect_paths}" "-DIMAGE=${kernel_image}"
          "-DELEMENT_IMAGE=${element_image}" "-DOUTPUT=${embedded}" -P "${PROJECT_SOURCE_DIR}/cmake/embed_cuda.cmake"
  DEPENDS ${dialect_headers} cmake/embed_cuda.cmake cmake/dialect_text.cmake VERBATIM)
set_source_files_properties("${embedded}" PROPERTIES OBJECT_DEPENDS "${kernel_image};${element_image}")
