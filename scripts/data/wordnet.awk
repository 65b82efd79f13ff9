# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Turns WordNet's glosses (data.noun and so on, of Debian's wordnet-base) into lines
# {"prompt": "Define X.", "completion": "..."}: one for each word of each set of synonyms, with the
# definition as a sentence and up to one example. A hundredth of the sets go to valid.jsonl.
#
#   awk -v folder=OUT -f wordnet.awk data.noun data.verb data.adj data.adv
#
# Any awk will do.

function hex(digits,    i, value) {
  value = 0
  for (i = 1; i <= length(digits); i++)
    value = value * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
  return value
}

function escape(text) {
  gsub(/\\/, "\\\\", text)
  gsub(/"/, "\\\"", text)
  return text
}

function sentence(text) {
  gsub(/`/, "'", text)
  gsub(/[ \t]+/, " ", text)
  sub(/^ /, "", text)
  sub(/[ ;:,.]+$/, "", text)
  if (text == "") return ""
  text = toupper(substr(text, 1, 1)) substr(text, 2)
  return text ~ /[.!?"]$/ ? text : text "."
}

BEGIN { if (folder == "") folder = "." }

/^ / { next }  # The licence at the top of each file.

{
  bar = index($0, "| ")
  if (bar == 0) next
  gloss = substr($0, bar + 2)
  example = ""
  quote = index(gloss, "\"")
  if (quote > 0) {
    rest = substr(gloss, quote + 1)
    close_quote = index(rest, "\"")
    if (close_quote > 1) example = sentence(substr(rest, 1, close_quote - 1))
    gloss = substr(gloss, 1, quote - 1)
  }
  definition = sentence(gloss)
  if (length(definition) < 8) next
  if (example != "" && length(example) > 12) definition = definition " \"" example "\""
  sets++
  file = folder "/" (sets % 100 == 50 ? "valid.jsonl" : "train.jsonl")
  words = hex($4)
  for (i = 0; i < words; i++) {
    word = $(5 + 2 * i)
    sub(/\([a-z]+\)$/, "", word)
    gsub(/_/, " ", word)
    printf "{\"prompt\": \"Define %s.\", \"completion\": \"%s\"}\n", escape(word), escape(definition) > file
  }
}
