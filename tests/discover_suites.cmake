# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Read by ctest, not by CMake: asks a test binary for its suites just before they run, so that
# building does not run anything and a changed binary needs no new configuration.

# Adds the ctest entry "<name>.<suite>" for each suite of the binary. Suites whose name contains
# "Timing" run alone, since what they assert is a duration.
function(discover_suites name binary working_dir labels timeout environment)
  if(NOT EXISTS "${binary}")
    add_test("${name}.NotBuilt" "${binary}")
    set_tests_properties("${name}.NotBuilt" PROPERTIES LABELS "${labels}")
    return()
  endif()
  execute_process(COMMAND "${binary}" --gtest_list_tests
    WORKING_DIRECTORY "${working_dir}"
    OUTPUT_VARIABLE listing ERROR_VARIABLE errors RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${binary} --gtest_list_tests: ${result}\n${listing}${errors}")
  endif()
  # Suites begin a line and end in a dot, their tests are indented. Values of parameters, which
  # follow '#', may hold anything.
  string(REGEX REPLACE "#[^\n]*" "" listing "${listing}")
  string(REGEX MATCHALL "(^|\n)[^ \n]+\\." suites "${listing}")
  foreach(suite IN LISTS suites)
    string(STRIP "${suite}" suite)
    set(entry "${name}.${suite}")
    string(REGEX REPLACE "\\.$" "" entry "${entry}")
    add_test("${entry}" "${binary}" "--gtest_filter=${suite}*")
    set_tests_properties("${entry}" PROPERTIES
      LABELS "${labels}" TIMEOUT "${timeout}" WORKING_DIRECTORY "${working_dir}"
      ENVIRONMENT "${environment}")
    if(suite MATCHES "Timing")
      set_tests_properties("${entry}" PROPERTIES RUN_SERIAL TRUE)
    endif()
  endforeach()
endfunction()
