#!/usr/bin/env bash
# Durable writes and reads through the Redis port, against redis-server with an append-only file that is synced
# always: redis-benchmark with 50 clients, values of 64 bytes, a million keys, without pipeline and 16 deep.
#
# The two servers are measured in turn, round by round, and the rates count as the medians of the rounds'
# ratios: on a busy machine a rate by itself says little. CPU and bytes on disk per operation hold better.
#
#     cargo build --release && benches/redis.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh

ROUNDS=${1:-5}
CLIENTS=50
VALUE_BYTES=64
KEYS=1000000
# The operations of one measurement, and the seconds that it may take.
declare -A REQUESTS=([1]=${REQUESTS_P1:-40000} [16]=${REQUESTS_P16:-160000})
LIMIT_S=120

need redis-server
need redis-benchmark
need redis-cli
need_tidelock

declare -A PORT PIDS
start_redis redis
PORT[redis]=$REDIS_PORT PIDS[redis]=$PID
start_tidelock tidelock --listen off
PORT[tidelock]=$REDIS_PORT PIDS[tidelock]=$PID

# rate SERVER TEST PIPELINE REQUESTS: operations per second.
rate() {
    timeout "$LIMIT_S" redis-benchmark -h 127.0.0.1 -p "${PORT[$1]}" -t "$2" -P "$3" -n "$4" -c $CLIENTS \
        -d $VALUE_BYTES -r $KEYS --csv 2>/dev/null | awk -F'"' '$2 != "test" { print $4 }'
}

# measure SERVER TEST PIPELINE: appends "rate cpu_us bytes" to the server's file for this test.
measure() {
    local server=$1 pid=${PIDS[$1]} count=${REQUESTS[$3]} cpu bytes rate
    cpu=$(cpu_ticks "$pid")
    bytes=$(written_bytes "$pid")
    rate=$(rate "$server" "$2" "$3" "$count")
    [ -n "$rate" ] || { echo "$server did not finish $2 with pipeline $3 in $LIMIT_S s" >&2; exit 1; }
    cpu=$(($(cpu_ticks "$pid") - cpu))
    bytes=$(($(written_bytes "$pid") - bytes))
    awk -v rate="$rate" -v cpu="$cpu" -v bytes="$bytes" -v ticks="$TICKS" -v count="$count" \
        'BEGIN { print rate, cpu * 1e6 / ticks / count, bytes / count }' >>"$FOLDER/$server.$2.$3"
}

# column SERVER TEST PIPELINE COLUMN: the median over the rounds.
column() {
    awk -v column="$4" '{ print $column }' "$FOLDER/$1.$2.$3" | median
}

# Both hold the same share of the keys before anything is measured.
for server in redis tidelock; do rate $server set 16 400000 >/dev/null; done

printf 'medians of %s rounds in turn, %s clients, values of %s B; tidelock / redis-server appendfsync always\n\n' \
    "$ROUNDS" "$CLIENTS" "$VALUE_BYTES"
printf '%-5s %3s %10s %10s %7s %6s %6s  %-12s %9s %9s %9s %9s\n' \
    test P tidelock/s redis/s ratio gate goal verdict 'CPU us' 'redis us' 'disk B' 'redis B'
for pipeline in 1 16; do
    for test in set get incr sadd; do
        for ((round = 0; round < ROUNDS; round++)); do
            measure redis $test $pipeline
            measure tidelock $test $pipeline
        done
        ratio=$(paste "$FOLDER/tidelock.$test.$pipeline" "$FOLDER/redis.$test.$pipeline" |
            awk '{ print $1 / $4 }' | median)
        case $test$pipeline in
            get*) gate=0.8 goal=1 ;;
            *16) gate=0.25 goal=0.5 ;;
            *) gate=0.5 goal=1 ;;
        esac
        verdict=$(awk -v ratio="$ratio" -v gate=$gate -v goal=$goal 'BEGIN {
            if (ratio >= goal) print "goal reached"
            else if (ratio >= gate) print "gate kept"
            else print "GATE MISSED" }')
        printf '%-5s %3s %10.0f %10.0f %7.2f %6s %6s  %-12s %9.1f %9.1f %9.0f %9.0f\n' $test $pipeline \
            "$(column tidelock $test $pipeline 1)" "$(column redis $test $pipeline 1)" "$ratio" $gate $goal "$verdict" \
            "$(column tidelock $test $pipeline 2)" "$(column redis $test $pipeline 2)" \
            "$(column tidelock $test $pipeline 3)" "$(column redis $test $pipeline 3)"
    done
done
