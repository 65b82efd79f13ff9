// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Files of tuned parameters. JSON:
//   {"format": "metal-candle tuning", "version": 1,
//    "devices": [{"device": "AMD EPYC, AVX3_ZEN4, 2 threads",
//                 "values": [{"parameter": "product columns", "dtype": "bf16",
//                             "sizes": [128, 4096, 1024], "form": 0, "value": 512}]}]}
// A value holds for sizes from those given up to twice as large. What the sizes are, and the form,
// depends on the parameter.
#pragma once

#include <string>
#include <string_view>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/tuning.h"

namespace metal_candle::backend {

/// What a device is called in files: its model, and how many threads there are where that may vary.
[[nodiscard]] std::string tuning_key(const Backend& backend);

/// Adds the values that the text has for a device to `to`, replacing those of the same class.
/// Unknown parameters are left out: another version may have had them. Throws FormatError, naming
/// `path`, if the text is damaged or of a later version.
void read_tuning(std::string_view text, const std::string& path, const std::string& device,
                 Tuning& to);

/// The text with the device's values replaced by these; those of other devices stay. `text` may be
/// empty. Throws as read_tuning() does.
[[nodiscard]] std::string with_tuning(std::string_view text, const std::string& path,
                                      const std::string& device, const Tuning& values);

/// The user's file: what METAL_CANDLE_TUNING names, else tuning.json in user_cache_folder(). Empty
/// if METAL_CANDLE_TUNING is "off" or there is nowhere to keep files.
[[nodiscard]] std::string tuning_path();

/// What ships with the library for the device, and over that what the user's file has. A file in
/// the cache that cannot be used is a warning on standard error that names it, once; one that the
/// user has named throws FormatError, or IoError if there is none.
[[nodiscard]] Tuning load_tuning(const std::string& device);

/// Values for machines that were measured: shipped_tuning.cpp.
extern const char* const kShippedTuning;

}  // namespace metal_candle::backend
