# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# What the peers of the suite ops share; goes between peer_loop.py and their scripts. Commands, answered with seconds:
#   MODE DEPTH CASE...   of one call, of as many as take two milliseconds; DEPTH calls are queued before the device is
#                        waited for, and each one's result is computed
#   first MODE CASE...   of the first call: compiling, and whatever else happens once; but not waking up: random numbers
#                        are made for a while before, each time in a new size


def operands(words, types, randn):
    """Those of a case: x and pairs of factors of lora; x, up and down of mlp; q, k and v of attention, heads before
    positions; x, weight and bias of rows."""
    sizes = [int(word) for word in words[1:-1]]
    make = lambda *shape, scale=1.0: randn(*shape, dtype=types[words[-1]], scale=scale)
    if words[0] == "lora":
        m, d, r, chain = sizes
        return make(m, d), [(make(d, r, scale=0.1), make(r, d, scale=0.1)) for _ in range(chain)]
    if words[0] == "mlp":
        m, d, hidden = sizes
        return make(m, d), make(d, hidden, scale=0.03), make(hidden, d, scale=0.03)
    if words[0] == "attention":
        batch, heads, queries, keys, d = sizes
        return [make(batch, heads, length, d) for length in (queries, keys, keys)]
    m, n = sizes
    return make(m, n), make(n), make(n)


# As in harness.cpp.
LEAST_WARM_UP_SECONDS = 10e-3


def serve(types, randn, cases, prepare, run):
    """types: by their names in commands. randn(*shape, dtype, scale=1.0): an array in memory. cases: an
    operation's name to what makes it of its operands. prepare(mode, made): a function without arguments, compiled or
    not. run(fn, depth): calls it so often, and waits for all results."""
    functions, batches, prepared = {}, {}, None

    def make(words):
        return cases[words[0]](*operands(words, types, randn))

    def stay_awake(dtype):
        begin, size = time.perf_counter(), 1
        while time.perf_counter() - begin < LEAST_WARM_UP_SECONDS:
            randn(1, size, dtype=dtype)
            size += 1

    def function(mode, words):
        nonlocal prepared
        if words != prepared:
            functions.clear()
            batches.clear()
            prepared = words
        if mode not in functions:
            functions[mode] = prepare(mode, make(words))
        return functions[mode]

    def answer(line):
        command, argument, *words = line.split()
        if command == "first":
            stay_awake(types[words[-1]])
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
