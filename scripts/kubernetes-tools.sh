#!/usr/bin/env bash
# Builds helm, kubeconform, kube-score and promtool from the Go module proxy into test/.tools/, for the tests of the chart. With
# --api-server also kube-apiserver and etcd, where test/deploy/api-server.test.ts installs the chart. Skips existing tools.
# CONTRIBUTING.md has the build times.
set -euo pipefail
cd "$(dirname "$0")/.."

helm=v3.19.0
kubeconform=v0.8.0
kube_score=v1.20.0
kubernetes=v1.37.2
etcd=v3.6.16
# v3.5.0, the version of docker/compose.yaml, as a Go module.
prometheus=v0.305.0

export GOBIN="$PWD/test/.tools"
# Static binaries also run on another machine of this architecture.
export CGO_ENABLED=0
mkdir -p "$GOBIN"

# tool <name> <package@version>
tool() {
  [ -x "$GOBIN/$1" ] && return
  echo "building $2"
  go install -trimpath -ldflags "-s -w" "$2"
}

# go install refuses a module whose go.mod excludes versions of others, so a module in a scratch folder requires it.
promtool() {
  [ -x "$GOBIN/promtool" ] && return
  echo "building promtool $prometheus"
  (
    scratch="$(mktemp -d)"
    trap 'rm -rf "$scratch"' EXIT
    cd "$scratch"
    export GOFLAGS=-mod=mod
    go mod init tools
    go mod edit -require "github.com/prometheus/prometheus@$prometheus"
    go build -trimpath -ldflags '-s -w' -o "$GOBIN/promtool" github.com/prometheus/prometheus/cmd/promtool
  )
}

# The modules of Kubernetes refer to folders of their own repository. A module in a scratch folder replaces these by
# published versions.
api_server() {
  [ -x "$GOBIN/kube-apiserver" ] && [ -x "$GOBIN/etcd" ] && return
  local scratch
  scratch="$(mktemp -d)"
  # shellcheck disable=SC2064
  trap "rm -rf '$scratch'" EXIT
  cd "$scratch"
  export GOFLAGS=-mod=mod
  go mod init servers
  # Its go.mod lists the modules in the repository of Kubernetes.
  go mod download -json "k8s.io/kubernetes@$kubernetes" >kubernetes.json
  local published="${kubernetes/v1./v0.}"
  sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' kubernetes.json | xargs sed -n 's/^\t\(k8s.io\/[^ ]*\) => .*/\1/p' | sort -u \
    | while read -r module; do go mod edit -replace "$module=$module@$published"; done
  go mod edit -require "k8s.io/kubernetes@$kubernetes"
  if [ ! -x "$GOBIN/kube-apiserver" ]; then
    echo "building kube-apiserver $kubernetes"
    # The version that clients and charts read.
    local flags="-X k8s.io/component-base/version.gitVersion=$kubernetes"
    flags+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$kubernetes")"
    go build -trimpath -ldflags "-s -w $flags" -o "$GOBIN/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
  fi
  if [ ! -x "$GOBIN/etcd" ]; then
    echo "building etcd $etcd"
    mkdir etcd && cd etcd
    go mod init servers
    go mod edit -require "go.etcd.io/etcd/server/v3@$etcd"
    go build -trimpath -ldflags '-s -w' -o "$GOBIN/etcd" go.etcd.io/etcd/server/v3
  fi
}

tool kubeconform "github.com/yannh/kubeconform/cmd/kubeconform@$kubeconform"
tool kube-score "github.com/zegl/kube-score/cmd/kube-score@$kube_score"
tool helm "helm.sh/helm/v3/cmd/helm@$helm"
promtool
if [ "${1:-}" = --api-server ]; then api_server; fi
