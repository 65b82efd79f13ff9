# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Turns Ambrose Bierce's The Devil's Dictionary (1911, public domain; devil.dict of Debian's dict-devil)
# into lines {"prompt": "Define X.", "completion": "..."}: the prose of each entry, without its verse.
# Every tenth entry goes to valid.jsonl and every tenth to test.jsonl, so that they are never trained on.
#
#   zcat devil.dict.dz | awk -v folder=OUT -f devils_dictionary.awk
#
# Any awk will do.

function flush_entry() {
  if (head != "" && text != "") emit(head, text)
  head = ""
  text = ""
}

function emit(word, definition,    file) {
  gsub(/_/, "", definition)
  gsub(/ *\[[^]]*\]/, "", definition)
  gsub(/[ \t]+/, " ", definition)
  sub(/^ /, "", definition)
  sub(/ $/, "", definition)
  if (length(definition) < 20 || definition !~ /^[A-Z"]/) return
  count++
  file = "train.jsonl"
  if (count % 10 == 4) file = "valid.jsonl"
  if (count % 10 == 9) file = "test.jsonl"
  gsub(/\\/, "\\\\", definition)
  gsub(/"/, "\\\"", definition)
  printf "{\"prompt\": \"Define %s.\", \"completion\": \"%s\"}\n", tolower(word), definition > (folder "/" file)
}

BEGIN {
  if (folder == "") folder = "."
  body = 0
}

# The letters' chapters and the preface are no entries.
/^ABASEMENT, / { body = 1 }
!body { next }

{ sub(/\r$/, "") }

# A headword: capitals, then a part of speech.
match($0, /^[A-Z][A-Z' -]*, (n|adj|adv|v|pp|x|p|interj|prep|conj)[a-z. ]*\.  */) {
  flush_entry()
  comma = index($0, ",")
  head = substr($0, 1, comma - 1)
  text = substr($0, RLENGTH + 1)
  verse = 0
  next
}

# Any other line that begins with a capitalised headword ends the entry before it.
/^[A-Z][A-Z'-]+[.,]/ { flush_entry(); next }

head == "" { next }
/^$/ { blank = 1; next }
# Verse and quotations are indented further than the paragraphs that follow them; the prose before is
# enough.
/^    / { verse = 1; next }
{
  if (!verse) text = text " " $0
}

END { flush_entry() }
