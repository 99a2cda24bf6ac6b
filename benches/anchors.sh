# shellcheck shell=bash
# Anchors for the benchmark scripts. Sourced behind processes.sh, never run.

ANCHOR_PORTS=() ANCHOR_PIDS=() ANCHOR_LISTENS=()

# start_anchor PLACE: starts an anchor, again on its folder and its address if it ran before.
start_anchor() {
    local place=$1 arguments=(--listen "${ANCHOR_LISTENS[$1]:-/ip4/127.0.0.1/tcp/0}")
    if [ "$place" = 0 ] && [ -z "${ANCHOR_LISTENS[0]:-}" ]; then
        arguments+=(--found)
    else
        arguments+=(--peer "${ANCHOR_LISTENS[$(((place + 1) % ${#ANCHOR_LISTENS[@]}))]}")
    fi
    start_tidelock "anchor$place" "${arguments[@]}"
    ANCHOR_PIDS[place]=$PID ANCHOR_PORTS[place]=$REDIS_PORT ANCHOR_LISTENS[place]=$LISTEN
}

# voters PORT COUNT: whether so many vote, as a node knows it.
voters() {
    [ "$(redis-cli -p "$1" TIDE.ANCHOR LIST | grep -A1 -x votes | grep -cx 1)" = "$2" ]
}

# start_anchors COUNT KEYSPACE: so many anchors that vote, and a strong keyspace that all of them know.
start_anchors() {
    local place
    for ((place = 0; place < $1; place++)); do start_anchor "$place"; done
    for ((place = 0; place < $1; place++)); do until_true 60 voters "${ANCHOR_PORTS[place]}" "$1"; done
    redis-cli -p "${ANCHOR_PORTS[0]}" TIDE.MODE "$2" STRONG | grep -qx OK
    for ((place = 0; place < $1; place++)); do until_true 30 is_strong "${ANCHOR_PORTS[place]}" "$2"; done
}

is_strong() {
    redis-cli -p "$1" TIDE.MODE "$2" | grep -qx strong
}

# leader_is_known: whether all anchors agree on who leads; sets LEADER to its place.
leader_is_known() {
    local place peer leader=''
    for place in "${!ANCHOR_PORTS[@]}"; do
        peer=$(leading_peer "${ANCHOR_PORTS[place]}")
        [ -n "$peer" ] && [ "${leader:-$peer}" = "$peer" ] || return 1
        leader=$peer
    done
    for place in "${!ANCHOR_PORTS[@]}"; do
        if [ "$(redis-cli -p "${ANCHOR_PORTS[place]}" TIDE.STATUS | grep -A1 -x peer | tail -n 1)" = "$leader" ]; then
            LEADER=$place
            return 0
        fi
    done
    return 1
}

# leading_peer PORT: who leads, as a node knows it.
leading_peer() {
    timeout 5 redis-cli -p "$1" TIDE.ANCHOR LIST 2>/dev/null |
        awk 'last == "peer" { peer = $0 } last == "leads" && $0 == 1 { print peer } { last = $0 }'
}
