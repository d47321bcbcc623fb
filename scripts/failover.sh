#!/bin/sh
# Kills a PostgreSQL server under the writes of 16 processes of two hosts, promotes its synchronous standby, and compares
# what was acknowledged with what is there; then the same with an asynchronous one, which must lose some:
# scripts/failover.sh [ACKNOWLEDGED WRITES], default 20000. Needs PostgreSQL's programs (apt-get install postgresql-15).
set -eu
cd "$(dirname "$0")/.."
ROWHOUSE_TEST_ACKED=${1:-20000} exec cargo test --release --features postgres --test hosts_on_postgres -- --nocapture
