#!/usr/bin/env bash
# From SIGKILL of the leader to the next write that another anchor acknowledges: three anchors on this machine, 50 kills.
#
# The client tries again every 5 ms, so a time is up to that too long. The one that was killed starts again before the next.
#
#     cargo build --release && benches/failover.sh [KILLS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh
# shellcheck source=benches/anchors.sh
. benches/anchors.sh

KILLS=${1:-50}

need redis-cli
need_tidelock
start_anchors 3 default

now_us() {
    echo "${EPOCHREALTIME/./}"
}

# acknowledged PORT VALUE: whether a write is.
acknowledged() {
    [ "$(timeout 5 redis-cli -p "$1" SET failover "$2" 2>/dev/null)" = OK ]
}

for ((kill = 0; kill < KILLS; kill++)); do
    until_true 30 leader_is_known
    victim=$LEADER
    other=$(((victim + 1) % 3))
    until_true 30 acknowledged "${ANCHOR_PORTS[other]}" "before $kill"
    kill -KILL "${ANCHOR_PIDS[victim]}"
    began=$(now_us)
    until acknowledged "${ANCHOR_PORTS[other]}" "after $kill"; do sleep 0.005; done
    echo $((($(now_us) - began) / 1000)) >>"$FOLDER/times"
    wait "${ANCHOR_PIDS[victim]}" 2>/dev/null || true
    start_anchor "$victim"
done

sort -n "$FOLDER/times" | awk -v kills="$KILLS" '{ ms[NR] = $1 } END {
    place = int(NR * 0.99 + 0.999); if (place > NR) place = NR
    printf "leader SIGKILL to the next acknowledged write, %d kills: p50 %d ms, p99 %d ms, longest %d ms; gate p99 2000 ms: %s\n",
        kills, ms[int((NR + 1) / 2)], ms[place], ms[NR], ms[place] <= 2000 ? "kept" : "MISSED" }'
