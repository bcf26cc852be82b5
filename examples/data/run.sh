#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Data in, results out, and a memory that outlives the VM: counts words twice,
# in two VMs that share a volume one after the other.
#
# Usage: examples/data/run.sh    (AGENT: the program, default ./agent)
set -euo pipefail
AGENT=${AGENT:-./agent}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

id_of() { sed -n 's/.*"id":"\([^"]*\)".*/\1/p'; }

# count VM TEXT: stages the text, counts, fetches the result.
count() {
    printf '%s\n' "$2" >"$work/text.txt"
    "$AGENT" vm run --vm "$1" --file "$work/text.txt" --file "$here/words.py" --cmd 'python in/words.py' >/dev/null
    "$AGENT" vm cp "$1:/workspace/out/top.json" "$work" >/dev/null
    cat "$work/top.json"
    echo
}

first=$("$AGENT" vm create --language python --persist --disk 32 | id_of)
count "$first" "to be or not to be"
"$AGENT" vm clean --vm "$first" --keep-persist >/dev/null

second=$("$AGENT" vm create --language python --volume "$first" | id_of)
count "$second" "to do is to be"
"$AGENT" vm clean --vm "$second" >/dev/null
