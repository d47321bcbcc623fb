#!/usr/bin/env bash
# Damages ROWHOUSE_TEST_ROUNDS (default 1000) databases at random and shows, side by side, the rows that the salvage
# keeps and those that `sqlite3 .recover` brings back to their tables. Fails when any file gives fewer.
#
# SQLITE3 names the shell (default sqlite3). Distributions link it to a library without the sqlite_dbpage table, which
# .recover reads pages through; such a shell is lent a library, built from the sources that cargo has anyway.
set -euo pipefail
cd "$(dirname "$0")/.."

shell=$(command -v "${SQLITE3:-sqlite3}") || { echo "no sqlite3: apt-get install sqlite3, or set SQLITE3" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

recovers() { # whether a shell brings back a row
    rm -f "$folder/probe.sqlite"
    "$1" "$folder/probe.sqlite" "CREATE TABLE t(v); INSERT INTO t VALUES ('found')" &&
        "$1" "$folder/probe.sqlite" .recover 2>/dev/null | grep -q found
}

if ! recovers "$shell"; then
    cargo fetch --quiet
    source=$(cargo metadata --format-version 1 |
        python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "libsqlite3-sys"))')
    # A shell only runs with the library that it was built beside, and compares their ids.
    id=$("$shell" :memory: 'SELECT sqlite_source_id()')
    sed -E "s/^(#define SQLITE_SOURCE_ID +)\".*\"/\1\"$id\"/" "$(dirname "$source")/sqlite3/sqlite3.c" >"$folder/sqlite3.c"
    ${CC:-cc} -O1 -shared -fPIC -DSQLITE_ENABLE_DBPAGE_VTAB -DSQLITE_ENABLE_COLUMN_METADATA -DSQLITE_ENABLE_SESSION \
        -DSQLITE_ENABLE_PREUPDATE_HOOK -DSQLITE_ENABLE_STMTVTAB -o "$folder/libsqlite3.so.0" "$folder/sqlite3.c" \
        -lm -ldl -lpthread
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$folder" "$shell" >"$folder/sqlite3"
    chmod +x "$folder/sqlite3"
    shell=$folder/sqlite3
    recovers "$shell" || { echo "this sqlite3 cannot .recover; set SQLITE3 to one that can" >&2; exit 2; }
fi

echo "$("$shell" --version | cut -d' ' -f1) .recover beside the salvage"
ROWHOUSE_SALVAGE_SHELL=$shell ROWHOUSE_TEST_ROUNDS=${ROWHOUSE_TEST_ROUNDS:-1000} \
    cargo test --quiet --test salvage_random_damage -- --nocapture no_damage_makes_it_stop_or_invent
