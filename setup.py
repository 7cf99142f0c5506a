"""Builds the one extension; everything else is in pyproject.toml."""

import os
from glob import glob

import numpy
from setuptools import Extension, setup

# Threads of our own; FASTRNN_OPENMP=1 builds with OpenMP's instead (CONTRIBUTING.md says why not).
THREADS = ["-fopenmp"] if os.environ.get("FASTRNN_OPENMP") == "1" else ["-DFR_POOL", "-pthread"]
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-falign-loops=64",  # else steps of two rows may lose 8 %: by chance a loop takes more fetches
    "-g0",  # debug information would be six times the size of the code
    "-fno-fast-math",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-DFR_API=",  # the extension exports only its module
]

setup(
    ext_modules=[
        Extension(
            "fastrnn._core",
            sources=["fastrnn/_core.pyx", *sorted(glob("src_c/**/*.c", recursive=True))],
            depends=sorted(
                glob("src_c/**/*.[hi]*", recursive=True)
                + glob("src_c/**/*.def", recursive=True)
                + glob("fastrnn/_bindings/*.pxi")
            ),
            include_dirs=["src_c", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_22_API_VERSION")],
            extra_compile_args=FLAGS + THREADS,
            extra_link_args=THREADS,
        )
    ]
)
