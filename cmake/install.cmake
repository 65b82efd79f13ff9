# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# What `cmake --install` puts where, and the package that find_package(metal-candle) reads.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/metal-candle")

install(TARGETS metal_candle EXPORT metal-candle-targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
# Kernels include oneDNN and Highway and are nobody's interface.
install(DIRECTORY metal_candle DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h" PATTERN "backend/cpu" EXCLUDE)
install(EXPORT metal-candle-targets NAMESPACE metal_candle:: DESTINATION "${package_dir}")

configure_package_config_file(cmake/metal-candle-config.cmake.in metal-candle-config.cmake
  INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file(metal-candle-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/metal-candle-config.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/metal-candle-config-version.cmake"
  cmake/text_libraries.cmake
  DESTINATION "${package_dir}")
