#!/usr/bin/env bash
# What a Raft group costs its nodes while nobody asks anything of it: CPU and memory of three anchors with an empty strong
# keyspace, beside three connected nodes without a group. Both run at the same time, so the machine's noise is in both.
#
#     cargo build --release && benches/idle.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh
# shellcheck source=benches/anchors.sh
. benches/anchors.sh

SECONDS_IDLE=${1:-60}

need redis-cli
need_tidelock

start_plain() {
    local place peer=()
    for place in 0 1 2; do
        start_tidelock "plain$place" --listen /ip4/127.0.0.1/tcp/0 "${peer[@]}"
        PLAIN_PIDS+=("$PID")
        peer+=(--peer "$LISTEN")
    done
}

# resident PID: what a process has in memory of its own, without the pages of its program, in kB.
resident() {
    awk '/^RssAnon/ { print $2 }' "/proc/$1/status"
}

# of PIDS...: CPU in ms for each second and node, and memory in MB for each node, since the ticks in BEFORE.
report() {
    local pid ticks=0 memory=0 name=$1
    shift
    for pid in "$@"; do
        ticks=$((ticks + $(cpu_ticks "$pid") - BEFORE[$pid])) memory=$((memory + $(resident "$pid")))
    done
    awk -v name="$name" -v ticks=$ticks -v hz="$TICKS" -v s="$SECONDS_IDLE" -v n=$# -v kb=$memory \
        'BEGIN { printf "%-10s %6.2f %% of a core   %6.1f MB of its own\n", name, 100 * ticks / hz / s / n, kb / 1024 / n }'
}

declare -A BEFORE
PLAIN_PIDS=()
start_plain
start_anchors 3 default
sleep 5
for pid in "${PLAIN_PIDS[@]}" "${ANCHOR_PIDS[@]}"; do BEFORE[$pid]=$(cpu_ticks "$pid"); done
sleep "$SECONDS_IDLE"
echo "idle for $SECONDS_IDLE s, for each node:"
report plain "${PLAIN_PIDS[@]}"
report anchors "${ANCHOR_PIDS[@]}"
