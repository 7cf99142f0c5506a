"""The rules of the tree: who may know whom. Equations know no time, time knows no SIMD."""

from __future__ import annotations

import ast
import re
from importlib import import_module

import pytest
from paths import CORE, ROOT, TESTS
from processes import run_python
from reference import STEPS
from reference_backward import STEPS_BACK
from tree import PACKAGE, calls, circles, imports, includes, modules, nodes, sources, ties

from fastrnn import _core

ISA = re.compile(r"__x86_64__|__aarch64__|__AVX|__SSE|__FMA|__ARM|FR_ISA_")
COMPILER = re.compile(r"__GNUC__|__clang|_MSC_VER")
INTRINSIC = re.compile(r"\b_mm\w*\(|\b__m(128|256|512|mask)\w*|immintrin|arm_neon|\bv\w+q_f32\b")
LONGEST = 450  # lines of a file

# What the modules of each part import from other parts, at the top, inside functions and for types.
# From the top down: a line names only parts below it.
IMPORTS = {
    "__main__": "cli",
    "cli": "__init__ _arrays _atomic _core _errors _json data decode formats losses models optim"
    " plot train",
    "__init__": "_core _renamed _version config data decode formats io losses models nn optim"
    " plot train",
    "plot": "_arrays _atomic nn train",
    "train": "_arrays _core _digest _errors _json formats nn optim",
    "optim": "_arrays _core",
    "_renamed": "",
    "config": "_arrays _cgroups _core _version",
    "_cgroups": "",
    "_version": "",
    "io": "_arrays _atomic _errors formats models nn",
    "models": "_arrays _atomic _core _errors _names data decode formats losses nn",
    "decode": "_arrays _core _errors",
    "formats": "_arrays _atomic _errors _json _names nn",
    "nn": "_arrays _core _errors _names",
    "losses": "_arrays _core",
    "data": "_arrays _digest _errors",
    "_core": "_arrays",
    "_digest": "_arrays",
    "_json": "_arrays",
    "_names": "_errors",
    "_atomic": "",
    "_arrays": "_errors",
    "_errors": "",
}
# The rooms, from the top down: no part imports one of its own room or of a room above.
ROOMS = ["cli", "plot", "io", "train", "models", "decode", "formats", "nn optim losses data"]

# What the files of each room of the core include and call in others; from the top down, too.
# Whoever calls kernels finds them through dispatch.c, of which kernels.h tells.
C_ROOMS = {
    "host": "include",
    "network": "include kernels ops time",
    "ops": "cells include kernels matrix time",
    "dispatch": "include kernels time",
    "time": "cells.def include kernels matrix",
    "matrix": "arena kernels",
    "arena": "include",
    "isa": "simd",
    "simd": "cells cells.def include kernels",
    "kernels": "cells cells.def include",
    "cells": "",
    "cells.def": "",
    "include": "",
}

# A thread of the pool serves the team that gathered it, and is forgotten by it.
C_CIRCLES = [["time/gather.c", "time/team.c", "time/threads.c"]]

# Statements at the top of modules that do something when they are imported.
EFFECTS = {
    "fastrnn": ["registry.write_with(_save)", "_renamed.install()"],
    "fastrnn.__main__": ["sys.exit(main())"],
    "fastrnn.config": ["_core.on_first_use(_read_environment)"],
    "fastrnn.nn.module": ["os.register_at_fork(after_in_child=_count_fork)"],
    "fastrnn.nn.pullback": [
        "_renew_locks()",
        "os.register_at_fork(after_in_child=_renew_locks)",
    ],
    "fastrnn.train.lock": ["os.register_at_fork(after_in_child=_forget_after_fork)"],
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


def room_of(name: str) -> str:
    """The room of a file of the core: its folder, or its own name without a folder."""
    return "cells.def" if name == "cells/cells.def" else name.partition("/")[0].partition(".")[0]


def used_rooms() -> dict[str, set[str]]:
    """Includes and calls of each room of the core in other rooms."""
    used: dict[str, set[str]] = {}
    named = {name: set(others) - {"dispatch.c"} for name, others in calls().items()}
    for graph in (includes(), named):
        for name, others in graph.items():
            rooms = {room_of(other) for other in others} - {room_of(name)}
            used.setdefault(room_of(name), set()).update(rooms)
    return used


def test_rooms_of_the_core_use_what_is_written_and_all_of_it():
    assert used_rooms() == {room: set(others.split()) for room, others in C_ROOMS.items()}


def test_rooms_of_the_core_use_rooms_below_them():
    place = {room: i for i, room in enumerate(C_ROOMS)}
    for room, others in C_ROOMS.items():
        for other in others.split():
            assert place[room] < place[other], f"{room} stands below {other}, which it uses"


def test_files_of_the_core_are_in_no_circle():
    for graph, known in [(includes(), []), (calls(), C_CIRCLES)]:
        found = circles(graph)
        assert found == known, "\n".join(ties(graph, circle) for circle in found)


def test_the_extension_has_no_loop_over_data():
    """Loops over dimensions, names, lent arrays, tables of the core and operations are no data."""
    files = [PACKAGE / "_core.pyx", *sorted((PACKAGE / "_bindings").glob("*.pxi"))]
    assert len(files) > 1
    text = "".join(path.read_text() for path in files)
    for loop in re.findall(r"^\s*(for .*|while .*)", text, re.MULTILINE):
        few = r"in [\w.(, ]*\b(operations|places|outputs|(\w+_)?ports|parts)\b"
        known = (
            r"range\((view\.ndim|self\.count|i|network\.num_(inputs|outputs))\)|"
            rf"fr_parameter|fr_activations|fr_cell_count|{few}"
        )
        assert re.search(known, loop), loop
    assert not re.search(r"\bprange\b|libc\.math", text)


def part_of(module: str) -> str:
    """The part that a module belongs to: the first name below the package."""
    return [*module.split("."), "__init__"][1]


@pytest.fixture(scope="module")
def used_parts() -> dict[str, set[str]]:
    """Imports of each part of the package from other parts."""
    used: dict[str, set[str]] = {}
    for module, others in imports().items():
        parts = {part_of(other) for other in others} - {part_of(module)}
        used.setdefault(part_of(module), set()).update(parts)
    return used


def test_every_part_has_its_place(used_parts):
    assert set(used_parts) == set(IMPORTS)


@pytest.mark.parametrize("part", IMPORTS)
def test_a_part_imports_what_it_may_and_all_of_it(part, used_parts):
    assert used_parts[part] == set(IMPORTS[part].split())


def test_imports_point_downwards():
    place = {part: i for i, part in enumerate(IMPORTS)}
    room = {part: i for i, parts in enumerate(ROOMS) for part in parts.split()}
    wrong = {
        f"{part} -> {name}"
        for part, names in IMPORTS.items()
        for name in names.split()
        if place[part] >= place[name] or room.get(part, -1) >= room.get(name, len(ROOMS))
    }
    assert not wrong


def test_modules_are_in_no_circle():
    graph = imports()
    found = circles(graph)
    parts = {part_of(module) for circle in found for module in circle}
    assert not parts, "\n".join(ties(graph, circle) for circle in found)


def test_circles_are_seen_however_an_import_is_written(tmp_path):
    package = tmp_path / "round"
    texts = {
        "__init__": "from round import a, d",
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from round.b import B",
        "b": "def f():\n    from . import c",
        "c": "import importlib\nimportlib.import_module('round.a')",
        "d": "class D:\n    def f(self):\n        from round import __version__",
        "e": "import round.f.g",
        "f/__init__": "from .h import H",
        "f/g": "",
        "f/h": "from ..e import E",
    }
    for name, text in texts.items():
        path = package / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = [["round", "round.d"], ["round.a", "round.b", "round.c"]]
    assert circles(imports(package)) == [*found, ["round.e", "round.f", "round.f.h"]]


def effects(tree: ast.AST) -> list[str]:
    """The statements of a module, outside functions and classes, that are calls or loops."""
    found = []
    for node in getattr(tree, "body", []):
        inner = node.body if isinstance(node, ast.If | ast.Try | ast.With) else [node]
        for statement in inner:
            value = getattr(statement, "value", None)
            doc = isinstance(value, ast.Constant)
            if isinstance(statement, ast.Expr | ast.For | ast.While | ast.Delete) and not doc:
                found.append(ast.unparse(statement))
    return found


def test_modules_do_nothing_when_they_are_imported():
    paths = {name: path for name, path in modules().items() if path.suffix == ".py"}
    found = {name: effects(nodes(path)[0]) for name, path in paths.items()}
    assert {name: statements for name, statements in found.items() if statements} == EFFECTS


def test_an_import_of_everything_leaves_the_process_as_it_was():
    done = run_python(f"""
        import importlib, locale, os, signal, sys, threading, warnings
        import numpy as np
        def process():
            handlers = [signal.getsignal(n) for n in signal.valid_signals()]
            modes = np.geterr(), np.get_printoptions(), locale.setlocale(locale.LC_ALL)
            own = list(sys.argv), os.getcwd(), os.umask(0o22), sys.getrecursionlimit()
            hooks = sys.excepthook, sys.displayhook, sys.stdout, sys.stderr
            return handlers, modes, own, hooks, threading.active_count(), dict(os.environ)
        def written(event, arguments):
            read = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_BINARY", 0)
            if event == "open" and "__pycache__" not in str(arguments[0]):
                if arguments[2] | read != read:
                    print("writes", arguments)
            if event.startswith(("subprocess", "socket", "os.fork", "os.system", "shutil")):
                print(event, arguments)
        names = {sorted(set(modules()) - {"fastrnn.__main__"})}
        before = process()
        sys.addaudithook(written)
        for name in names:
            importlib.import_module(name)
        assert process() == before
    """)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr + done.stdout


def own_files() -> list[str]:
    """Files that people write, by their paths below the root."""
    folders = ("fastrnn", "src_c", "tests", "bench", "examples", ".ci")
    kinds = (".py", ".pyi", ".pyx", ".pxi", ".pxd", ".c", ".h", ".inc", ".def", ".sh")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    names = [str(path.relative_to(ROOT)) for path in paths if path.suffix in kinds]
    return sorted(set(names) - {"fastrnn/_core.c"})  # Cython's


def test_files_are_short():
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in own_files()}
    long = {name: count for name, count in lines.items() if count > LONGEST}
    assert not long, long


def test_lines_of_c_are_short():
    names = [name for name in own_files() if name.endswith((".c", ".h", ".inc", ".def"))]
    widest = {name: max(map(len, (ROOT / name).read_text().splitlines())) for name in names}
    assert not {name for name, width in widest.items() if width > 100}


def uses() -> set[str]:
    """Every name that tests and their helpers take from somewhere and use."""
    names: set[str] = set()
    for path in TESTS.rglob("*.py"):
        for node in nodes(path):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
    return names


def test_every_public_name_is_used_in_a_test():
    """Names of `__all__` in the package, its folders and its modules."""
    public = {
        f"{module}.{name}": name
        for module in modules()
        if module.count(".") <= 1 and "._" not in module
        for name in getattr(import_module(module), "__all__", ())
    }
    used = uses() | set(_core.families())  # tests go through all families
    assert {"fastrnn.LSTM", "fastrnn.nn.Attention", "fastrnn.train.Trainer"} <= public.keys()
    assert not public.keys() - {path for path, name in public.items() if name in used}


def test_every_cell_has_a_reference():
    cells = re.findall(r"^CELL\((\w+)", (CORE / "cells" / "cells.def").read_text(), re.MULTILINE)
    assert cells
    assert sorted(cells) == sorted(STEPS) == sorted(STEPS_BACK)
    for name in cells:
        assert f'"{name}"' in (TESTS / "c" / "golden.h").read_text(), name
