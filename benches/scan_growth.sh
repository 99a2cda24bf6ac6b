#!/usr/bin/env bash
# How the files grow while a node is scanned and written to at once, for a minute.
#
# redb frees a page only when nobody can read it any more, so a reader that lives long makes a file grow. A node is
# filled with keys that are then overwritten at random, as in redis-benchmark, while another client goes through all
# of them with SCAN again and again. The figure is what the same writes do to the files without the scan: what
# is left is what scanning costs. Files grow by doubling, so look at the disk blocks, too.
#
#     cargo build --release && benches/scan_growth.sh [KEYS] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh

KEYS=${1:-200000}
SECONDS_EACH=${2:-60}
VALUE_BYTES=100

need redis-cli
need redis-benchmark
need_tidelock

size() { stat -c %s "$FOLDER/$1/rows.redb"; }
blocks() { du -B1 "$FOLDER/$1/rows.redb" | cut -f1; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
mebibytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

scan() { # PORT: goes through all keys until it is ended
    local cursor=0 rounds=0
    trap 'echo $rounds >"$FOLDER/rounds"; exit 0' TERM
    while :; do
        cursor=$(redis-cli -p "$1" SCAN "$cursor" COUNT 1000 | sed -n 1p)
        if [ "$cursor" = 0 ]; then rounds=$((rounds + 1)); fi
    done
}

measure() { # NAME IS_SCANNED
    local before after scanner=
    # The log is let go of at once, so that it is not measured with the rows.
    printf '[retention]\nage_s = 1\npeers_s = 1\nbytes = 4194304\n' >"$FOLDER/config.toml"
    start_tidelock "$1" --listen off --config "$FOLDER/config.toml"
    redis-benchmark -p "$REDIS_PORT" -q -P 64 -c 4 -n $((KEYS * 5)) -r "$KEYS" -d $VALUE_BYTES -t set >/dev/null 2>&1
    sleep 3
    before=$(size "$1")
    if [ "$2" = yes ]; then
        scan "$REDIS_PORT" &
        scanner=$!
    fi
    timeout "$SECONDS_EACH" redis-benchmark -p "$REDIS_PORT" -q -P 16 -c 4 -n 1000000000 -r "$KEYS" \
        -d $VALUE_BYTES -t set >/dev/null 2>&1 || true
    after=$(size "$1")
    if [ -n "$scanner" ]; then kill "$scanner" && wait "$scanner" 2>/dev/null || true; fi
    echo "$1: $(redis-cli -p "$REDIS_PORT" DBSIZE) keys; rows.redb $(mebibytes "$before") before, $(mebibytes "$after") after" \
        "$SECONDS_EACH s of writes: $(ratio "$after" "$before")x; on disk $(mebibytes "$(blocks "$1")")" \
        "${scanner:+; scanned $(cat "$FOLDER/rounds" 2>/dev/null || echo 0) times}"
    kill "$PID" && wait "$PID" 2>/dev/null || true
}

measure written no
measure scanned yes
