#!/usr/bin/env bash
# Builds the image from the Dockerfile where there is no engine and no registry of images: buildah in a chroot, on a
# base made of Debian's packages. Needs root, buildah and mmdebstrap. Leaves the image's root in FOLDER/root and its description in FOLDER/image.json.
#
#   scripts/image.sh FOLDER [--build-arg EMBEDDED=0 …]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
for tool in buildah mmdebstrap; do
    command -v "$tool" >/dev/null || { echo "error: $tool is not here: apt-get install buildah mmdebstrap" >&2; exit 1; }
done

exec 9> "$folder/lock" && flock 9

# What python:3.12-slim-bookworm would be: Debian's Python instead of its own. Kept for a week.
base=$folder/base.tar
if [ -z "$(find "$base" -mtime -7 2>/dev/null)" ]; then
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates,usr-is-merged \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        bookworm "$folder/base.new.tar" >&2
    mv "$folder/base.new.tar" "$base"
fi

export BUILDAH_ISOLATION=chroot
in_store() { buildah --root "$folder/store" --runroot "$folder/run" "$@"; }
in_store rm --all >/dev/null
from=$(in_store from scratch)
in_store add -q "$from" "$base" / >/dev/null
in_store commit -q --rm "$from" localhost/base >/dev/null

# This machine's authorities and what it has downloaded already serve the build, and do not end up in the image.
mounts=()
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ -f "$bundle" ] && mounts+=(--volume "$bundle:/etc/ssl/certs/ca-certificates.crt:ro")
cache=$("$here/.venv/bin/uv" cache dir 2>/dev/null || true)
[ -d "$cache" ] && mounts+=(--volume "$cache:/var/cache/uv")
in_store bud --format docker --build-arg BASE=localhost/base "${mounts[@]}" "$@" -t localhost/model-gateway "$here" >&2
in_store inspect --type image localhost/model-gateway > "$folder/image.json"
work=$(in_store from localhost/model-gateway)
rm -rf "$folder/root"
cp -a "$(in_store mount "$work")" "$folder/root"
in_store umount "$work" >/dev/null
in_store rm "$work" >/dev/null
echo "$folder/root is the image's root, $folder/image.json its description"
