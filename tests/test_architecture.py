"""The rules of the tree: who may know whom. Equations know no time, time knows no SIMD."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from reference import STEPS

ROOT = Path(__file__).resolve().parents[1]
CORE, PACKAGE = ROOT / "src_c", ROOT / "fastrnn"
MODULES = sorted(PACKAGE.rglob("*.py"))
ISA = re.compile(r"__x86_64__|__aarch64__|__AVX|__SSE|__FMA|__ARM|FR_ISA_")
COMPILER = re.compile(r"__GNUC__|__clang|_MSC_VER")
INTRINSIC = re.compile(r"\b_mm\w*\(|\b__m(128|256|512|mask)\w*|immintrin|arm_neon|\bv\w+q_f32\b")

# What the modules of each part import from other parts, at the top, inside functions and for types.
# From the top down: a line names only parts below it.
IMPORTS = {
    "__main__": "cli",
    "__init__": "_core _renamed _startup config nn",
    "cli": "_arrays _atomic _core _json data decode formats models",
    "plot": "_arrays _atomic nn",
    "io": "_arrays _atomic _errors formats models nn",
    "train": "_arrays _core _digest _json nn optim",
    "decode": "_arrays _core",
    "models": "_arrays _atomic _core _errors _names data formats losses nn",
    "formats": "_arrays _atomic _errors _json _names nn",
    "nn": "_arrays _core _errors _names",
    "optim": "_arrays _core",
    "losses": "_arrays _core",
    "data": "_arrays _digest",
    "_startup": "config",
    "_renamed": "",
    "config": "_arrays _cgroups _core",
    "_core": "",
    "_cgroups": "",
    "_digest": "_arrays",
    "_json": "_arrays",
    "_names": "_errors",
    "_atomic": "",
    "_arrays": "_errors",
    "_errors": "",
}


def sources(*folders: str) -> dict[str, str]:
    """The C files below src_c by their path there, comments removed."""
    files = [path for folder in folders for path in sorted((CORE / folder).rglob("*.*"))]
    comment = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
    return {
        str(path.relative_to(CORE)): comment.sub("", path.read_text())
        for path in files
        if path.suffix in (".c", ".h", ".inc", ".def")
    }


def test_cells_include_nothing_and_know_no_loop_and_no_index():
    for name, text in sources("cells").items():
        assert "#" not in text, name
        assert not re.search(r"\b(for|while|do|goto)\b", text), name
        assert not re.search(r"\[(?!\d\])|->", text), name  # z[2] is a gate, z[i] would be an array


def test_intrinsics_are_in_vf_and_isa_only():
    for name, text in sources(".").items():
        if name != "simd/vf.h" and not name.startswith("isa/"):
            assert not INTRINSIC.search(text), name


def test_where_threads_come_from_is_known_in_one_place():
    for name, text in sources(".").items():
        if name not in ("time/threads.c", "time/threads.h"):
            assert not re.search(r"\bomp|_OPENMP|pthread|futex", text, re.IGNORECASE), name


def test_conditions_on_an_instruction_set_or_compiler_are_in_few_places():
    allowed = {"simd/vf.h", "dispatch.c", "time/float_mode.c", "time/threads.h"}
    for name, text in sources(".").items():
        conditions = "\n".join(re.findall(r"^\s*#\s*(?:el)?if.*(?:\\\n.*)*", text, re.MULTILINE))
        if name not in allowed and not name.startswith("isa/"):
            assert not ISA.search(conditions), name
            if name != "include/fastrnn.h":
                assert not COMPILER.search(conditions), name


def test_the_core_neither_allocates_nor_prints_nor_exits():
    for name, text in sources(".").items():
        if name != "host.h":  # for those who use the core
            calls = r"\b(malloc|calloc|realloc|free|f?printf|puts|exit|abort|assert|getenv)\("
            assert not re.search(calls, text), name


def test_kernels_use_no_libm():
    for name, text in sources("simd", "isa", "cells").items():
        assert not re.search(r"<math\.h>|\b(expf?|tanhf?|sqrtf?|fmaf?|logf?)\(", text), name


def test_the_extension_has_no_loop_over_data():
    """Loops over dimensions, names, lent arrays, tables of the core and operations are no data."""
    files = [PACKAGE / "_core.pyx", *sorted((PACKAGE / "_bindings").glob("*.pxi"))]
    assert len(files) > 1
    text = "".join(path.read_text() for path in files)
    for loop in re.findall(r"^\s*(for .*|while .*)", text, re.MULTILINE):
        few = r"in (zip\()?(self\.)?(network\.)?(operations|places|outputs|ports|parts)\b"
        known = rf"range\((view\.ndim|self\.count)\)|fr_parameter|fr_activations|{few}"
        assert re.search(known, loop), loop
    assert not re.search(r"\bprange\b|libc\.math", text)


def imported(path: Path) -> set[str]:
    """What a module imports from the package while it is imported itself."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # relative to the folder, or to one above it
                above = path.relative_to(ROOT).parts[: -node.level]
                module = ".".join([*above, module]).rstrip(".")
            inner = [f"{module}.{alias.name}" for alias in node.names]
            names |= set(inner) if module == "fastrnn" else {module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("fastrnn.")}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_has_its_place():
    assert {part_of(path) for path in MODULES} | {"_core"} == set(IMPORTS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_part_may(path):
    part = part_of(path)
    for name in imported(path) - {part}:
        assert name in IMPORTS.get(part, "").split(), f"{part} imports {name}"


@pytest.mark.parametrize("part", IMPORTS)
def test_a_part_imports_all_that_it_may(part):
    used = set().union(*(imported(path) for path in MODULES if part_of(path) == part))
    for name in IMPORTS[part].split():
        assert name in used, f"{part} does not import {name} any more: take it out of IMPORTS"


def test_imports_point_downwards():
    place = {part: i for i, part in enumerate(IMPORTS)}
    for part, names in IMPORTS.items():
        for name in names.split():
            assert place[part] < place[name], f"{part} stands below {name}, which it imports"


def test_every_cell_has_a_reference():
    cells = re.findall(r"^CELL\((\w+)", (CORE / "cells" / "cells.def").read_text(), re.MULTILINE)
    assert cells
    assert sorted(cells) == sorted(STEPS)
    for name in cells:
        assert f'"{name}"' in (ROOT / "tests" / "c" / "test_core.c").read_text(), name
