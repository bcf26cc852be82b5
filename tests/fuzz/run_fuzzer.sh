#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: run_fuzzer.sh FUZZER FOUND CORPUS
# Fuzzes for FUZZ_SECONDS (20), from the corpus on. New inputs and crashes go to FOUND.
set -eu
fuzzer=$1 found=$2 corpus=$3
mkdir -p "$found"
exec "$fuzzer" -max_total_time="${FUZZ_SECONDS:-20}" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
    -error_exitcode=1 -artifact_prefix="$found/crash-" "$found" "$corpus"
