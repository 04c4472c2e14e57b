#!/bin/sh
# Put the Debian packages that some tests use in place, where that is possible without asking: as
# root, on a machine with apt. Elsewhere it does nothing, and a test whose tool is absent says so.
set -u

missing=""
for pair in spin:spin strace:strace; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 || exit 0

export DEBIAN_FRONTEND=noninteractive
printf 'tickring: Debian packages for the tests:%s\n' "$missing"
# shellcheck disable=SC2086
timeout 60 apt-get update -qq >/dev/null 2>&1
# shellcheck disable=SC2086
timeout 120 apt-get install -y -qq --no-install-recommends $missing </dev/null >/dev/null 2>&1
exit 0
