#!/bin/sh
# The doctor at logs of some gigabytes, beside two writers: scripts/doctor_at_size.sh [GIGABYTES], default 5. It needs as
# much room in the folder for temporary files, and gives it back.
set -eu
cd "$(dirname "$0")/.."
ROWHOUSE_TEST_LOGS_BYTES=$((${1:-5} << 30)) exec cargo test --test doctor_beside_others o2_ -- --nocapture
