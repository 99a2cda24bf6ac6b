#!/usr/bin/env bash
# Ten thousand connections that do nothing: the memory that each takes, and whether those that work are slower for it.
#
# A real node. redis-benchmark measures one client's SETs and GETs one at a time, then opens the idle connections, and
# measures again while they stand.
#
#     cargo build --release && benches/idle_connections.sh [CONNECTIONS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh

CONNECTIONS=${1:-10000}
REQUESTS=5000

need redis-cli
need redis-benchmark
need_tidelock
# One for each connection, and some for files and those that work.
ulimit -n $((CONNECTIONS + 1000)) || skip "the process may not have $((CONNECTIONS + 1000)) files open"

resident_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$PID/status"; }
connected() { redis-cli -p "$REDIS_PORT" INFO clients | sed -n 's/^connected_clients:\([0-9]*\).*/\1/p'; }
all_connected() { [ "$(connected)" -gt "$CONNECTIONS" ]; }
latency() { # Milliseconds at the median and at 99 of 100, of SET and GET.
    redis-benchmark -p "$REDIS_PORT" -c 1 -n $REQUESTS -t set,get --csv 2>/dev/null |
        awk -F '"' '$2 == "SET" || $2 == "GET" { printf "%s %s/%s ms  ", $2, $10, $14 }'
}
measure() { # NAME
    local before after idle
    echo "$1, alone:                $(latency)"
    before=$(resident_kib)
    redis-benchmark -p "$REDIS_PORT" -c "$CONNECTIONS" -I >"$FOLDER/idle.log" 2>&1 &
    idle=$!
    STARTED+=("$idle")
    until_true 60 all_connected
    after=$(resident_kib)
    echo "$1, $CONNECTIONS idle beside: $(latency)"
    awk -v name="$1" -v from="$before" -v to="$after" -v count="$CONNECTIONS" \
        'BEGIN { printf "%s, memory of an idle connection: %.1f KiB\n", name, (to - from) / count }'
    kill "$idle" && wait "$idle" 2>/dev/null || true
}

printf '[redis]\nclients_max = %d\n' $((CONNECTIONS + 100)) >"$FOLDER/node.toml"
start_tidelock node --listen off --config "$FOLDER/node.toml"
measure tidelock
