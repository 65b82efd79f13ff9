// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Everything that users of the library need. The library's own files include what they use instead.
#pragma once

#include "metal_candle/autograd/custom.h"
#include "metal_candle/autograd/grad.h"
#include "metal_candle/autograd/tree.h"
#include "metal_candle/core/device.h"
#include "metal_candle/core/dtype.h"
#include "metal_candle/core/error.h"
#include "metal_candle/core/shape.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/device_info.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/future.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/tensor.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/lora/lora.h"
#include "metal_candle/models/decoder.h"
#include "metal_candle/optimize/fusion_pass.h"
#include "metal_candle/optimize/graph_optimizer.h"
#include "metal_candle/optimize/pass_registry.h"
#include "metal_candle/optimize/pattern.h"
#include "metal_candle/optimize/rewrite_pass.h"
