#!/bin/sh
# Moves a home of many threads, with their transcripts of four items each, to a PostgreSQL server and back, compares both
# sides, and prints threads and items per second: scripts/move_at_size.sh [THREADS], default 1000000, which takes some
# minutes and about 15 GB in TMPDIR for a while. Needs PostgreSQL's programs (apt-get install postgresql-15).
set -eu
cd "$(dirname "$0")/.."
ROWHOUSE_TEST_ROWS=${1:-1000000} exec cargo test --release --features postgres --test move_backend r3_ -- --nocapture
