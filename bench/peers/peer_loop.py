# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# What peers share; their scripts follow this one in the same file. Arguments: the number of threads; cpu or cuda; and
# the clock, wall or process (of the processor, all threads together). Reads commands, one a line, and answers each with
# a number. Those of the suite ops (model_loop.py has those of generate and train), answered with seconds:
#   MODE DEPTH CASE...   of one call, of as many as take two milliseconds; DEPTH calls are queued before the device is
#                        waited for, and each one's result is computed
#   first MODE CASE...   of the first call: compiling, and whatever else happens once
import os
import sys
import time

threads, device = int(sys.argv[1]), sys.argv[2]
now = time.process_time if sys.argv[3] == "process" else time.perf_counter
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(threads)
# Frameworks that have no setting of their own take one thread a core that they may use when they start.
cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
if cores:
    os.sched_setaffinity(0, sorted(cores)[:threads])


def release_cores():
    """Threads may go from core to core, as ours may."""
    if cores:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)


def answer_lines(answer):
    for line in sys.stdin:
        try:
            print(answer(line.strip()))
        except Exception as error:
            print("error:", (str(error).splitlines() or [type(error).__name__])[0])


# As in harness.cpp.
LEAST_WARM_UP_SECONDS = 10e-3


def serve(make, prepare, run):
    """make(words): a function without arguments, its operands in memory. prepare(mode, fn): the same, compiled or
    not. run(fn, depth): calls it so often, and waits for all results."""
    functions, batches = {}, {}
    release_cores()

    def function(mode, words):
        key = (mode, *words)
        if key not in functions:
            functions.clear()
            batches.clear()
            for each in MODES:
                functions[(each, *words)] = prepare(each, make(words))
        return functions[key]

    def answer(line):
        command, argument, *words = line.split()
        if command == "first":
            fn = function(argument, words)
            start = time.perf_counter()  # Compilers may be processes of their own.
            run(fn, 1)
            return time.perf_counter() - start
        fn, depth = function(command, words), int(argument)
        if line not in batches:
            elapsed = 1.0
            for _ in range(4):
                start = now()
                run(fn, depth)
                elapsed = now() - start
                if elapsed > 0.05:
                    break
            batches[line] = max(1, int(2e-3 / max(elapsed, 1e-9)))
        begin = time.perf_counter()
        while True:
            run(fn, depth)
            if time.perf_counter() - begin > LEAST_WARM_UP_SECONDS:
                break
        start = now()
        for count in range(1, batches[line] + 1):
            run(fn, depth)
            elapsed = now() - start
            if elapsed > 0.05:  # The machine is busy with something else: there will be other rounds.
                break
        return elapsed / count / depth

    answer_lines(answer)
