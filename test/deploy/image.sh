#!/usr/bin/env bash
# Builds the image of Dockerfile without a registry of images, starts it as its user, adds a photo, searches, and stops it.
# The base is made by debootstrap and this machine's Node, in the place of node:24-bookworm-slim. As root, on Debian:
#   apt-get install buildah debootstrap && bash test/deploy/image.sh
# Takes some minutes. Ends with the size of the image; fails when that is 400 MB or more, or anything else does.
set -euo pipefail
cd "$(dirname "$0")/../.."

most_bytes=400000000
port="${PORT:-38471}"
base="$(sed -n 's/^FROM \(node:[^ ]*\).*/\1/p' Dockerfile | head -1)"
node="$(readlink -f "$(command -v node)")"
npm="$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")"
headers="$(dirname "$(dirname "$node")")/include/node"
root="$(mktemp -d)"
container=''
server=''
leave() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  rm -rf "$root" "$root.log" "$root.serve.log"
}
trap leave EXIT

if ! buildah inspect --type image "docker.io/library/$base" >/dev/null 2>&1; then
  debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian >"$root.log"
  # As the images of Debian that are called slim.
  rm -rf "$root"/usr/share/{doc,man,locale,info}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
  mkdir -p "$root"/usr/local/{bin,lib/node_modules,include,etc} "$root"/etc/ssl/certs
  cp "$node" "$root/usr/local/bin/node"
  cp -r "$npm" "$root/usr/local/lib/node_modules/npm"
  cp -r "$headers" "$root/usr/local/include/"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  printf 'cafile=/etc/ssl/certs/ca-certificates.crt\nnodedir=/usr/local\n' >"$root/usr/local/etc/npmrc"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  container="$(buildah from scratch)"
  tar -C "$root" -cf - . | tar -C "$(buildah mount "$container")" -xf -
  buildah umount "$container" >/dev/null
  buildah commit -q "$container" "docker.io/library/$base" >/dev/null
  buildah rm "$container" >/dev/null
  container=''
fi

# The format of Docker, since that of OCI has no HEALTHCHECK.
buildah bud --format docker --isolation chroot --network host --pull=never --layers --quiet -t tandem . >/dev/null 2>"$root.log" \
  || { cat "$root.log" >&2; exit 1; }

container="$(buildah from --pull=never localhost/tandem)"
as_image=(buildah run --isolation chroot --network host --env PORT="$port" --env HOST=127.0.0.1 "$container" --)
[ "$("${as_image[@]}" id -u)" = 1000 ]
# shellcheck disable=SC2016
"${as_image[@]}" sh -c 'for tool in npm npx g++ cc make python3; do ! command -v $tool || exit 1; done'
"${as_image[@]}" node dist/server.js >"$root.serve.log" &
url="http://127.0.0.1:$port"
healthy() { "${as_image[@]}" node -e "$(buildah inspect --type image --format '{{index .Docker.Config.Healthcheck.Test 3}}' localhost/tandem)" 2>/dev/null; }
for _ in $(seq 120); do if healthy; then break; fi; sleep 1; done
server="$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$root.serve.log" | head -1)"
healthy
curl -sSf -X PUT --data-binary @models/tandem-small/goldens-image.png -H 'content-type: image/png' "$url/items/drawn" >/dev/null
curl -sSf "$url/search?q=a+red+disc" | grep -q '"id":"drawn"'
kill -TERM "$server"
wait %1
server=''
grep -q '"msg":"stopped"' "$root.serve.log"

buildah rm "$container" >/dev/null
container="$(buildah from --pull=never localhost/tandem)"
bytes="$(du -s --apparent-size --block-size=1 "$(buildah mount "$container")" | cut -f1)"
echo "built, started, answered and stopped: $((bytes / 1000000)) MB"
[ "$bytes" -lt "$most_bytes" ]
