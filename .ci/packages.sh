#!/usr/bin/env bash
# The system's packages that the other scripts need (Debian); nothing happens where all are there.
set -euo pipefail

missing=()
need() { # COMMAND PACKAGE...
    command -v "$1" >/dev/null || missing+=("${@:2}")
}
need gcc build-essential
need objdump binutils
need clang clang
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
need qemu-aarch64-static qemu-user-static
need valgrind valgrind
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
python3 -c 'import sysconfig, os; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")' \
    2>/dev/null || missing+=(python3-dev)

if ((${#missing[@]})); then
    echo "installing ${missing[*]}"
    as_root=()
    if ((EUID != 0)); then as_root=(sudo -n); fi
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${missing[@]}" >/dev/null </dev/null
fi
gcc --version | head -1
clang --version | head -1
qemu-aarch64-static --version | head -1
