#!/usr/bin/env bash
# A node with a million small keys: the memory it takes when it has nothing to do, and how long it takes to start.
#
# A real node, filled through its Redis port, then stopped and started again. The time counts from the start of the
# process to its ready line, and to the answer to the first GET. It is asked with bash alone, since starting
# redis-cli takes longer than that.
#
#     cargo build --release && benches/restart.sh [KEYS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh

KEYS=${1:-1000000}
VALUE_BYTES=16

need redis-cli
need_tidelock

start_tidelock node --listen off
awk -v keys="$KEYS" -v length_max=$VALUE_BYTES 'BEGIN {
    for (i = 0; i < keys; i++)
        printf "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%0*d\r\n", i, length_max, length_max, i }' |
    redis-cli -p "$REDIS_PORT" --pipe >"$FOLDER/pipe.log"
[ "$(redis-cli -p "$REDIS_PORT" DBSIZE)" = "$KEYS" ] || { echo "not all keys were written" >&2; exit 1; }

resident() { awk '/^VmRSS/ { printf "%.1f MiB", $2 / 1024 }' "/proc/$PID/status"; }
milliseconds() { awk -v from="$1" -v to="$2" 'BEGIN { printf "%.0f ms", (to - from) / 1000000 }'; }
first_get() {
    exec 3<>"/dev/tcp/127.0.0.1/$REDIS_PORT"
    printf 'GET key:%012d\r\n' $((KEYS / 2)) >&3
    IFS= read -r -u 3 length && [ "$length" = "\$$VALUE_BYTES"$'\r' ] || { echo "no value: $length" >&2; exit 1; }
    exec 3>&-
}
start_again() { # WHAT
    local from ready answered
    from=$(date +%s%N)
    start_tidelock node --listen off
    ready=$(date +%s%N)
    first_get
    answered=$(date +%s%N)
    sleep 10
    echo "$1: ready after $(milliseconds "$from" "$ready"), first GET after $(milliseconds "$from" "$answered"), $(resident) after 10 s idle"
}

sleep 10
files=$(du -cB1 "$FOLDER/node/log.redb" "$FOLDER/node/rows.redb" | awk '{ printf "%.0f MiB ", $1 / 1048576 }')
echo "$KEYS keys of 16 B with values of $VALUE_BYTES B; log, rows, both: $files"
echo "after they were written: $(resident) after 10 s idle"
kill "$PID" && wait "$PID" 2>/dev/null || true
start_again "stopped and started"
kill -KILL "$PID" && wait "$PID" 2>/dev/null || true
start_again "killed and started "
