# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# common.sh - what the scripts of this folder share; sourced, never run.
#
# Sets: ROOT_DIR, the top of the source tree (and the current directory).

ROOT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT_DIR" || exit

# Bold on a terminal, plain in a log.
if [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]; then
    STYLE_ON=$'\033[1m' STYLE_OFF=$'\033[0m'
else
    STYLE_ON='' STYLE_OFF=''
fi

# All that the scripts say goes to stderr, so that their commands own stdout.
say() { printf '%s==> %s%s\n' "$STYLE_ON" "$*" "$STYLE_OFF" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# The header comment of a script is its manual: prints it without the marks.
usage() {
    sed -n '2,/^$/{/SPDX/d;s/^# \{0,1\}//p}' "$0"
}

# Runs a command as root: directly, or by sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        die "this step needs root: become root or install sudo, then run it again ($*)"
    fi
}

# Processors that a build may use.
jobs_count() { nproc 2>/dev/null || echo 1; }
