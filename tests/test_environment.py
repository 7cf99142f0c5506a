"""Environment variables and what an import brings with it, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path

import pytest
from kernels import kernels
from processes import run_python as run

import fastrnn


@cache
def config(**environment: str) -> dict:
    """show_config() of a new process."""
    done = run("import fastrnn, json; print(json.dumps(fastrnn.show_config()))", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_widest_kernels_are_chosen_by_default():
    assert config()["isa"] == kernels()[-1]
    assert config(FASTRNN_ISA="")["isa"] == kernels()[-1]


def test_the_kernels_can_be_chosen():
    for name in kernels():
        found = config(FASTRNN_ISA=name)
        assert found["isa"] == name
        assert found["environment"] == {"FASTRNN_ISA": name}


@pytest.mark.parametrize("name", ["AVX2", "sse9", "avx2 "])
def test_unknown_kernels_are_an_error_that_names_them(name):
    done = run("import fastrnn", FASTRNN_ISA=name)
    assert done.returncode != 0
    assert f"ValueError: FASTRNN_ISA is {name!r}: " in done.stderr
    assert f'no "{name}" kernels' in done.stderr


def test_the_number_of_threads_can_be_chosen():
    assert config(FASTRNN_NUM_THREADS="3")["num_threads"] == 3
    assert config(OMP_NUM_THREADS="5")["num_threads"] == 5
    assert config(OMP_NUM_THREADS="6,2")["num_threads"] == 6
    assert config(FASTRNN_NUM_THREADS="3", OMP_NUM_THREADS="5")["num_threads"] == 3
    assert config(FASTRNN_NUM_THREADS="100000")["num_threads"] == 256


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity masks")
def test_by_default_there_are_as_many_threads_as_processors_at_most():
    assert 1 <= config()["num_threads"] <= len(os.sched_getaffinity(0))
    done = run("""
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import fastrnn
        assert fastrnn.get_num_threads() == 1
    """)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_threads_is_an_error_that_names_the_variable(value):
    done = run("import fastrnn", FASTRNN_NUM_THREADS=value)
    assert done.returncode != 0
    assert f"ValueError: FASTRNN_NUM_THREADS is {value!r}" in done.stderr


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "dynamic,4"])
def test_a_wrong_number_of_openmp_threads_is_ignored(value):
    assert config(OMP_NUM_THREADS=value)["num_threads"] == config()["num_threads"]


WRONG = [
    ("FASTRNN_NUM_THREADS", "abc", "expected a number of threads, at least 1"),
    ("FASTRNN_ISA", "foo", 'this CPU or build has no "foo" kernels'),
]


@pytest.mark.parametrize("started", ["-m", "script"])
@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_the_command_line_prints_one_line_about_a_wrong_variable(name, value, reason, started):
    if started == "-m":
        command = "[sys.executable, '-m', 'fastrnn', 'config']"
        code = f"import subprocess, sys; sys.exit(subprocess.run({command}).returncode)"
    else:  # what an installer writes
        code = "import sys; sys.argv[0] = '/opt/bin/fastrnn'; from fastrnn.cli import main"
    done = run(code, **{name: value})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"fastrnn: {name} is {value!r}")
    assert line.endswith(reason)


def test_another_program_gets_the_error_of_the_import_whatever_its_arguments_are(tmp_path):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").write_text("import fastrnn")
    (tmp_path / "tool" / "__main__.py").touch()
    done = run(f"""
        import subprocess, sys
        command = [sys.executable, "-m", "tool", "fastrnn"]
        sys.exit(subprocess.run(command, cwd={str(tmp_path)!r}).returncode)
    """, FASTRNN_NUM_THREADS="abc")  # fmt: skip
    assert done.returncode == 1
    assert "ValueError: FASTRNN_NUM_THREADS is 'abc'" in done.stderr


def test_a_failed_import_fails_again():
    done = run("""
        for _ in range(2):
            try:
                import fastrnn
            except ValueError as error:
                print(error)
    """, FASTRNN_ISA="foo")  # fmt: skip
    assert done.stdout.count("FASTRNN_ISA is 'foo'") == 2, done.stderr


def test_the_source_tree_without_its_extension_says_how_to_build_it(tmp_path):
    source = Path(fastrnn.__file__).parent
    shutil.copytree(source, tmp_path / "fastrnn", ignore=shutil.ignore_patterns("_core*", "*.pt"))
    done = run("import fastrnn", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {tmp_path / 'fastrnn'} is the source tree of fastrnn")
    assert "pip install -e ." in last
    assert "build_ext --inplace" in last


def test_an_import_brings_numpy_and_nothing_else_from_outside():
    done = run("""
        import sys
        import numpy
        before = set(sys.modules)
        import fastrnn
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        foreign = new - set(sys.stdlib_module_names) - {"fastrnn", "numpy"}
        # Every extension made by Cython registers two names for itself.
        foreign = {name for name in foreign if not name.lstrip("_").startswith("cython_")}
        assert not foreign, foreign
    """)
    assert done.returncode == 0, done.stderr


def test_an_import_does_not_bring_what_few_need():
    names = {"torch", "safetensors", "tqdm", "matplotlib", "multiprocessing"}
    done = run(f"import fastrnn, sys; print(sorted({names} & sys.modules.keys()))")
    assert done.stdout == "[]\n", done.stderr
