#!/usr/bin/env bash
# Strong writes and linearizable reads, against etcd: three nodes of each on this machine, 16 B keys, 64 B values, clients
# with one request open each, spread over the nodes.
#
# The two are measured in turn, round by round, and the ratios are medians over the rounds: on a busy machine a rate by
# itself says little. CPU and bytes on disk are summed over the three nodes, the load's own are not in them.
#
#     cargo build --release && benches/etcd.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh
# shellcheck source=benches/anchors.sh
. benches/anchors.sh

ROUNDS=${1:-3}
SECONDS_EACH=${SECONDS_EACH:-5}
CLIENTS=${CLIENTS:-1 16 64 256}
# The database of the keyspace that is made strong.
KEYSPACE=default

need etcd
need redis-cli
need protoc
need_tidelock

LOAD_TARGET=${LOAD_TARGET:-target/strong-load}
CARGO_TARGET_DIR=$LOAD_TARGET cargo build --quiet --release --locked --manifest-path benches/strong/Cargo.toml
LOAD=$LOAD_TARGET/release/tidelock-strong-load

declare -A NODES PIDS

start_etcd() {
    local index name cluster='' base=$((20000 + RANDOM % 20000))
    for index in 0 1 2; do cluster+=",e$index=http://127.0.0.1:$((base + index * 2 + 1))"; done
    for index in 0 1 2; do
        name=e$index
        etcd --name "$name" --data-dir "$FOLDER/$name" --logger zap --log-level error \
            --listen-client-urls "http://127.0.0.1:$((base + index * 2))" \
            --advertise-client-urls "http://127.0.0.1:$((base + index * 2))" \
            --listen-peer-urls "http://127.0.0.1:$((base + index * 2 + 1))" \
            --initial-advertise-peer-urls "http://127.0.0.1:$((base + index * 2 + 1))" \
            --initial-cluster "${cluster#,}" --initial-cluster-state new >"$FOLDER/$name.log" 2>&1 &
        STARTED+=("$!")
        PIDS[etcd]+=" $!"
        NODES[etcd]+=",127.0.0.1:$((base + index * 2))"
    done
    NODES[etcd]=${NODES[etcd]#,}
    until_true 30 "$LOAD" etcd put --nodes "${NODES[etcd]}" --clients 1 --seconds 0
}

# sum FUNCTION SYSTEM: over the three nodes.
sum() {
    local pid total=0
    for pid in ${PIDS[$2]}; do total=$((total + $($1 "$pid"))); done
    echo $total
}

# measure SYSTEM WORK CLIENTS: appends "rate p50 p99 cpu_us bytes" to the system's file.
measure() {
    local cpu bytes result
    cpu=$(sum cpu_ticks "$1") bytes=$(sum written_bytes "$1")
    result=$("$LOAD" "$1" "$2" --nodes "${NODES[$1]}" --clients "$3" --seconds "$SECONDS_EACH")
    cpu=$(($(sum cpu_ticks "$1") - cpu)) bytes=$(($(sum written_bytes "$1") - bytes))
    awk -v cpu="$cpu" -v bytes="$bytes" -v ticks="$TICKS" '{
        if ($5 > 0) print $5 " requests failed" >"/dev/stderr"
        print $1, $2, $3, cpu * 1e6 / ticks / $4, bytes / $4 }' <<<"$result" >>"$FOLDER/$1.$2.$3"
}

column() {
    awk -v column="$4" '{ print $column }' "$FOLDER/$1.$2.$3" | median
}

start_etcd
start_anchors 3 $KEYSPACE
PIDS[tidelock]=${ANCHOR_PIDS[*]}
NODES[tidelock]=$(printf ',127.0.0.1:%s' "${ANCHOR_PORTS[@]}")
NODES[tidelock]=${NODES[tidelock]#,}
for system in etcd tidelock; do
    "$LOAD" $system put --nodes "${NODES[$system]}" --clients 64 --seconds "$SECONDS_EACH" >/dev/null
done

printf 'medians of %s rounds of %s s in turn; three nodes each; etcd %s\n\n' "$ROUNDS" "$SECONDS_EACH" \
    "$(etcd --version | awk 'NR == 1 { print $3 }')"
printf '%-4s %4s %8s %8s %6s  %8s %8s  %8s %8s  %7s %7s  %8s %8s\n' \
    work clients tide/s etcd/s ratio 'p50 ms' etcd 'p99 ms' etcd 'CPU us' etcd 'disk B' etcd
for work in put get; do
    for clients in $CLIENTS; do
        for ((round = 0; round < ROUNDS; round++)); do
            measure etcd $work "$clients"
            measure tidelock $work "$clients"
        done
        ratio=$(paste "$FOLDER/tidelock.$work.$clients" "$FOLDER/etcd.$work.$clients" | awk '{ print $1 / $6 }' | median)
        printf '%-4s %4s %8.0f %8.0f %5.2fx ' $work "$clients" "$(column tidelock $work "$clients" 1)" \
            "$(column etcd $work "$clients" 1)" "$ratio"
        for field in 2 3 4 5; do
            printf ' %8.6g %8.6g' "$(column tidelock $work "$clients" $field)" "$(column etcd $work "$clients" $field)"
        done
        echo
    done
done
