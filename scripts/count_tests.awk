# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Reads ctest's LastTest.log and prints "N passed, N failed". An entry that is a GoogleTest suite
# counts as its tests, any other as one; an entry that failed without naming a test (a crash, a
# timeout, a missing binary) is one failure more. Disabled entries do not count.

/^\[       OK \] .* \([0-9]+ ms\)$/ { entry_passed++ }
/^\[  FAILED  \] .* \([0-9]+ ms\)$/ { entry_failed++ }
/^Unable to find executable: / { failed++ }
/^Command: ""$/ { not_run = 1 }
/^Test Passed\.$/ { finish(entry_passed + entry_failed == 0, 0) }
/^Test Failed\.$/ { finish(0, entry_failed == 0) }
END { printf "%d passed, %d failed\n", passed, failed }

function finish(more_passed, more_failed) {
  if (!not_run) {
    passed += entry_passed + more_passed
    failed += entry_failed + more_failed
  }
  entry_passed = entry_failed = not_run = 0
}
