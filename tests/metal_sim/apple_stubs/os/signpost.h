// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What metal-cpp and backend/metal need of Apple's header of this name, to be parsed and no more.
#pragma once

#include <os/log.h>

typedef uint64_t os_signpost_id_t;
extern "C" bool os_signpost_enabled(os_log_t log);
extern "C" os_signpost_id_t os_signpost_id_generate(os_log_t log);
// Apple's take literals for the name and the format.
extern "C" void os_signpost_stub(os_log_t log, os_signpost_id_t id, const char* text, ...);
#define os_signpost_interval_begin(log, id, name, ...) \
  os_signpost_stub(log, id, "" name "", ##__VA_ARGS__)
#define os_signpost_interval_end(log, id, name, ...) \
  os_signpost_stub(log, id, "" name "", ##__VA_ARGS__)
