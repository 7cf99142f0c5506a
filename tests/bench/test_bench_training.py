"""The benchmarks of training: the floor's arithmetic, that peers agree, and the table."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import BENCH

import fastrnn
from fastrnn.cli._floor import (
    Machine,
    Workload,
    floor_seconds,
    model_floor_seconds,
    training_floor_seconds,
)

# 1e9 multiply-adds per second; 8, 4 and 1 GB/s at 1, 4 and 16 KiB.
MACHINE = Machine(1, 1e9, (1 << 10, 4 << 10, 16 << 10), (8e9, 4e9, 1e9))


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports modules of bench/ by name; what engines set for the process is put back."""
    monkeypatch.syspath_prepend(str(BENCH))
    with fastrnn.num_threads(fastrnn.get_num_threads()):
        yield importlib.import_module
    importlib.import_module("peers").settings.close()


@pytest.fixture
def training(modules: Any) -> Any:
    return modules("training")


@pytest.fixture
def small(modules: Any) -> Any:
    """Makes tiny cases: of layers, or with a vocabulary of a model."""

    def make(cell: str = "lstm", vocabulary: int = 0, **options: int) -> Any:
        return modules("workloads").Training(Workload(cell, 6, 5, 3, 4, **options), vocabulary)

    return make


# ---- the floor ----------------------------------------------------------------------------------


def test_the_way_back_has_two_products_for_each_one_there() -> None:
    work = Workload("gru", 5, 3, rows=4, steps=7, layers=2)
    macs = 4 * 7 * 3 * 5 * ((3 + 5) + (5 + 5))
    assert work.macs == macs
    back = training_floor_seconds(work, MACHINE) - floor_seconds(work, MACHINE)
    assert back == pytest.approx(2 * macs / 1e9)


def test_the_floor_of_a_model_adds_its_head_and_the_update() -> None:
    work, vocabulary = Workload("lstm", 8, 4, rows=2, steps=3), 100
    parameters = 100 * 4 + 4 * 8 * (4 + 8) + 100 * 8  # 1584: 25 KB with what Adam keeps
    rest = model_floor_seconds(work, vocabulary, MACHINE) - training_floor_seconds(work, MACHINE)
    assert rest == pytest.approx(3 * 2 * 3 * 8 * 100 / 1e9 + 4 * 4 * parameters / 1e9)


def test_two_threads_halve_what_a_model_multiplies_and_reads() -> None:
    pair = Machine(2, 2e9, (1 << 10,), (1e9,))
    single = Machine(1, 1e9, (1 << 10,), (1e9,))
    work = Workload("rnn", 8, 8, 2, 3)
    assert model_floor_seconds(work, 50, pair) == pytest.approx(
        model_floor_seconds(work, 50, single) / 2
    )


def test_work_and_tokens_are_counted_over_the_head(small: Any) -> None:
    layers, model = small("gru"), small("gru", 11)
    assert layers.macs == 3 * 3 * 4 * 3 * 6 * (5 + 6)
    assert model.macs == layers.macs + 3 * 3 * 4 * 6 * 11
    assert (layers.tokens, model.tokens) == (0, 12)
    assert layers.floor_seconds(MACHINE) == training_floor_seconds(layers.layers, MACHINE)
    assert model.floor_seconds(MACHINE) == model_floor_seconds(model.layers, 11, MACHINE)


# ---- cases --------------------------------------------------------------------------------------


def test_every_training_case_has_its_own_name(modules: Any) -> None:
    cases = modules("workloads").training_cases()
    names = [case.work.label for case in cases]
    assert len(set(names)) == len(names)
    assert sum(case.target is not None for case in cases) == 9
    assert [case.work.vocabulary for case in cases if case.tokens] == [10_000, 100]
    cells = {case.work.layers.cell for case in cases if case.target is None}
    assert cells == set(modules("workloads").CELLS)
    assert cells >= set(modules("peers").CELLS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["torch", "torch fused"])
def test_pytorch_trains_every_case_to_the_same_numbers(
    modules: Any, training: Any, small: Any, name: str
) -> None:
    pytest.importorskip("torch")
    for case in modules("workloads").training_cases():
        layers = case.work.layers
        work = small(layers.cell, 11 if case.tokens else 0, layers=layers.layers)
        if name in modules("engines").names(work):
            assert training.build(name, work).name == name  # raises where results differ


@pytest.mark.filterwarnings("ignore")
def test_pytorch_trains_after_it_was_timed_without_autograd(
    modules: Any, training: Any, small: Any
) -> None:
    torch = pytest.importorskip("torch")
    peers, work = modules("peers"), small("gru")
    peers.build("torch", work.layers)
    assert torch.is_inference_mode_enabled()
    training.build("torch", work)
    assert not torch.is_inference_mode_enabled()
    peers.build("torch", work.layers)
    assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("part", ["y", "dx", "weight_hh_l0"])
def test_an_engine_with_a_wrong_gradient_is_refused(training: Any, small: Any, part: str) -> None:
    work = small("gru")
    right = training.build("fastrnn", work)
    training.prove(right, work)

    def output() -> dict[str, Any]:
        return {key: a * (1.001 if key == part else 1) for key, a in right.output().items()}

    wrong = training.Engine("wrong", right.run, output)
    with pytest.raises(training.WrongResultError, match=f"wrong, .*: {part} differs by 0.001"):
        training.prove(wrong, work)


def test_an_engine_that_keeps_old_gradients_is_refused(training: Any, small: Any) -> None:
    work = small("lstm")
    right, calls = training.build("fastrnn", work), [0]

    def output() -> dict[str, Any]:
        calls[0] += 1
        values = right.output()
        return {k: a * (calls[0] if k.startswith("weight") else 1) for k, a in values.items()}

    with pytest.raises(training.WrongResultError, match="weight_ih_l0 differs by 1 of its norm"):
        training.prove(training.Engine("hoarder", right.run, output), work)


def test_an_engine_without_all_gradients_is_refused(training: Any, small: Any) -> None:
    work = small("rnn")
    partial = training.Engine("partial", None, lambda: {"y": np.zeros(1)})
    with pytest.raises(training.WrongResultError, match=r"only one has .*'dx'"):
        training.prove(partial, work)
    assert training.relative_error(np.zeros(2), np.zeros(3)) == float("inf")


def test_a_model_whose_updates_differ_is_refused(
    training: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = small("lstm", 11)
    monkeypatch.setattr(training, "LEARNING_RATE", 2e-3)
    wrong = training.build("fastrnn", work)
    monkeypatch.undo()
    training.prove(training.build("fastrnn", work), work)
    with pytest.raises(training.WrongResultError, match=r"(loss|norm) differs by"):
        training.prove(wrong, work)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_gradients_of_a_timed_model_are_clipped(training: Any, small: Any, cell: str) -> None:
    run = training.build("fastrnn", small(cell, 50)).run
    assert all(run()["norm"] > training.CLIP_NORM for _ in range(2 * training.BATCHES))


# ---- the command --------------------------------------------------------------------------------


def test_a_training_is_timed_and_printed_in_one_row(
    modules: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, engines, table = modules("compare"), modules("engines"), modules("table")
    monkeypatch.setattr(engines, "available", lambda name: name == "torch")
    fast = modules("training").build("fastrnn", small())
    monkeypatch.setattr(
        engines, "build", lambda name, work, threads: modules("training").Engine(name, *fast_calls)
    )
    fast_calls = (fast.run, fast.output)
    seconds = {"fastrnn": 0.5, "torch": 1.0, compare.ONE_THREAD: 0.75}
    monkeypatch.setattr(
        compare, "interleave", lambda built, rounds: [[seconds[e.name]] * rounds for e in built]
    )
    work = small(vocabulary=11)
    case = modules("workloads").Case(work, 1.4)
    report = compare.measure(case, 2, 7, {2: MACHINE})
    assert report.seconds == seconds
    assert (report.ratio.median, report.scaling.median, report.verdict) == (2.0, 1.5, "ok")
    assert report.gflops == pytest.approx(2e-9 * work.macs / 0.5)
    assert report.tokens_per_second == 12 / 0.5
    assert report.floor_percent == pytest.approx(100 * work.floor_seconds(MACHINE) / 0.5)
    row, head = table.line(report, True), table.header(True)
    assert row.startswith("V=11 LSTM 5-6 N=3 T=4 ")
    for text in ("500 ms", "1.00 s", "2.00 (2.00 to 2.00)", "1.40", " 24 ", "1.50 (1.50", "  ok"):
        assert text in row
    assert row.index("2.00 (") == head.index("fastest peer / fastrnn")
    assert row.index("1.50 (") == head.index("1 thread / all")


def test_layers_alone_learn_no_tokens(modules: Any, small: Any) -> None:
    case = modules("workloads").Case(small(), 3.0)
    assert (case.tokens, case.scaling) == (0, None)
    assert case.floor_seconds(MACHINE) == training_floor_seconds(case.work.layers, MACHINE)
    assert modules("engines").names(case.work) == ("fastrnn", "torch")
    assert modules("engines").names(small(vocabulary=3)) == ("fastrnn", "torch", "torch fused")


def test_training_on_the_command_line_times_the_chosen_cases(
    modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    compare, table = modules("compare"), modules("table")
    timed = []

    def measure(case: Any, threads: int, rounds: int, machines: Any) -> Any:
        timed.append((case.work.label, threads, rounds))
        return table.Report(
            case.work.label, threads, {"fastrnn": 1.0}, None, None, case.target, None, None,
            50.0, 3.0, None,
        )  # fmt: skip

    monkeypatch.setattr(compare, "measure", measure)
    monkeypatch.setattr(compare, "calibrate", lambda threads: MACHINE)
    file = tmp_path / "figures.json"
    words = ["--training", "--threads", "2", "--only", "LSTM 64", "--rounds", "9"]
    monkeypatch.setattr("sys.argv", ["compare.py", *words, "--json", str(file)])
    compare.main()
    assert timed == [("LSTM 64 T=200 train", 2, 9)]
    text = capsys.readouterr().out
    assert "tokens/s" in text
    assert "\nLSTM 64 T=200 train " in text
    assert '"gflops": 3.0' in file.read_text()
