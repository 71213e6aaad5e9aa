#!/usr/bin/env bash
# Builds versitygw, the S3 server for the tests of the image store, into test/.tools/. Needs Go.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v1.8.0
export GOBIN="$PWD/test/.tools"
[ -x "$GOBIN/versitygw" ] || go install -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$version"
"$GOBIN/versitygw" --version
