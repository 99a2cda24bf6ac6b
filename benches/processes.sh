# shellcheck shell=bash
# Real processes for the benchmark scripts: starts them in temporary folders, ends all of them, counts their CPU.
#
# Sourced, never run. Whatever happens, what was started here is ended and the folder is removed.

# The program under test. Build it with `cargo build --release`, or name another one.
TIDELOCK=${TIDELOCK:-${CARGO_TARGET_DIR:-target}/release/tidelock}

# The clock ticks of a second, the unit of /proc/PID/stat.
TICKS=$(getconf CLK_TCK)

FOLDER=$(mktemp -d)
STARTED=()

end_all() {
    local pid
    for pid in "${STARTED[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${STARTED[@]}"; do
        timeout 10 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
    done
    rm -rf "$FOLDER"
}
trap end_all EXIT
trap 'exit 130' INT TERM

# Says why nothing is measured, and ends well: a machine without redis is no failure of ours.
skip() {
    echo "skipped: $1"
    exit 0
}

need() {
    command -v "$1" >/dev/null || skip "$1 is not installed"
}

need_tidelock() {
    [ -x "$TIDELOCK" ] || { echo "$TIDELOCK is missing: run cargo build --release" >&2; exit 1; }
}

# until_true SECONDS COMMAND...: repeats a command until it succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "not in time: $*" >&2; exit 1; }
        sleep 0.05
    done
}

# start_tidelock NAME ARGUMENT...: sets PID, REDIS_PORT and LISTEN.
start_tidelock() {
    local name=$1 ready="$FOLDER/$1.ready"
    : >"$ready"
    shift
    "$TIDELOCK" run --data "$FOLDER/$name" --redis 127.0.0.1:0 --http off "$@" >"$ready" 2>"$FOLDER/$name.log" &
    PID=$!
    STARTED+=("$PID")
    until_true 30 grep -q '^ready ' "$ready"
    REDIS_PORT=$(sed -n 's/.* redis=127\.0\.0\.1:\([0-9]*\).*/\1/p' "$ready")
    LISTEN=$(sed -n 's/.* listen=\([^ ]*\).*/\1/p' "$ready")
}

# start_redis NAME: sets PID and REDIS_PORT. redis-server cannot be told to take a free port, so it is tried.
start_redis() {
    local try
    mkdir -p "$FOLDER/$1"
    for try in 1 2 3 4 5 6 7 8; do
        REDIS_PORT=$((20000 + RANDOM % 20000))
        redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$FOLDER/$1" --save '' --appendonly yes \
            --appendfsync always --daemonize no >"$FOLDER/$1.log" 2>&1 &
        PID=$!
        sleep 0.3
        if kill -0 "$PID" 2>/dev/null && is_server "$REDIS_PORT" "$PID"; then
            STARTED+=("$PID")
            return
        fi
        wait "$PID" 2>/dev/null || true
    done
    echo "redis-server does not start after $try tries: $(tail -n 1 "$FOLDER/$1.log")" >&2
    exit 1
}

is_server() {
    redis-cli -p "$1" INFO server 2>/dev/null | tr -d '\r' | grep -qx "process_id:$2"
}

# cpu_ticks PID: user and system time so far.
cpu_ticks() {
    awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"
}

# written_bytes PID: bytes that went to the disk so far.
written_bytes() {
    awk '/^write_bytes/ { print $2 }' "/proc/$1/io"
}

# median: the middle number of those on the input.
median() {
    sort -g | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}
