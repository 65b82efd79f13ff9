# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# dialect_text(OUT header...): the text of headers of the dialect, one after another, without what includes
# others.
function(dialect_text out)
  set(text "")
  foreach(header IN LISTS ARGN)
    file(READ "${header}" one)
    string(REGEX REPLACE "#pragma once\n" "" one "${one}")
    string(REGEX REPLACE "#include \"[^\n]*\n" "" one "${one}")
    string(APPEND text "${one}")
  endforeach()
  set(${out} "${text}" PARENT_SCOPE)
endfunction()
