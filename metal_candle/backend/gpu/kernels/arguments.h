// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The arguments of every kernel, for the host and for the dialect (dialect.h) alike.
#pragma once

#ifndef MC_GLOBAL
#define MC_GLOBAL
#include <cstdint>
#endif

// ---- matmul.h
struct FinishProductArguments {
  const MC_GLOBAL void* sums;      // f32 [count]
  const MC_GLOBAL void* bias;      // [columns], or null
  const MC_GLOBAL void* residual;  // [count], or null
  MC_GLOBAL void* out;             // [count]
  int64_t count, columns;
  uint32_t activation;  // op::Activation
};

struct FewRowsArguments {
  const MC_GLOBAL void* x;         // [rows, depth], dense
  const MC_GLOBAL void* norm;      // [depth]: x is its RMS norm with this weight; or null
  const MC_GLOBAL void* weight;    // [depth, columns], its columns dense and column_stride apart
  const MC_GLOBAL void* up;        // As weight: what silu of the product gates; or null
  const MC_GLOBAL void* bias;      // [columns], or null
  const MC_GLOBAL void* residual;  // [rows, columns], or null
  MC_GLOBAL void* out;             // [rows, columns]
  int64_t column_stride;
  uint32_t depth, columns;
  float scale;
  float eps;             // Of the norm.
  uint32_t activation;   // op::Activation
  uint32_t share_shift;  // Of 2: how many warps, up to 8, share the depth of their columns.
};

struct IntegerProductArguments {
  const MC_GLOBAL void* a;  // [rows, depth]
  const MC_GLOBAL void* b;  // [depth, columns]
  MC_GLOBAL void* out;      // [rows, columns], dense
  int64_t rows, columns, depth;
  int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride;
};

// ---- attention.h
// Elements from one batch, head and row of a tensor [batch, heads, rows, width] to the next.
struct HeadStrides {
  int64_t batch, head, row;
};

// What attention and its gradient read.
struct AttentionProblem {
  const MC_GLOBAL void* q;           // [batch, heads, queries, width]
  const MC_GLOBAL void* k;           // [batch, key_heads, keys, width]
  const MC_GLOBAL void* v;           // [batch, key_heads, keys, value_width]
  const MC_GLOBAL void* mask;        // [batch, heads, queries, keys], or null
  const MC_GLOBAL void* key_length;  // i32 [batch], or null
  HeadStrides q_strides, k_strides, v_strides, mask_strides;
  int64_t mask_key_stride, key_length_stride;
  int32_t batch, heads, key_heads, queries, keys, width, value_width;
  int32_t causal, window;
  int32_t mask_type;  // AttentionMask
  float scale;
};

enum AttentionMask { kMaskBool, kMaskF32, kMaskF16, kMaskBF16 };

struct AttentionArguments {
  AttentionProblem problem;
  MC_GLOBAL void* out;        // [batch, heads, queries, value_width], or null
  MC_GLOBAL void* logsumexp;  // f32 [batch, heads, queries], or null
  HeadStrides out_strides;
  MC_GLOBAL void* parts;  // f32 [batch, heads, queries, splits, value_width + 2]
  int32_t splits;         // Parts into which the keys that a group sees are divided.
  int32_t split_unit;     // Whose lengths are multiples of this.
  int32_t tile_rows;      // Rows of a group.
};

// ---- cached_attention.h
// A share is a batch and key head; the query heads of one follow each other.
struct CachedAttentionArguments {
  const MC_GLOBAL void* q;              // [shares, heads, width], dense like all the others
  const MC_GLOBAL void* k;              // [shares, width]
  const MC_GLOBAL void* v;              // [shares, width]
  const MC_GLOBAL void* keys;           // [shares, capacity, width]
  const MC_GLOBAL void* values;         // The same.
  MC_GLOBAL void* new_keys;             // Where k, rotated, goes; may be keys; or null
  MC_GLOBAL void* new_values;           // Where v goes; may be values; or null
  MC_GLOBAL void* out;                  // [shares, heads, width], or null
  const MC_GLOBAL int32_t* offset;      // One.
  const MC_GLOBAL float* frequencies;   // [dims / 2]
  const MC_GLOBAL int32_t* key_length;  // One, or of each batch.
  int32_t capacity, dims, length_stride;
  float scale, rope_scale;
};

struct AttentionGradientArguments {
  AttentionProblem problem;
  const MC_GLOBAL void* out;        // [batch, heads, queries, value_width]
  const MC_GLOBAL void* dout;       // The same.
  const MC_GLOBAL void* logsumexp;  // f32 [batch, heads, queries], dense
  HeadStrides out_strides, dout_strides;
  MC_GLOBAL void* statistics;  // RowStatistics [batch, heads, queries]
  MC_GLOBAL void* dq;          // [batch, heads, queries, width], or null
  MC_GLOBAL void* dk;          // [batch, key_heads, keys, width], or null
  MC_GLOBAL void* dv;          // [batch, key_heads, keys, value_width], or null
  HeadStrides dv_strides;
  MC_GLOBAL void* dk_parts;  // f32 [splits, batch, key_heads, keys, width]
  MC_GLOBAL void* dv_parts;  // f32 [splits, batch, key_heads, keys, value_width]
  int32_t splits;  // Parts into which the query heads of a key head are divided for dk and dv.
};

struct SumPartsArguments {
  const MC_GLOBAL void* parts;  // f32 [count, elements]
  MC_GLOBAL void* out;          // [batch, key_heads, keys, width]
  HeadStrides out_strides;
  int64_t elements;
  int32_t count, key_heads, keys, width;
};

// ---- linear_cross_entropy.h
struct LossRowsArguments {
  const MC_GLOBAL void* logits;   // [rows, columns], rows `stride` apart, a multiple of 8
  const MC_GLOBAL void* targets;  // [rows], i32 or i64
  MC_GLOBAL void* loss;           // f32 [rows], or null
  MC_GLOBAL void* logsumexp;      // f32 [rows]; an input of the backward kernel
  const MC_GLOBAL void* dloss;    // f32 [rows], of the backward kernel
  MC_GLOBAL void* gradient;       // As logits lie, perhaps over them, or null
  int64_t columns, stride;
  int64_t ignore_index;
  uint32_t wide_targets;  // 1: i64.
};

// ---- swiglu.h
struct SwiGluBackwardArguments {
  const MC_GLOBAL void* gate;
  const MC_GLOBAL void* up;
  const MC_GLOBAL void* dy;
  MC_GLOBAL void* dgate;  // Or null.
  MC_GLOBAL void* dup;    // Or null.
  int64_t count;          // Of elements: whole packets, if aligned.
};

// ---- lora.h
// How a is read.
enum class LoraForm : uint32_t { kAny, kColumns, kPackets };
struct LoraRowsArguments {
  const MC_GLOBAL void* x;     // [rows, depth], dense
  const MC_GLOBAL void* a;     // [depth, rank]
  const MC_GLOBAL void* b;     // [rank, columns]
  const MC_GLOBAL void* base;  // [rows, columns], dense, or null; may be out
  MC_GLOBAL void* out;         // [rows, columns], dense
  int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride;
  uint32_t depth, columns;
  float scale;
  uint32_t rank;  // At most 16.
};

// ---- lora_many.h
struct LoraManyArguments {
  const MC_GLOBAL float* x;  // [rows, depth], dense
  const MC_GLOBAL float* a;  // [depth, rank]
  const MC_GLOBAL float* b;  // [rank, columns]
  MC_GLOBAL float* low;      // [parts, rows, rank]
  MC_GLOBAL float* out;      // [rows, columns], dense
  int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride;
  uint32_t rows, depth, columns;
  uint32_t adds;          // To what is in out.
  uint32_t parts, chunk;  // Of the depth: a whole number of packets.
  float scale;
  uint32_t rank;  // At most 64.
};

// ---- copy.h
struct CopyArguments {
  const MC_GLOBAL void* in;
  MC_GLOBAL void* out;
  const MC_GLOBAL void* starts;  // i32 or i64 [num_starts]
  uint64_t value;                // Bits of an element, for fill.
  int64_t packets, tail;         // Whole packets; elements after them, with one axis.
  int64_t sizes[8], in_strides[8], out_strides[8];  // Of packets, in elements.
  int64_t largest_starts[8], start_strides[8];
  uint32_t magics[8], shifts[8];  // To divide by sizes, unless positions are wide.
  uint32_t rank, wide;
  uint32_t num_starts, wide_starts, starts_in_output;
};

// ---- element_program.h
// A step of a program: z = f(x, y, ...) over the elements of a packet. Values are in slots of group
// memory, and some have no slot.
struct alignas(8) ElementInstruction {
  uint8_t code;     // ElementCode
  uint8_t to;       // The result's slot.
  uint8_t x, y, z;  // Slots of operands; a load's z is the number of its operand.
};
enum ElementProgramSize : uint32_t {
  kElementPacket = 4,  // Elements.
  kElementThreads = 128,
  kElementInstructions = 96,
  kElementOperands = 16,
  kElementConstants = 64,
  // What is no slot: constant i; what the instruction before gives; that nobody asks again.
  kElementConstantSlot = 128,
  kElementPreviousSlot = 254,
  kElementNoSlot = 255,
};

// Where a packet's elements are in an operand.
enum ElementAccess : uint32_t {
  kElementsAreOne,    // One, for the whole output.
  kElementsInRow,     // At equal distances.
  kElementsAnywhere,  // Each in a place of its own.
};
struct ElementOperand {
  const MC_GLOBAL void* data;
  int32_t strides[8];  // Elements.
  uint32_t access;     // ElementAccess
};

struct ElementProgramArguments {
  MC_GLOBAL void* out;    // [count]
  uint32_t count, store;  // Elements; the load code of their type.
  uint32_t length, rank;
  uint32_t sizes[8], magics[8], shifts[8];  // Of the output, and to divide by them.
  ElementOperand operands[kElementOperands];
  float constants[kElementConstants];
  ElementInstruction program[kElementInstructions];
};

// Rows put in the place that the device knows.
struct PlaceRowsArguments {
  const MC_GLOBAL void* update;  // [outer, block] packets of 16 bytes
  MC_GLOBAL void* out;           // [outer, length]
  const MC_GLOBAL void* start;   // i32 or i64: the row where the block goes, clamped
  int64_t outer, block, length;  // Packets.
  int64_t row, largest_start;    // Packets of a row; rows.
  int64_t wide_start;
};

struct TransposeArguments {
  const MC_GLOBAL void* in;
  MC_GLOBAL void* out;
  int64_t rows, columns;  // Dense in the input; dense in the output.
  int64_t in_row_stride, in_column_stride, out_row_stride;
  int64_t in_strides[8], out_strides[8];  // The other axes.
  uint32_t sizes[8];
  uint32_t rank, row_tiles, column_tiles;
  uint32_t divisible;  // Lengths and strides by the elements that a thread moves at a time.
};

// ---- random.h
struct RandomArguments {
  const MC_GLOBAL void* key;  // u32 [2]
  MC_GLOBAL void* out;        // u32 [count]
  int64_t key_stride;
  int64_t count;
};

// ---- index.h
struct IndexArguments {
  const MC_GLOBAL void* x;        // [outer, length, inner]
  const MC_GLOBAL void* indices;  // [count], or [outer, count, inner]
  const MC_GLOBAL void* updates;  // [outer, count, inner]
  MC_GLOBAL void* out;
  MC_GLOBAL void* links;  // u32 [count]
  int64_t outer, length, inner, count;
  uint32_t wide_indices;  // i64, not i32.
};

// ---- rows.h
// Where the rows of a strided tensor begin: the row-major number of a row in `sizes`, to elements.
struct RowMap {
  int64_t strides[7];
  uint32_t sizes[7];
  uint32_t rank;  // At least 1.
};

// ---- softmax.h
enum class SoftmaxMode : uint32_t { kSoftmax, kLogSoftmax, kLogSumExp };

struct SoftmaxArguments {
  const MC_GLOBAL void* x;
  MC_GLOBAL void* out;
  MC_GLOBAL float* partials;  // [rows][chunks] of (largest, sum), of rows that are cut in chunks
  RowMap map;                 // Of x; rows of out are dense.
  uint32_t rows, n;
  uint32_t team_shift;  // Lanes of a row are 1 << team_shift, where a group has several rows.
  SoftmaxMode mode;
  uint32_t chunk, chunks;
};

struct SoftmaxBackwardArguments {
  const MC_GLOBAL void* y;
  const MC_GLOBAL void* dy;
  MC_GLOBAL void* dx;
  RowMap y_map, dy_map;
  uint32_t rows, n;
  uint32_t team_shift;
};

// Columns n long, `columns` of them side by side, in groups that maps number.
struct SoftmaxColumnsArguments {
  const MC_GLOBAL void* x;   // y, of the backward form
  const MC_GLOBAL void* dy;  // Of the backward form
  MC_GLOBAL void* out;
  RowMap x_map, dy_map, out_map;
  int64_t x_stride, dy_stride, out_stride;  // Along a column.
  int64_t columns;
  uint32_t n;
  SoftmaxMode mode;
  uint32_t tile_shift;  // A group has 1 << tile_shift columns.
};

// ---- norm.h
struct NormArguments {
  const MC_GLOBAL void* x;
  const MC_GLOBAL void* weight;  // [n], or null
  const MC_GLOBAL void* bias;    // [n], or null
  MC_GLOBAL void* out;
  RowMap map;
  uint32_t rows, n;
  uint32_t team_shift;
  float eps;
  uint32_t layer;  // Layer norm, else RMS norm.
};

struct NormBackwardArguments {
  const MC_GLOBAL void* x;
  const MC_GLOBAL void* weight;  // [n], or null
  const MC_GLOBAL void* dy;
  const MC_GLOBAL void* residual;  // [rows][n], added to dx, or null
  MC_GLOBAL void* dx;              // Null: not needed.
  MC_GLOBAL float* dweight_parts;  // [groups][n], the sum over each group's rows. Null: not needed.
  RowMap x_map, dy_map;
  uint32_t rows, n;
  float eps;
  uint32_t layer;
};

// ---- reduce.h
// Each output is a reduction of `units` packets, in `chunks` chunks of a group each.
struct ReduceRowsArguments {
  const MC_GLOBAL void* x;
  MC_GLOBAL void* out;   // Of the accumulator's type and [chunks][outputs], if chunks > 1.
  RowMap kept, reduced;  // Of outputs, and of packets.
  int64_t outputs;
  uint32_t units, chunk, chunks;
  uint32_t team_shift;   // Lanes of an output are 1 << team_shift, else...
  uint32_t whole_group;  // it is a group.
  uint32_t kind;         // ReduceKind
};

// Columns of `rows` elements, `columns` of them side by side in each of the groups that `kept`
// numbers, in `chunks` chunks.
struct ReduceColumnsArguments {
  const MC_GLOBAL void* x;
  MC_GLOBAL void* out;
  RowMap kept, reduced;  // Of groups, and of rows.
  int64_t columns, outputs;
  uint32_t rows, chunk, chunks;
  uint32_t tile_shift;  // A group has 1 << tile_shift packets side by side.
  uint32_t kind;
};

struct ReducePartialsArguments {
  const MC_GLOBAL void* partials;  // [parts][outputs]
  MC_GLOBAL void* out;
  int64_t outputs;
  uint32_t parts;
  uint32_t tile_shift;  // A group has 1 << tile_shift outputs.
  uint32_t kind;
};

// ---- cross_entropy.h
struct CrossEntropyArguments {
  const MC_GLOBAL void* logits;
  const MC_GLOBAL void* targets;    // [rows], i64 or i32
  const MC_GLOBAL float* partials;  // As of SoftmaxArguments, of the forward form.
  MC_GLOBAL float* loss;            // [rows], or null
  MC_GLOBAL float* logsumexp;       // [rows], which the forward form writes, or null
  const MC_GLOBAL float* dloss;     // [rows], of the backward form
  MC_GLOBAL void* dlogits;          // [rows][n]
  RowMap map;                       // Of logits.
  int64_t ignore_index;
  uint32_t rows, n;
  uint32_t chunk, chunks;
  uint32_t wide_targets;  // Targets are i64.
};

// ---- wide_product.h
// A matrix of 16-bit elements as the device's copying engine wants it described, with the box that
// one copy takes: GpuDevice::describe() fills it in.
struct alignas(64) TileMap {
  uint64_t words[16];
};
struct ProductTerm {
  TileMap a;  // [m, k], in boxes of kWideProductRows x 64
  TileMap b;  // [k, n], in boxes of 64 x 64, or if by_rows, [n, k], of half a panel's columns x 64
  int32_t k;
  uint32_t by_rows;
};
// Terms whose right operands lie by columns come first.
struct WideProductShape {
  int32_t m, n;
  int32_t steps, steps_by_columns;  // Of 64 along the inner axes, each of which begins with one.
};
enum {
  kWideProductRows = 128,  // Of a group.
  kWideProductThreads = 384,
  kWideProductBytes = 1024 + 3 * 48 * 1024 + 64 * 1024 + 16 * 1024 + 64,
};

// ---- product_sum.h
enum { kMostProducts = 8 };
struct ProductSumArguments {
  ProductTerm terms[kMostProducts];
  const MC_GLOBAL void* residual;  // [m, n], or null
  MC_GLOBAL void* out;             // [m, n]
  WideProductShape shape;
};

// ---- swiglu_product.h
struct SwiGluProductArguments {
  ProductTerm term;            // The gradient by silu(gate) * up.
  const MC_GLOBAL void* gate;  // [m, n] each
  const MC_GLOBAL void* up;
  MC_GLOBAL void* dgate;
  MC_GLOBAL void* dup;
  WideProductShape shape;
};

// ---- rope.h
// x and out [groups, heads, length, n], of which the maps number [groups, heads].
struct RopeArguments {
  const MC_GLOBAL void* x;
  const MC_GLOBAL int32_t* offsets;    // Of a group each, or one.
  const MC_GLOBAL float* frequencies;  // [dims / 2]
  MC_GLOBAL void* out;
  RowMap map, out_map;
  int64_t position_stride, out_position_stride;
  uint32_t groups, heads, length, n, dims;
  uint32_t heads_at_once;  // That a thread turns by one angle.
  uint32_t offset_per_group, interleaved, inverse;
  float scale;
};

// ---- arg_reduce.h
struct ArgReduceArguments {
  const MC_GLOBAL void* x;
  MC_GLOBAL int32_t* out;  // [outer][columns]
  RowMap map;              // Of groups of columns.
  int64_t stride;          // Along a column.
  int64_t columns;
  uint32_t n;
  uint32_t tile_shift;
  uint32_t is_max;
  uint32_t part_length;   // Of a column, for each row of the grid.
  MC_GLOBAL void* parts;  // What each part found [outer][columns][parts]; null if there is one.
};

// ---- cumulative.h
struct CumulativeArguments {
  const MC_GLOBAL void* x;
  MC_GLOBAL void* out;
  RowMap x_map, out_map;
  int64_t x_stride, out_stride;
  int64_t columns, lines;
  uint32_t n;
  uint32_t kind;  // ReduceKind
  uint32_t reverse;
};

// ---- sort.h
// Lines n long, `columns` of them side by side. Sorted runs of up to `run` elements, of which the
// first `keep` are kept, become half as many.
struct SortArguments {
  const MC_GLOBAL void* x;
  const MC_GLOBAL void* items;  // [lines][slots]: what to merge.
  MC_GLOBAL void* merged;       // [lines][merged_slots]. Null: the output is written.
  MC_GLOBAL void* out;          // Elements of x, or i32 positions.
  RowMap x_map, out_map;
  int64_t x_stride, out_stride;
  int64_t columns;
  uint32_t n, keep, run;
  uint32_t slots, merged_slots;
  uint32_t descending, positions;
};

// ---- top_p.h
// Where the threshold of a row lies.
struct TopPCrossing {
  float largest;  // Of the row.
  float missing;  // Weight of the nucleus that lies in the threshold's cell, beside exp(largest).
};

struct TopPArguments {
  const MC_GLOBAL void* x;               // [rows][n]
  MC_GLOBAL void* out;                   // [rows]
  MC_GLOBAL float* largest;              // [rows][chunks]
  MC_GLOBAL float* weights;              // [rows][chunks][kTopPCells]
  MC_GLOBAL TopPCrossing* crossings;     // [rows]
  MC_GLOBAL float* candidates;           // [rows][n], of which there are...
  MC_GLOBAL uint32_t* candidate_counts;  // [rows]
  uint32_t n;
  uint32_t chunk, chunks;  // A row is cut in at most kTopPChunks.
  float p;
};
enum { kTopPCells = 512, kTopPChunks = 64 };

// ---- draw.h
struct DrawArguments {
  const MC_GLOBAL void* x;          // [rows][n]
  const MC_GLOBAL float* u;         // [rows]
  const MC_GLOBAL float* partials;  // As of SoftmaxArguments.
  MC_GLOBAL int32_t* out;           // [rows]
  uint32_t n;
  uint32_t chunk, chunks;
};
