#!/usr/bin/env bash
# The C tests on AArch64, compiled across and emulated: NEON must give the golden hashes.
#
#     aarch64.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/lib.sh
folder=$1
compiler=(aarch64-linux-gnu-gcc "${LIKE_SETUP[@]}" "${WARNINGS[@]}" -static -DFR_POOL)

core "$folder" "${compiler[@]}"
for name in test_core test_backward test_update test_decode test_network test_attention test_ops test_activations test_threads; do c_test "$folder" "$name" "${compiler[@]}"; done
math_test "$folder" neon "${compiler[@]}"
qemu-aarch64-static "$folder/test_math_neon" &
math=$!
qemu-aarch64-static "$folder/test_core" neon
wait "$math"
qemu-aarch64-static "$folder/test_update" neon
qemu-aarch64-static "$folder/test_decode" neon
qemu-aarch64-static "$folder/test_attention" neon
qemu-aarch64-static "$folder/test_ops" neon
qemu-aarch64-static "$folder/test_network" neon
qemu-aarch64-static "$folder/test_activations" neon
qemu-aarch64-static "$folder/test_backward" neon
qemu-aarch64-static "$folder/test_threads" 2
