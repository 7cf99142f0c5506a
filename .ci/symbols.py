"""What the binaries show and contain.

    symbols.py OBJECTS EXTENSION

OBJECTS is a folder with the core's objects and libfastrnn.so made of them. The extension exports
its initialiser only, the library the functions of its headers only, and no instruction beyond the
baseline stands outside the objects of the kernels made for it: code that runs before the choice of
kernels must run on every CPU.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HEADERS = Path(__file__).resolve().parents[1] / "src_c" / "include"
INSTRUCTION = re.compile(r"^\s+[0-9a-f]+:\t(?P<mnemonic>\S+)(?P<operands>.*)$", re.MULTILINE)
AVX512_ONLY = re.compile(r"%zmm|%k[0-7]|%[xy]mm(1[6-9]|2\d|3[01])")


def output_of(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported(library: Path) -> set[str]:
    lines = output_of("nm", "--dynamic", "--defined-only", "--extern-only", library).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}


def declared() -> set[str]:
    text = "".join(header.read_text() for header in sorted(HEADERS.glob("*.h")))
    return set(re.findall(r"^FR_API [^;(]*?\b(fr_\w+)\(", text, re.MULTILINE))


def instructions(binary: Path) -> list[tuple[str, str]]:
    text = output_of("objdump", "--disassemble", "--no-show-raw-insn", binary)
    return [(found["mnemonic"], found["operands"]) for found in INSTRUCTION.finditer(text)]


def too_wide(binary: Path) -> list[str]:
    """Instructions that this object may not contain: all with a VEX prefix begin with v."""
    found = instructions(binary)
    if binary.stem == "avx512":
        return []
    if binary.stem == "avx2":
        return [m + ops for m, ops in found if AVX512_ONLY.search(ops)]
    return [m + ops for m, ops in found if m.startswith("v") or "%ymm" in ops or "%zmm" in ops]


def used(binary: Path, register: str) -> int:
    return sum(register in operands for _, operands in instructions(binary))


def problems(objects: Path, extension: Path) -> list[str]:
    found = []
    names = exported(extension)
    if names != {"PyInit__core"}:
        found.append(f"{extension.name} exports {sorted(names)}")
    names = exported(objects / "libfastrnn.so")
    if names != declared():
        found.append(f"libfastrnn.so and its headers differ in {sorted(names ^ declared())}")
    for binary in sorted(objects.glob("*.o")):
        wide = too_wide(binary)
        if wide:
            found.append(f"{binary.name} has {len(wide)} wide instructions, e.g. {wide[0]}")
    for name, register in (("avx2.o", "%ymm"), ("avx512.o", "%zmm")):
        if used(objects / name, register) < 1000:
            found.append(f"{name} hardly uses {register}: its kernels are not what they should be")
    return found


def main() -> int:
    objects, extension = map(Path, sys.argv[1:])
    found = problems(objects, extension)
    print("\n".join(found) or f"{len(declared())} functions exported, no wide instruction astray")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
