#!/bin/sh
# Runs the example of a forking server: every request that any worker has answered is in the scrape of any worker.
#
# usage: test_forking_server.sh <program> <curl>
set -eu

program=$1 curl=$2
folder=$(mktemp -d)
port=$((20000 + $$ % 20000))
"$program" "$port" "$folder/metrics" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
get() { "$curl" --silent --show-error --max-time 20 --retry 40 --retry-connrefused --retry-delay 1 "http://127.0.0.1:$port$1"; }

for _ in $(seq 40); do
    [ "$(get /)" = hello ]
done
for _ in $(seq 8); do
    get /metrics | grep -qx 'greetings_total 40' || { echo "FAILED: a worker showed another number" >&2; exit 1; }
done
kill "$server"
wait "$server"
[ ! -e "$folder/metrics" ] || { echo "FAILED: the server left its file" >&2; exit 1; }
