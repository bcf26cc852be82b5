#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The HTTP API with curl alone: a VM, a command with a file, a stream, a file out, and nothing left.
#
# Usage: [AGENT_URL=http://127.0.0.1:8787] [AGENT_API_KEY=…] curl.sh
set -eu
URL=${AGENT_URL:-http://127.0.0.1:8787}

call() { # METHOD PATH [curl options]
    method=$1 path=$2
    shift 2
    curl --silent --show-error --fail-with-body --no-buffer --request "$method" "$URL$path" \
        --header "Authorization: Bearer ${AGENT_API_KEY:-none}" "$@"
}
json() { # METHOD PATH BODY
    call "$1" "$2" --header 'Content-Type: application/json' --data "$3"
    echo
}

created=$(json POST /api/vm '{"language":"python","memory_mib":256}')
vm=$(printf '%s' "$created" | sed 's/.*"id":"\([^"]*\)".*/\1/')
trap 'call DELETE "/api/vm/$vm" >/dev/null' EXIT

json POST "/api/vm/$vm/run" '{"command":"python3 hello.py","files":[{"path":"hello.py","content":"print(6 * 7)"}]}'
json POST "/api/vm/$vm/run?stream=sse" '{"command":"seq 3; sleep 0.2; seq 4 6"}'
printf 'some bytes' | call PUT "/api/vm/$vm/files/workspace/in/note" --data-binary @-
echo
call GET "/api/vm/$vm/files/workspace/in/note"
echo
json POST /api/vm/temp '{"language":"node","command":"node -p process.version"}'
