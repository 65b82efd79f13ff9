# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# What peers share; their scripts follow this one in the same file. Arguments: the number of threads; cpu or cuda; and
# the clock, wall or process (of the processor, all threads together). A script answers with its framework and version
# once it has imported it, and each line that it then reads with a number.
import contextlib
import os
import sys
import time

threads, device = int(sys.argv[1]), sys.argv[2]
now = time.process_time if sys.argv[3] == "process" else time.perf_counter
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(threads)
if device == "cpu":
    os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Others need the device's memory, too.
# Frameworks that have no setting of their own take one thread a core that they may use when they start.
cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
if cores:
    os.sched_setaffinity(0, sorted(cores)[:threads])


@contextlib.contextmanager
def importing(what):
    """Ends the process, with the reason for an answer, if what is imported in it is not there."""
    try:
        yield
    except Exception as error:
        print(f"no {what}:", str(error).splitlines()[0])
        sys.exit(0)


def require_gpu(framework, sees_one):
    """Likewise, if there has to be a GPU and sees_one() is false."""
    if device == "cuda" and not sees_one():
        print(framework, "sees no GPU")
        sys.exit(0)


def release_cores():
    """Threads may go from core to core, as ours may."""
    if cores:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)


def answer_lines(answer):
    release_cores()
    for line in sys.stdin:
        try:
            print(answer(line.strip()))
        except Exception as error:
            print("error:", (str(error).splitlines() or [type(error).__name__])[0])
