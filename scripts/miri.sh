#!/usr/bin/env bash
# The hand-over of jobs (src/handoff) under Miri: data races, use after free, aliasing.
#
#   scripts/miri.sh [SEEDS]     the models, each in SEEDS schedules (default 8)
#   scripts/miri.sh --control   a broken hand-over, in which Miri must find undefined behaviour
#
# Exits 3 when there is no Miri here.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! why=$(cargo +nightly miri --version 2>&1); then
  printf 'no Miri here (rustup toolchain install nightly --component miri): %s\n' "$why" >&2
  exit 3
fi
if [ "${1:-}" = --control ]; then
  if told=$(MIRIFLAGS="${MIRIFLAGS:-} -Zmiri-many-seeds=0..8" cargo +nightly miri test -p rowhouse-models --test controls -- --ignored leaving_a_run 2>&1); then
    echo "Miri found nothing in a lender that leaves while its closure runs" >&2
    exit 1
  fi
  if ! grep -m1 'error: Undefined Behavior' <<<"$told"; then
    printf '%s\n' "$told" >&2
    exit 1
  fi
  echo "the control was found"
  exit 0
fi
# The exposed provenance is parking_lot's.
export MIRIFLAGS="${MIRIFLAGS:-} -Zmiri-permissive-provenance -Zmiri-many-seeds=0..${1:-8}"
exec cargo +nightly miri test -p rowhouse-models
