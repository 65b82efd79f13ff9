// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What backend/metal uses of Apple's <os/signpost.h>, in software: intervals are kept for tests
// (metal_sim.h) while those record.
#pragma once

#include <os/log.h>

#include <cstdint>

typedef std::uint64_t os_signpost_id_t;
bool os_signpost_enabled(os_log_t log);
os_signpost_id_t os_signpost_id_generate(os_log_t log);
void metal_sim_signpost_begin(os_log_t log, os_signpost_id_t id, const char* name,
                              const char* format, ...) __attribute__((format(printf, 4, 5)));
void metal_sim_signpost_end(os_log_t log, os_signpost_id_t id, const char* name);
// Apple's format has privacy in braces, which printf does not know.
#define os_signpost_interval_begin(log, id, name, format, ...) \
  metal_sim_signpost_begin(log, id, name, "%s", __VA_ARGS__)
#define os_signpost_interval_end(log, id, name) metal_sim_signpost_end(log, id, name)
