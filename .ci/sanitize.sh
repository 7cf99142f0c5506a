#!/usr/bin/env bash
# The C tests under AddressSanitizer and UndefinedBehaviorSanitizer, ThreadSanitizer and valgrind.
#
#     sanitize.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/lib.sh
folder=$1
flags=("${QUICK[@]}" "${WARNINGS[@]}" -DFR_POOL)
mapfile -t isas < <(isas)

echo "address, undefined"
checked=(gcc "${flags[@]}" "-fsanitize=address,undefined" -fno-sanitize-recover=all)
export UBSAN_OPTIONS=print_stacktrace=1
core "$folder/asan" "${checked[@]}"
for name in test_core test_backward test_update test_decode test_network test_attention test_ops test_activations test_threads test_fork test_memory; do c_test "$folder/asan" "$name" "${checked[@]}"; done
"$folder/asan/test_core" "${isas[@]}"
"$folder/asan/test_backward" "${isas[@]}"
"$folder/asan/test_update" "${isas[@]}"
"$folder/asan/test_decode" "${isas[@]}"
"$folder/asan/test_attention" "${isas[@]}"
"$folder/asan/test_ops" "${isas[@]}"
"$folder/asan/test_network" "${isas[@]}"
"$folder/asan/test_activations" "${isas[@]}"
"$folder/asan/test_threads" 10
"$folder/asan/test_fork"
"$folder/asan/test_memory"

echo "threads" # gcc's runtime does not know libgomp: plain threads
checked=(gcc "${flags[@]}" -O2 -fsanitize=thread)
core "$folder/tsan" "${checked[@]}"
for name in test_threads test_backward test_attention test_ops; do c_test "$folder/tsan" "$name" "${checked[@]}"; done
TSAN_OPTIONS=halt_on_error=1 "$folder/tsan/test_threads" 4
TSAN_OPTIONS=halt_on_error=1 "$folder/tsan/test_backward" "${isas[-1]}"
TSAN_OPTIONS=halt_on_error=1 "$folder/tsan/test_attention" "${isas[-1]}"
TSAN_OPTIONS=halt_on_error=1 "$folder/tsan/test_ops" "${isas[-1]}"

echo "valgrind" # finds the use of what was never written, which the others do not
plain=(gcc "${flags[@]}" -O2)
core "$folder/plain" "${plain[@]}"
c_test "$folder/plain" test_memory "${plain[@]}"
# Threads that are kept for the next call keep their own memory: "possibly lost" to valgrind.
valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite,indirect \
    --errors-for-leak-kinds=definite,indirect "$folder/plain/test_memory"
