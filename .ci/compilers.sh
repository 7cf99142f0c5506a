#!/usr/bin/env bash
# The C tests as GCC and as Clang compile them, on every kernel that this CPU has: both must give the
# golden hashes. Code for AVX-512 is compiled with all warnings even where it cannot run.
#
#     compilers.sh FOLDER      leaves GCC's objects in FOLDER/gcc, for symbols.py
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/lib.sh
folder=$1
mapfile -t isas < <(isas)

run_tests() { # FOLDER COMPILER FLAG...
    local folder=$1 compiler=("${@:2}") isa name
    core "$folder" "${compiler[@]}"
    for name in test_core test_backward test_update test_decode test_network test_attention test_ops test_activations test_threads test_fork test_alloc; do c_test "$folder" "$name" "${compiler[@]}"; done
    "$folder/test_core" "${isas[@]}"
    "$folder/test_backward" "${isas[@]}"
    "$folder/test_update" "${isas[@]}"
    "$folder/test_decode" "${isas[@]}"
    "$folder/test_attention" "${isas[@]}"
    "$folder/test_ops" "${isas[@]}"
    "$folder/test_network" "${isas[@]}"
    "$folder/test_activations" "${isas[@]}"
    "$folder/test_threads" 40
    "$folder/test_fork"
    "$folder/test_alloc"
    for isa in base avx2 avx512; do math_test "$folder" "$isa" "${compiler[@]}"; done
    for isa in "${isas[@]}"; do
        echo "test_math ($isa)"
        "$folder/test_math_$isa"
    done
}

echo "gcc, OpenMP"
run_tests "$folder/gcc" gcc "${LIKE_SETUP[@]}" "${WARNINGS[@]}" -fPIC -fopenmp
echo "clang, threads of our own"
run_tests "$folder/clang" clang "${LIKE_SETUP[@]}" "${WARNINGS[@]}" -fPIC -DFR_POOL
gcc -shared -fopenmp "$folder"/gcc/*.o -o "$folder/gcc/libfastrnn.so"
