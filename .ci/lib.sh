# Shared by the scripts beside it: headings with times, and building the C core and its tests.
# shellcheck shell=bash disable=SC2034 # its variables are used by those who source it

JOBS=$(nproc)
WARNINGS=(-Wall -Wextra -Werror)
LIKE_SETUP=(-std=gnu11 -O3 -falign-loops=64 -ffp-contract=off -fno-math-errno -fvisibility=hidden)
QUICK=(-std=gnu11 -O1 -g -ffp-contract=off -fno-math-errno)

section_name=
section() { # NAME: ends the section before with its time
    if [[ -n $section_name ]]; then
        printf -- '---- %s: %d s\n' "$section_name" $((SECONDS - section_start))
    fi
    section_name=$1 section_start=$SECONDS
    printf '\n==== %s (after %d s)\n' "$1" "$SECONDS"
}

has_cpu() { grep -qw "$1" /proc/cpuinfo; }

isas() { # the tables of kernels that this CPU can run
    echo base
    if has_cpu avx2 && has_cpu fma; then echo avx2; fi
    if has_cpu avx512f; then echo avx512; fi
}

core() { # FOLDER COMPILER FLAG...: the objects of the core
    local folder=$1
    shift
    mkdir -p "$folder"
    # shellcheck disable=SC2016
    printf '%s\n' src_c/isa/*.c src_c/*.c src_c/*/*.c | sort -u | xargs -P "$JOBS" -I{} bash -c '
        folder=$1 source=$2
        shift 2
        "$@" -c "$source" -o "$folder/$(basename "$source" .c).o"' _ "$folder" {} "$@"
}

# Tests are compiled with -O1: their speed does not matter, and GCC 12 for AArch64 fails on one at -O3.
c_test() { # FOLDER NAME COMPILER FLAG...: FOLDER/NAME, a test over the objects there
    local folder=$1 name=$2 objects
    shift 2
    objects=("$folder"/*.o)
    if [[ $name == test_threads ]]; then # has these in itself
        objects=("${objects[@]/$folder\/team.o/}")
        objects=("${objects[@]/$folder\/gather.o/}")
    fi
    # shellcheck disable=SC2068
    "$@" -O1 ${objects[@]} "tests/c/$name.c" -o "$folder/$name" -lm -lpthread
}

math_flags() { # ISA: how test_math is compiled for it
    case $1 in
        base) echo -DFR_ISA_BASE -DFR_LANES=4 ;;
        avx2) echo -DFR_ISA_AVX2 -DFR_LANES=8 -mavx2 -mfma ;;
        avx512) echo -DFR_ISA_AVX512 -DFR_LANES=16 -mavx512f ;;
        neon) echo -DFR_ISA_NEON -DFR_LANES=4 ;;
    esac
}

math_test() { # FOLDER ISA COMPILER FLAG...: FOLDER/test_math_ISA
    local folder=$1 isa=$2
    shift 2
    # shellcheck disable=SC2046
    "$@" $(math_flags "$isa") tests/c/test_math.c -o "$folder/test_math_$isa" -lm
}
