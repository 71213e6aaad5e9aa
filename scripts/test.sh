#!/usr/bin/env bash
# Every check of the repository: type check, lint, the TypeScript suites (some of which want schemathesis or milvus-lite), the
# Python suite of training/.
# Works on a fresh clone (it installs what is missing) and ends with "N passed, N failed" summed over
# the suites. A check that is not a suite (type check, lint) counts only when it fails, as one failure.
set -uo pipefail
cd "$(dirname "$0")/.."

reports="$(mktemp -d)"
trap 'rm -rf "$reports"' EXIT
passed=0
failed=0
skipped=0

heading() { printf '\n== %s\n' "$1"; }

# check <name> <command...>: one failure when the command fails.
check() {
  heading "$1"
  shift
  "$@" || { echo "failed: $*" | tee -a "$reports/failures"; failed=$((failed + 1)); return 1; }
}

# tally <passed> <failed> <skipped> <exit status>: a suite that died without counting a failure is one.
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

# The environment of training/, made or brought up to date when its pyproject.toml has changed.
python_environment() {
  local environment=training/.venv
  [ -x "$environment/bin/python" ] || python3 -m venv "$environment" || return 1
  if [ ! -f "$environment/installed" ] || [ training/pyproject.toml -nt "$environment/installed" ]; then
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e 'training[dev]' || return 1
    touch "$environment/installed"
  fi
}

# Where it cannot be made, the tests that need it say so and are skipped.
test_environment() {
  heading 'tools of the tests'
  local environment=test/.venv
  [ -f "$environment/installed" ] && [ ! test/requirements.txt -nt "$environment/installed" ] && return
  python3 -m venv "$environment" \
    && "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r test/requirements.txt \
    && touch "$environment/installed" \
    || rm -rf "$environment"
}

# Begun before the checks, which leave a core idle. Without Go, the tests of buckets say so and are skipped.
begin_s3_server() {
  command -v go >/dev/null || return 0
  bash scripts/s3-server.sh >"$reports/s3-server.log" 2>&1 &
  s3_server=$!
}

await_s3_server() {
  [ -z "${s3_server:-}" ] || wait "$s3_server" || { heading 'S3 server'; cat "$reports/s3-server.log"; }
}

python_suite() {
  heading 'Python tests of training/'
  (cd training && .venv/bin/python -m pytest --junitxml="$reports/pytest.xml")
  local status=$?
  local counts
  counts="$(node scripts/test-counts.mjs junit "$reports/pytest.xml" 2>>"$reports/failures")" || { counts='0 0 0'; status=1; }
  # shellcheck disable=SC2086
  tally $counts "$status"
}

if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  check 'install' npm ci || { echo '0 passed, 1 failed'; exit 1; }
fi
begin_s3_server
check 'type check' npm run --silent typecheck
check 'lint' npm run --silent lint
check 'build' npm run --silent build
test_environment
await_s3_server
typescript_suite
if compgen -G 'training/tests/test_*.py' >/dev/null; then
  if check 'environment of training/' python_environment; then
    check 'lint of training/' training/.venv/bin/ruff check training
    python_suite
  fi
fi

printf '\n'
[ ! -s "$reports/failures" ] || cat "$reports/failures"
if [ "$skipped" -gt 0 ]; then echo "$skipped skipped (each says why above)"; fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
