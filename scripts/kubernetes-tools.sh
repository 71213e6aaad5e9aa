#!/usr/bin/env bash
# Builds the tools that the chart's tests run, from the Go registry, into test/.tools/: helm, kubeconform and kube-score.
# With --api-server also kube-apiserver and etcd, to which test/deploy/api-server.test.ts installs the chart for real.
# What is there already stays. CONTRIBUTING.md says how long each takes.
set -euo pipefail
cd "$(dirname "$0")/.."

helm=v3.19.0
kubeconform=v0.8.0
kube_score=v1.20.0
kubernetes=v1.37.2
etcd=v3.6.16

export GOBIN="$PWD/test/.tools"
# Static ones, which also run on another machine of the same kind.
export CGO_ENABLED=0
mkdir -p "$GOBIN"

# tool <name> <package@version>
tool() {
  [ -x "$GOBIN/$1" ] && return
  echo "building $2"
  go install -trimpath -ldflags "-s -w" "$2"
}

# The modules of Kubernetes and etcd name each other by folders of their own repositories: a module of ours in a
# scratch folder says which published versions are meant.
api_server() {
  [ -x "$GOBIN/kube-apiserver" ] && [ -x "$GOBIN/etcd" ] && return
  local scratch
  scratch="$(mktemp -d)"
  # shellcheck disable=SC2064
  trap "rm -rf '$scratch'" EXIT
  cd "$scratch"
  export GOFLAGS=-mod=mod
  go mod init servers
  # Its configuration file, not the package, is what names the modules that live in Kubernetes' repository.
  go mod download -json "k8s.io/kubernetes@$kubernetes" >kubernetes.json
  local published="${kubernetes/v1./v0.}"
  sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' kubernetes.json | xargs sed -n 's/^\t\(k8s.io\/[^ ]*\) => .*/\1/p' | sort -u \
    | while read -r module; do go mod edit -replace "$module=$module@$published"; done
  go mod edit -require "k8s.io/kubernetes@$kubernetes"
  if [ ! -x "$GOBIN/kube-apiserver" ]; then
    echo "building kube-apiserver $kubernetes"
    # The version that it tells to clients, which charts ask for.
    local tells="-X k8s.io/component-base/version.gitVersion=$kubernetes"
    tells+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$kubernetes")"
    go build -trimpath -ldflags "-s -w $tells" -o "$GOBIN/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
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
if [ "${1:-}" = --api-server ]; then api_server; fi
