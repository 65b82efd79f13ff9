# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# cmake -DINPUT=script -DOUTPUT=file.cpp -DSYMBOL=name -P embed_scripts.cmake: a source file that defines
# metal_candle::bench::SYMBOL as the script's text.
file(READ "${INPUT}" text)
file(WRITE "${OUTPUT}" "#include \"bench/peer_scripts.h\"\n"
  "const char* const metal_candle::bench::${SYMBOL} = R\"PEER_SCRIPT(${text})PEER_SCRIPT\";\n")
