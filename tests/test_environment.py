"""Environment variables and what an import brings with it, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from kernels import kernels
from processes import run_python as run

import fastrnn

WRONG_OPENMP = ["0", "-1", "two", "1.5", "dynamic,4"]
ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"FASTRNN_ISA": ""},
    *({"FASTRNN_ISA": name} for name in kernels()),
    {"FASTRNN_NUM_THREADS": "3"},
    {"FASTRNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"},
    {"FASTRNN_NUM_THREADS": "100000"},
    *({"OMP_NUM_THREADS": value} for value in ("5", "6,2", *WRONG_OPENMP)),
]


@cache
def configs() -> list[dict]:
    """show_config() in each of the environments, of children that are the first to ask."""
    done = run(f"""
        import json, os
        import fastrnn
        for environment in {ENVIRONMENTS}:
            child = os.fork()
            if not child:
                os.environ.update(environment)
                print(json.dumps(fastrnn.show_config()), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    """)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def config(**environment: str) -> dict:
    return configs()[ENVIRONMENTS.index(environment)]


def errors(name: str, values: list[str], use: str) -> list[str]:
    """What a process says to each of the values, one after the other."""
    done = run(f"""
        import os
        import fastrnn
        for value in {values}:
            os.environ[{name!r}] = value
            try:
                {use}
            except ValueError as error:
                print(error)
    """)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_widest_kernels_are_chosen_by_default():
    assert config()["isa"] == kernels()[-1]
    assert config(FASTRNN_ISA="")["isa"] == kernels()[-1]


def test_the_kernels_can_be_chosen():
    for name in kernels():
        found = config(FASTRNN_ISA=name)
        assert found["isa"] == name
        assert found["environment"] == {"FASTRNN_ISA": name}


def test_unknown_kernels_are_an_error_that_names_them():
    names = ["AVX2", "sse9", "avx2 "]
    found = errors("FASTRNN_ISA", names, "fastrnn.show_config()")
    for name, error in zip(names, found, strict=True):
        assert error.startswith(f"FASTRNN_ISA is {name!r}: ")
        assert f'no "{name}" kernels' in error


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


def test_a_wrong_number_of_threads_is_an_error_that_names_the_variable():
    values = ["0", "-1", "two", "1.5"]
    found = errors("FASTRNN_NUM_THREADS", values, "fastrnn.get_num_threads()")
    for value, error in zip(values, found, strict=True):
        assert error.startswith(f"FASTRNN_NUM_THREADS is {value!r}")


@pytest.mark.parametrize("value", WRONG_OPENMP)
def test_a_wrong_number_of_openmp_threads_is_ignored(value):
    assert config(OMP_NUM_THREADS=value)["num_threads"] == config()["num_threads"]


WRONG = [
    ("FASTRNN_NUM_THREADS", "abc", "expected a number of threads, at least 1"),
    ("FASTRNN_ISA", "foo", 'this CPU or build has no "foo" kernels'),
]


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_the_command_line_prints_one_line_about_a_wrong_variable(name, value, reason):
    done = run("""
        import runpy, sys
        sys.argv = ["fastrnn", "config"]
        runpy.run_module("fastrnn", run_name="__main__")
    """, **{name: value})  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"fastrnn: {name} is {value!r}")
    assert line.endswith(reason)


def test_help_is_there_whatever_the_variables_are():
    commands = [["--help"], ["--version"], ["train", "lm", "--help"]]
    done = run(f"""
        from fastrnn.cli import main
        for arguments in {commands}:
            print("----")
            try:
                assert not main(arguments)
            except SystemExit as end:
                assert not end.code
    """, FASTRNN_NUM_THREADS="abc")  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, *texts = done.stdout.split("----\n")
    assert len(texts) == len(commands)
    assert all(texts)


@pytest.mark.parametrize("program", ["/opt/bin/fastrnn", "-m", "program"])
def test_an_import_has_no_effect_whatever_the_variables_and_arguments_are(program):
    done = run(f"""
        import os, sys
        sys.argv = [{program!r}]
        before = dict(os.environ)
        import fastrnn, fastrnn.models, fastrnn.cli
        assert dict(os.environ) == before
        print("imported")
    """, FASTRNN_NUM_THREADS="abc", FASTRNN_ISA="foo")  # fmt: skip
    assert done.stdout == "imported\n", done.stderr


# Every way to a kernel or a number of threads; `layer` and the others are made before.
FIRST_USES = [
    "layer(x)", "layer(x[:, :1])", "fastrnn.GRU(3, 4)(x)", "fastrnn.RNN(3, 4)(x)",
    "fastrnn.LSTMCell(3, 4)(x[0])", "layer.vjp(x)", "layer.stream()", "layer.stream(2)",
    "linear(x)", "linear.vjp(x)", "embedding(tokens)", "norm(x)", "model(tokens)",
    "model.stream()", "model.loss(tokens, tokens)",
    "model.loss_vjp(tokens, tokens)", "attention(x4, x4)",
    "fastrnn.losses.cross_entropy(x[0], [1, 2])",
    "fastrnn.losses.binary_cross_entropy(x[0], x[0])",
    "fastrnn.optim.clip_grad_norm(model, 1.0)", "fastrnn.optim.clip_grad_value(model, 1.0)",
    "fastrnn.optim.Adam(model).step()", "fastrnn.optim.SGD(model, lr=1).step()",
    "fastrnn.generate(model, [1], max_new_tokens=2)",
    "fastrnn.generate(model, [1], max_new_tokens=2, do_sample=True)",
    "fastrnn.generate(model, [1], max_new_tokens=2, num_beams=2)",
    "list(fastrnn.stream_generate(model, [1], max_new_tokens=2))",
    "fastrnn.get_num_threads()", "fastrnn.set_num_threads(1)", "fastrnn.show_config()",
    "fastrnn.num_threads(1).__enter__()",
    "_core.get_isa()", "_core.select_isa('base')", "_core.Activation('tanh').run(x, None)",
    "_core.squared_norm(model.flat)", "_core.scale(model.flat, 1)", "_core.clip(model.flat, 1)",
    "_core.calibrate_fma(1)", "_core.calibrate_read(model.flat, 1)",
    "_core.log_softmax(x[0], x[1])",
]  # fmt: skip
MADE = """
    import os
    import numpy as np
    import fastrnn
    from fastrnn import _core
    layer, linear = fastrnn.LSTM(3, 4), fastrnn.Linear(3, 2)
    embedding, norm = fastrnn.Embedding(5, 3), fastrnn.LayerNorm(3)
    attention = fastrnn.Attention("additive", 4, 4)
    model = fastrnn.models.LanguageModel(5, 4, 4)
    x, tokens = np.zeros((2, 2, 3), np.float32), np.zeros((2, 1), np.int64)
    x4 = np.zeros((2, 1, 4), np.float32)
"""


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_a_wrong_variable_is_the_same_error_at_every_use_until_it_is_right(name, value, reason):
    done = run(f"""{MADE}
    for use in {FIRST_USES} * 2:
        try:
            eval(use)
        except ValueError as error:
            assert str(error).startswith({f"{name} is {value!r}"!r}), use
            assert str(error).endswith({reason!r}), use
        else:
            raise AssertionError(use)
    del os.environ[{name!r}]
    for use in {FIRST_USES}:
        eval(use)
    """, **{name: value})  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_environment_is_read_once_and_what_was_set_stays():
    done = run("""
        import os
        import fastrnn
        os.environ["FASTRNN_NUM_THREADS"] = "3"  # after the import, before the first use
        assert fastrnn.get_num_threads() == 3
        os.environ["FASTRNN_NUM_THREADS"] = "wrong"
        assert fastrnn.get_num_threads() == 3
        fastrnn.set_num_threads(2)
        assert fastrnn.get_num_threads() == 2
    """)
    assert done.returncode == 0, done.stderr


def test_many_threads_and_a_child_may_come_first():
    done = run("""
        import os, sys, threading
        import numpy as np
        import fastrnn
        layer, x = fastrnn.LSTM(3, 4), np.ones((2, 3), np.float32)
        barrier, found = threading.Barrier(8), []
        def use(number):
            barrier.wait()
            if number:
                layer(x)
                found.append(fastrnn.get_num_threads())
            else:
                fastrnn.set_num_threads(2)
        if hasattr(os, "fork"):  # the child reads for itself
            child = os.fork()
            if not child:
                os._exit(fastrnn.get_num_threads() != 5)
            assert os.waitpid(child, 0)[1] == 0
        threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        assert set(found) <= {2, 5} and len(found) == 7, found
        assert fastrnn.get_num_threads() == 2
    """, FASTRNN_NUM_THREADS="5")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_release_of_the_interpreter_lock_for_a_kernel_asks_for_the_environment():
    bindings = Path(fastrnn.__file__).parent / "_bindings"
    if not bindings.is_dir():
        pytest.skip("needs the source tree")
    # Copies of weights, and rules for tokens whose logits were computed.
    free = {"fr_model_load", "fr_linear_load", "fr_linear_load_transposed", "fr_constrain",
            "fr_backward_weights_load"}  # fmt: skip
    # Objects that asked when they were made, or do before every call.
    asked = {"Stream": "Slots.__cinit__", "Slots": "Slots.__cinit__",
             "Sampler": "Sampler.__init__", "Chooser": "Chooser.__init__",
             "OverTime": "OverTime._take"}  # fmt: skip
    found = {}
    for path in sorted(bindings.glob("*.pxi")):
        owner = name = ""
        for line in path.read_text().splitlines():
            if kind := re.match(r"cdef class (\w+)", line):
                owner = kind[1]
            if start := re.match(r"( *)c?p?def (?:[\w.* ]+ )?\*?(\w+)\(", line):
                owner = owner if start[1] else ""
                name = f"{owner}.{start[2]}" if owner else start[2]
            found.setdefault(name, []).append(line)
    bodies, checked = {name: "\n".join(lines) for name, lines in found.items()}, 0
    for name, body in bodies.items():
        owner = name.partition(".")[0]
        for call in re.findall(r"with nogil:\n\s+(?:\w+ = )?(fr_\w+)\(", body):
            if call not in free:
                asking = bodies[asked.get(owner, name)]
                assert "num_threads()" in asking, f"{name} calls {call} and does not ask"
                checked += 1
    assert checked > 15


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
