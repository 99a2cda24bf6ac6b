#!/usr/bin/env bash
# Members are added to a set and removed again: what is left of them, rows and version vector, and how small the files
# get.
#
# A real node, filled through its Redis port. Its log is kept up to 4 MiB, so that what is measured is what remains
# for good. `compact` is asked of the running node; by itself it does so once a file is four times what it holds.
#
#     cargo build --release && benches/compaction.sh [MEMBERS]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/processes.sh
. benches/processes.sh

MEMBERS=${1:-1000000}

need redis-cli
need_tidelock
TIDELOCK=${TIDELOCK:-target/release/tidelock}

printf '[retention]\nage_s = 0\nbytes = 4194304\n' >"$FOLDER/node.toml"
start_tidelock node --listen off --config "$FOLDER/node.toml"

each() { # COMMAND
    awk -v members="$MEMBERS" -v command="$1" 'BEGIN {
        for (i = 0; i < members; i++)
            printf "*3\r\n$4\r\n%s\r\n$3\r\nset\r\n$16\r\nmember:%09d\r\n", command, i }' |
        redis-cli -p "$REDIS_PORT" --pipe >"$FOLDER/pipe.log"
}
sizes() { du -B1 --apparent-size "$FOLDER/node/log.redb" "$FOLDER/node/rows.redb" | awk '{ printf "%s%.1f MiB", (NR > 1 ? ", " : ""), $1 / 1048576 }'; }

each SADD
[ "$(redis-cli -p "$REDIS_PORT" SCARD set)" = "$MEMBERS" ] || { echo "not all were added" >&2; exit 1; }
sleep 3
echo "$MEMBERS members added:   log, rows $(sizes)"
each SREM
[ "$(redis-cli -p "$REDIS_PORT" EXISTS set)" = 0 ] || { echo "not all were removed" >&2; exit 1; }
# The log is looked at every two seconds, and let go of piece by piece.
sleep 30
echo "and removed:              log, rows $(sizes)"
"$TIDELOCK" compact --node "127.0.0.1:$REDIS_PORT" | sed 's/^/compact: /'
kill "$PID" && wait "$PID" 2>/dev/null || true
echo "stopped:                  log, rows $(sizes)"
"$TIDELOCK" compact "$FOLDER/node" | sed 's/^/compact: /'
echo "compacted again:          log, rows $(sizes)"
"$TIDELOCK" check "$FOLDER/node"
