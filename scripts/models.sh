#!/usr/bin/env bash
# The hand-over of jobs (src/handoff) under shuttle: every model in ROWHOUSE_MODEL_ITERATIONS orders of its threads, and
# the controls, broken hand-overs that must be found.
set -euo pipefail
cd "$(dirname "$0")/.."
export ROWHOUSE_MODEL_ITERATIONS="${ROWHOUSE_MODEL_ITERATIONS:-20000}"
exec cargo test -p rowhouse-models --features shuttle --release "$@"
