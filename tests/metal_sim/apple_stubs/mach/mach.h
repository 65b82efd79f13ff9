// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What metal-cpp and backend/metal need of Apple's header of this name, to be parsed and no more.
#pragma once

typedef int kern_return_t;
typedef unsigned int task_id_token_t;
typedef unsigned int mach_port_t;
