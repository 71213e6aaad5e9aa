#!/usr/bin/env bash
# Runs every check of the repository: type check, lint, build, the TypeScript tests, the Python tests of training/.
# Installs what a fresh clone lacks. The last line is "N passed, N failed", summed over the suites. A failed check that is
# no suite, such as the lint, counts as one failure.
set -uo pipefail
cd "$(dirname "$0")/.."

reports="$(mktemp -d)"
trap 'rm -rf "$reports"' EXIT
passed=0
failed=0
skipped=0

heading() { printf '\n== %s\n' "$1"; }

# check <name> <command...>: counts one failure if the command fails.
check() {
  heading "$1"
  shift
  "$@" || { echo "failed: $*" | tee -a "$reports/failures"; failed=$((failed + 1)); return 1; }
}

# tally <passed> <failed> <skipped> <exit status>: a suite that crashed without a failed test counts as one failure.
tally() {
  passed=$((passed + $1))
  skipped=$((skipped + $3))
  if [ "$4" -ne 0 ] && [ "$2" -eq 0 ]; then failed=$((failed + 1)); else failed=$((failed + $2)); fi
}

typescript_suite() {
  heading 'TypeScript tests'
  npx vitest run --reporter=default --reporter=json --outputFile.json="$reports/vitest.json"
  local status=$?
  local counts
  counts="$(node scripts/test-counts.mjs vitest "$reports/vitest.json" 2>>"$reports/failures")" || { counts='0 0 0'; status=1; }
  # shellcheck disable=SC2086
  tally $counts "$status"
}

# Creates or updates the environment of training/ after a change of its pyproject.toml.
python_environment() {
  local environment=training/.venv
  [ -x "$environment/bin/python" ] || python3 -m venv "$environment" || return 1
  if [ ! -f "$environment/installed" ] || [ training/pyproject.toml -nt "$environment/installed" ]; then
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e 'training[dev]' || return 1
    touch "$environment/installed"
  fi
}

# Without it the tests that need its tools are skipped and say why.
test_environment() {
  heading 'test tools'
  local environment=test/.venv
  [ -f "$environment/installed" ] && [ ! test/requirements.txt -nt "$environment/installed" ] && return
  python3 -m venv "$environment" \
    && "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r test/requirements.txt \
    && touch "$environment/installed" \
    || rm -rf "$environment"
}

# Clients of other services, from npm. Without them their tests are skipped and say why.
test_clients() {
  heading 'test clients'
  local folder=test/clients
  [ -f "$folder/node_modules/.package-lock.json" ] && [ ! "$folder/package-lock.json" -nt "$folder/node_modules/.package-lock.json" ] && return
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund || rm -rf "$folder/node_modules"
}

# Builds the S3 server in parallel with the checks. Without Go the tests of buckets are skipped and say why.
start_s3_server_build() {
  command -v go >/dev/null || return 0
  bash scripts/s3-server.sh >"$reports/s3-server.log" 2>&1 &
  s3_server_build=$!
}

wait_for_s3_server() {
  [ -z "${s3_server_build:-}" ] || wait "$s3_server_build" || { heading 'S3 server'; cat "$reports/s3-server.log"; }
}

python_suite() {
  heading 'Python tests of training/'
  (cd training && OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadgroup --junitxml="$reports/pytest.xml")
  local status=$?
  local counts
  counts="$(node scripts/test-counts.mjs junit "$reports/pytest.xml" 2>>"$reports/failures")" || { counts='0 0 0'; status=1; }
  # shellcheck disable=SC2086
  tally $counts "$status"
}

if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  check 'install' npm ci || { echo '0 passed, 1 failed'; exit 1; }
fi
start_s3_server_build
check 'type check' npm run --silent typecheck
check 'lint' npm run --silent lint
check 'build' npm run --silent build
test_environment
test_clients
wait_for_s3_server
typescript_suite
if compgen -G 'training/tests/test_*.py' >/dev/null; then
  if check 'environment of training/' python_environment; then
    check 'lint of training/' training/.venv/bin/ruff check --config training/pyproject.toml training bench clients/python/tandem_client.py
    check 'format of training/' training/.venv/bin/ruff format --check --config training/pyproject.toml training bench clients/python/tandem_client.py
    python_suite
  fi
fi

printf '\n'
[ ! -s "$reports/failures" ] || cat "$reports/failures"
[ "$skipped" -eq 0 ] || echo "$skipped skipped, each with its reason above"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
