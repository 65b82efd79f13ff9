// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The dialect that GPU kernels are written in: what CUDA C++ and the Metal Shading Language 3 both
// accept, plus the names below, which a prelude defines for each compiler. So every kernel is
// written once, and the tests run its very text on the CPU.
//
//   prelude_cuda.h   nvcc and NVRTC
//   prelude_metal.h  Metal
//   prelude_host.h   any C++ compiler: threads of a group are fibres, barriers are real
//
// Rules, which Metal makes: no exceptions, no recursion, no virtual functions, no function
// pointers, no double; address spaces are written out on every pointer; memory of a group is at
// most 32 KiB unless the device was asked; no static variables; what is constant outside functions
// is `constexpr MC_CONSTANT`; thread, device, constant, kernel and half are no names of variables;
// both sides of a ?: lie in one address space, if they are structs. scripts/check_metal.sh looks.
//
//   MC_FUNCTION              before every function
//   MC_GLOBAL T*             a pointer to memory of the device
//   MC_GROUP T*              a pointer to memory that a group shares
//   MC_CONSTANT A&           the arguments of a kernel
//   MC_THREAD T*             a pointer or reference to a thread's own variables
//   MC_KERNEL(name, Arguments, max_threads, group_bytes, function...);
//                            makes `function`, perhaps a template's instance, a kernel called
//                            `name`, to be launched with up to max_threads threads a group:
//                              MC_FUNCTION void function(MC_CONSTANT Arguments& arguments,
//                                                        MC_GROUP char* memory, Thread thread)
//                            memory: group_bytes bytes, 16-byte aligned
//   MC_KERNEL_DYNAMIC(name, Arguments, max_threads, function...);
//                            the same with as much memory as the dispatch says
//   MC_KERNEL_RESIDENT(name, Arguments, max_threads, groups, function...);
//                            the same, with no more registers than leave room for so many groups
//                            on a multiprocessor
//   MC_KERNEL_PAIRED(name, Arguments, max_threads, function...);
//                            as MC_KERNEL_DYNAMIC, with all registers of a multiprocessor, for
//                            groups of which kPair neighbours run together (see below)
//   MC_KERNEL_MERGED(...);   (kernels/common.h) as MC_KERNEL, and once more as `name`_merged, which
//                            runs several dispatches that do not depend on each other as one. For
//                            kernels that come many at a time and small.
//   MC_UNROLL                before a loop with constant bounds that has to be unrolled, so that
//                            arrays which it indexes stay in registers
//   MC_UNROLL_BY(count)      before a loop that is better unrolled so many times
//   Thread                   who runs: .index of .size in its group; .group, .group_y, .group_z in
//                            the grid of .groups, .groups_y, .groups_z; .lane and .warp
//   group_barrier()          for all threads of a group; orders group and device memory
//   lane_shuffle(v, lane), lane_shuffle_xor(v, mask), lane_shuffle_down(v, delta),
//   lane_shuffle_up(v, delta), lane_ballot(bool) -> uint32_t
//                            among the 32 threads of a warp, all of which take part; v: float,
//                            int32_t or uint32_t
//   atomic_add(MC_GLOBAL float*, float), atomic_add(MC_GLOBAL uint32_t*, uint32_t),
//   atomic_add(MC_GROUP uint32_t*, uint32_t)
//                            -> the old value
//   half, bfloat             16-bit floats; float(x) and half(f), bfloat(f) convert, rounding to
//                            nearest even. There is no arithmetic on them.
//   expf, logf, erff, ...    the functions of C's <math.h> for float; fmaf; rsqrtf, erfinvf
//   max_or_nan(float, float), min_or_nan(float, float)
//                            NaN if one of them is
//   fast_exp2(float), fast_reciprocal(float)
//                            exp2f and 1 / x to two units in the last place; what is not normal, of
//                            arguments and results, is 0
//   as_uint(float), as_float(uint32_t)
//                            bits
//
// Matrix products are of 8x8 tiles that a warp holds, two neighbouring elements of one row a lane:
// columns tile_column(lane) and the next of row tile_row(lane).
//   Tiles4                   four tiles of 16-bit elements, .at[i] two elements a lane
//   TileSums                 a 16x8 block of f32: .at[0], .at[1] of its upper tile, .at[2], .at[3]
//   of
//                            the lower
//   load_tiles(MC_GROUP const T* from, stride, lane) -> Tiles4
//                            the 16x16 block at `from`, whose rows are stride elements apart and
//                            16-byte aligned: upper left, lower left, upper right, lower right
//   load_right_tiles(...), load_right_tiles_transposed(...) -> Tiles4
//                            the same for the right operand of a product, in whatever form the
//                            compiler wants that; or with each tile transposed
//   multiply_tiles<T>(TileSums sums, Tiles4 a, uint32_t b_left, uint32_t b_right) -> TileSums
//                            sums + a @ b^T, of a 16x16 block and an 8x16 block of T's, the latter
//                            two tiles of load_right_tiles()
//   pack_tile<T>(float, float) -> uint32_t
//                            two elements of a tile; so sums become operands where they are
//   tile_element<T>(uint32_t, index) -> float
//                            element 0 or 1 of two
//   tile_row_sum(float), tile_row_max(float)
//                            over the lanes that hold one row of a tile
//   copy_async<bytes>(MC_GROUP void* to, MC_GLOBAL const void* from, bool valid)
//                            copies 4, 8 or 16 aligned bytes, or zeros if not valid; done after
//   copy_commit(), copy_wait<n>()
//                            which wait for all copies of this thread before its last n commits;
//                            others see them after a barrier
//
// Where MC_HAS_WIDE_PRODUCTS is defined, four warps multiply blocks of 64 rows of 64 16-bit
// elements together. In group memory such a block begins at a multiple of 1024 bytes; the 8
// elements from column 8 c of row r on lie 64 r + 8 (c ^ r % 8) elements from its beginning. A warp
// has 16 rows of a result, as TileSums[8], and of a left operand, as Tiles4[4].
//   wide_publish()           after writing blocks and before the barrier after which they are used
//   wide_begin()             after changing sums and operands, before products
//   multiply_wide_rows<T>(TileSums (&sums)[8], MC_GROUP const T* a, MC_GROUP const T* b, bool add,
//   self)
//                            sums = a @ b^T, plus sums if add
//   multiply_wide_by_columns<T>(sums, a, b, add, self)
//                            sums = a @ b, plus sums if add
//   multiply_held_rows<T>(TileSums (&sums)[8], Tiles4 (&a)[4], MC_GROUP const T* b, bool add, self)
//                            sums = a @ b^T, plus sums if add
//   multiply_wide_columns<T>(TileSums (&sums)[8], Tiles4 (&a)[4], MC_GROUP const T* b, self)
//                            sums += a @ b
//   multiply_panel<T, rows>(TileSums (&sums)[n], MC_GROUP const T* a, MC_GROUP const T* b, bool
//   add, self)
//                            as multiply_wide_rows if rows, else as multiply_wide_by_columns, for
//                            n = 28 or 32, which is 8 n columns at once: b has 8 n rows, or is
//                            blocks of 64 columns one after another
//   store_tiles(MC_GROUP T* row, Tiles4 tiles, self)
//                            four tiles to memory: each lane says where row lane % 8 of tile
//                            lane / 8 goes
//   wide_commit(), wide_wait<n>()
//                            the latter waits for all products before the last n commits; until
//                            then, sums, operands and blocks are the device's
//   wide_settle(TileSums (&sums)[n])
//                            after waiting, before using sums
//
// There the device also copies by itself, by descriptions of matrices of 16-bit elements (TileMap),
// and threads are told so by signals. A signal is made for a number of arrivals; its phases, which
// are called 0 and 1 in turn, end when so many have arrived and all expected bytes are there. kPair
// neighbouring groups can share copies and signals; it may be 1.
//   Signal                   in group memory
//   signal_init(MC_GROUP Signal*, count), signals_publish(), pair_barrier()
//                            by one thread; by it, after the last one; by all threads of the pair
//                            before signals are used, and at the end
//   signal_arrive(MC_GROUP Signal*), signal_arrive_pair(..)
//                            here; at that place in all groups of the pair
//   signal_expect(MC_GROUP Signal*, bytes)
//                            arrives, and so many bytes are to come
//   signal_wait(MC_GROUP Signal*, phase)
//                            until that phase has ended; at once for phase 1 of a new signal
//   copy_tile(MC_GROUP void* to, MC_CONSTANT TileMap&, column, row, MC_GROUP Signal*),
//   copy_tile_pair(..)       a box of the matrix as blocks lie (above), zeros beyond the matrix; in
//                            all groups of the pair at once, whose signals are told each
//   take_registers<n>(), leave_registers<n>()
//                            four warps want up to n registers a thread, or get by with n
//
//   int8_t ... int64_t       sized integers; infinity and nan are INFINITY and NAN
//
// Arguments are plain structs, defined in kernels/arguments.h so that the host fills them in:
// fields of pointers (MC_GLOBAL void*, MC_GLOBAL const void*), 32 and 64-bit integers and floats,
// which lie alike on all compilers.
#pragma once

#if defined(MC_PRELUDE_HOST)
#include "metal_candle/backend/gpu/prelude_host.h"
#elif defined(__CUDACC__) || defined(__CUDACC_RTC__)
#include "metal_candle/backend/gpu/prelude_cuda.h"
#elif defined(__METAL_VERSION__)
#include "metal_candle/backend/gpu/prelude_metal.h"
#endif
