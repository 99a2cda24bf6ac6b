#!/usr/bin/env bash
# A node with an empty folder joins one that holds 100,000 keys: how long until both are equal, what it costs.
#
# Real processes, libp2p over TCP on loopback, redb on disk. The time counts from the start of the new process.
#
#     cargo build --release && benches/late_joiner.sh [KEYS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh

KEYS=${1:-100000}
VALUE_BYTES=64
LIMIT_S=120

need redis-cli
need_tidelock

start_tidelock first --listen /ip4/127.0.0.1/tcp/0
FIRST=$PID FIRST_PORT=$REDIS_PORT ADDRESS=${LISTEN%%,*}

# The commands as redis-cli --pipe takes them: keys of 16 bytes.
awk -v keys="$KEYS" -v length_max=$VALUE_BYTES 'BEGIN {
    for (i = 0; i < keys; i++)
        printf "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%0*d\r\n", i, length_max, length_max, i }' |
    redis-cli -p "$FIRST_PORT" --pipe >"$FOLDER/pipe.log"
count=$(redis-cli -p "$FIRST_PORT" DBSIZE)
[ "$count" = "$KEYS" ] || { echo "wrote $KEYS keys, the node has $count" >&2; exit 1; }
# Let it write its rows, so that only the joining is counted.
sleep 2

fingerprint() { redis-cli -p "$1" TIDE.FINGERPRINT; }
wanted=$(fingerprint "$FIRST_PORT")
is_equal() { [ "$(fingerprint "$SECOND_PORT")" = "$wanted" ]; }
# All that the process received on TCP connections to the first node's peer port.
received() {
    command -v ss >/dev/null || { echo unknown; return; }
    ss -Htinp "dport = :$(sed 's/.*\/tcp\/\([0-9]*\).*/\1/' <<<"$ADDRESS")" |
        awk -v pid="pid=$SECOND," 'index($0, pid) { ours = 1; next }
            ours { for (i = 1; i <= NF; i++) if (sub(/^bytes_received:/, "", $i)) sum += $i; ours = 0 }
            END { print sum + 0 }'
}

first_cpu=$(cpu_ticks "$FIRST")
start=$(date +%s%N)
start_tidelock second --listen off --peer "$ADDRESS"
SECOND=$PID SECOND_PORT=$REDIS_PORT
until_true "$LIMIT_S" is_equal
end=$(date +%s%N)
bytes=$(received)
first_cpu=$(($(cpu_ticks "$FIRST") - first_cpu))
second_cpu=$(cpu_ticks "$SECOND")
# What is still to be written behind the answer.
sleep 2
second_later=$(cpu_ticks "$SECOND")

seconds() { awk -v ticks="$1" -v unit="$2" 'BEGIN { printf "%.2f", ticks / unit }'; }
content=$((KEYS * (16 + VALUE_BYTES)))
echo "$KEYS keys of 16 B with values of $VALUE_BYTES B, an empty node joins"
echo "  time until fingerprints are equal   $(seconds $((end - start)) 1000000000) s"
echo "  CPU of the node that has them       $(seconds "$first_cpu" "$TICKS") s"
echo "  CPU of the new node                 $(seconds "$second_cpu" "$TICKS") s, $(seconds "$second_later" "$TICKS") s after 2 s more"
echo "  bytes received over TCP             $bytes, content $content"
echo "  keys at the new node                $(redis-cli -p "$SECOND_PORT" DBSIZE)"
echo "  fingerprints equal                  $wanted"
awk -v ticks="$((first_cpu + second_later))" -v unit="$TICKS" -v keys="$KEYS" 'BEGIN {
    printf "  CPU of both against iroh-docs 10 s per 100,000 (gate 10x less, goal 20x): %.1fx less\n",
        10 * keys / 100000 / (ticks / unit) }'
