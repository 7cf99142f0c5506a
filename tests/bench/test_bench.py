"""The benchmarks themselves: the floor's arithmetic, `fastrnn bench`, and that peers agree."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from paths import BENCH

import fastrnn
from fastrnn import _core
from fastrnn.cli import _calibrate, _measure, bench
from fastrnn.cli._floor import Machine, Workload, floor_seconds

# 1e9 multiply-adds per second; 8, 4 and 1 GB/s at 1, 4 and 16 KiB.
MACHINE = Machine(1, 1e9, (1 << 10, 4 << 10, 16 << 10), (8e9, 4e9, 1e9))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs so short that only their form means something."""
    monkeypatch.setattr(_calibrate, "_LARGEST", 64 << 10)
    monkeypatch.setattr(_calibrate, "_LARGEST_SHARE", 32 << 10)
    monkeypatch.setattr(_calibrate, "_RUN_SECONDS", 1e-4)
    monkeypatch.setattr(bench, "_SECONDS", 0.01)
    monkeypatch.setattr(bench, "_QUICK_SECONDS", 0.005)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports modules of bench/ by name; what engines set for the process is put back."""
    monkeypatch.syspath_prepend(str(BENCH))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    with fastrnn.num_threads(fastrnn.get_num_threads()):
        yield load
    load("peers").settings.close()


def command(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(words)


# ---- the floor ----------------------------------------------------------------------------------


def test_work_is_counted_over_gates_layers_and_directions() -> None:
    assert Workload("lstm", 3, 2).macs == 4 * 3 * (2 + 3)
    assert Workload("gru", 3, 2, rows=5, steps=7).macs == 7 * 5 * 3 * 3 * (2 + 3)
    deep = Workload("rnn", 4, 3, layers=2, directions=2)
    assert list(deep.layer_inputs()) == [3, 3, 8, 8]
    assert deep.weights == 2 * 4 * (3 + 4) + 2 * 4 * (8 + 4)


def test_labels_say_what_differs() -> None:
    assert Workload("lstm", 256, 256).label == "LSTM 256 step"
    assert Workload("gru", 40, 8, rows=3, steps=9).label == "GRU 8-40 N=3 T=9"
    deep = Workload("lstm", 256, 256, 16, 100, layers=2, directions=2)
    assert deep.label == "2 x bi LSTM 256 N=16 T=100"


def test_bandwidth_is_interpolated_in_time_per_byte() -> None:
    assert MACHINE.bandwidth(1) == 8e9
    assert MACHINE.bandwidth(4 << 10) == pytest.approx(4e9)
    assert MACHINE.bandwidth(1 << 30) == 1e9
    between = MACHINE.bandwidth(2 << 10)  # halfway in log(footprint)
    assert between == pytest.approx(1 / ((1 / 8e9 + 1 / 4e9) / 2))


def test_the_floor_of_a_step_is_arithmetic_or_reading_whichever_takes_longer() -> None:
    small = Workload("rnn", 8, 8)  # 128 weights, 512 bytes
    assert floor_seconds(small, MACHINE) == pytest.approx(128 / 1e9)
    large = Workload("rnn", 64, 64)  # 8192 weights, 32 KiB at 1 GB/s
    assert floor_seconds(large, MACHINE) == pytest.approx(4 * 8192 / 1e9)
    rows = Workload("rnn", 64, 64, rows=10)  # the same weights for ten rows
    assert floor_seconds(rows, MACHINE) == pytest.approx(10 * 8192 / 1e9)


def test_the_floor_of_a_sequence_reads_the_input_weights_once() -> None:
    work = Workload("lstm", 32, 16, steps=5)  # W_ih 2048 numbers, W_hh 4096 (16 KiB at 1 GB/s)
    x_part = max(5 * 2048 / 1e9, 4 * 2048 / MACHINE.bandwidth(4 * 2048))
    assert x_part == 5 * 2048 / 1e9
    assert floor_seconds(work, MACHINE) == pytest.approx(x_part + 5 * 4 * 4096 / 1e9)


def test_two_threads_read_half_of_the_weights_each() -> None:
    pair = Machine(2, 2e9, MACHINE.footprints, MACHINE.bandwidths)
    work = Workload("lstm", 32, 32, steps=3)  # 16 KiB each of W_ih and W_hh, 8 KiB per thread
    per_byte = (1 / 4e9 + 1 / 1e9) / 2
    x_part = max(3 * 4096 / 2e9, 8192 * per_byte)
    assert floor_seconds(work, pair) == pytest.approx(x_part + 3 * 8192 * per_byte)


def test_layers_and_directions_add_up() -> None:
    deep = Workload("gru", 16, 16, 2, 4, layers=2, directions=2)
    first = Workload("gru", 16, 16, 2, 4)
    second = Workload("gru", 16, 32, 2, 4)
    expected = 2 * floor_seconds(first, MACHINE) + 2 * floor_seconds(second, MACHINE)
    assert floor_seconds(deep, MACHINE) == pytest.approx(expected)


# ---- calibration --------------------------------------------------------------------------------


def test_the_core_counts_what_it_did() -> None:
    one, three = _core.calibrate_fma(1), _core.calibrate_fma(3)
    assert one > 0
    assert three == 3 * one
    assert _core.calibrate_read(np.ones(2500, np.float32), 3) == 3 * 2048  # whole chunks
    assert _core.calibrate_read(np.ones(1000, np.float32), 3) == 0
    assert _core.calibrate_read(np.ones(0, np.float32), 3) == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("threads", [1, 2])
def test_calibration_covers_all_footprints(threads: int) -> None:
    machine = _calibrate.calibrate(threads)
    assert machine.threads == threads
    assert machine.macs_per_second > 1e6
    assert machine.footprints == ((16 << 10, 32 << 10, 64 << 10)[: 4 - threads])
    assert list(machine.bandwidths) == sorted(machine.bandwidths, reverse=True)
    assert min(machine.bandwidths) > 1e6


# ---- fastrnn bench ------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_the_table_has_a_row_per_workload(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--cell", "lstm", "gru", "--hidden", "8", "--batch", "1", "2", "--steps", "1", "5")
    assert bench.run(command(*words, "--threads", "1")) == 0
    text = capsys.readouterr().out
    for cell in ("LSTM", "GRU"):
        for name in ("8 step", "8 N=2 step", "8 T=5", "8 N=2 T=5"):
            assert f"\n{cell} {name} " in text
    assert "GFLOP/s" in text
    assert "p99.9" in text


@pytest.mark.usefixtures("quick")
def test_json_holds_machine_and_workloads(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run(command("--hidden", "8", "--threads", "2", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["version"] == fastrnn.__version__
    assert report["threads"] == 2
    assert [machine["threads"] for machine in report["machine"]] == [1, 2]
    step, sequence = report["workloads"]
    assert (step["name"], step["stream"], step["steps"]) == ("LSTM 8 step", True, 1)
    assert (sequence["name"], sequence["stream"], sequence["steps"]) == ("LSTM 8 T=100", False, 100)
    assert set(step["latency_seconds"]) == {"p50", "p99", "p99.9"}
    assert "latency_seconds" not in sequence
    for result in (step, sequence):
        macs = result["steps"] * 4 * 8 * 16
        assert result["gflops"] == pytest.approx(2e-9 * macs / result["seconds"])
        percent = 100 * result["floor_seconds"] / result["seconds"]
        assert result["floor_percent"] == pytest.approx(percent)


@pytest.mark.usefixtures("quick")
def test_threads_are_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = fastrnn.get_num_threads()
    bench.run(command("--hidden", "4", "--steps", "2", "--threads", str(before + 1)))
    assert fastrnn.get_num_threads() == before
    assert f"threads: {before + 1}" in capsys.readouterr().out


def test_a_cell_alone_picks_from_the_default_list() -> None:
    works = list(bench._workloads(command("--cell", "gru", "--quick")))
    assert works
    assert {work.cell for work in works} == {"gru"}
    everything = list(bench._workloads(command()))
    assert len(everything) == len(bench._DEFAULT)


@pytest.mark.parametrize("size", ["0", "-1", "x", "1.5", str((1 << 20) + 1)])
def test_impossible_sizes_are_wrong_usage(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--hidden", size)
    assert "must be a whole number of 1 or more" in capsys.readouterr().err


def test_a_tail_needs_enough_calls() -> None:
    result = _measure.Result(Workload("rnn", 1, 1), 1e-6, 10, 1e-7, {50.0: 1e-6})
    assert result.as_dict()["latency_seconds"] == {"p50": 1e-6, "p99": None, "p99.9": None}
    assert result.floor_percent == pytest.approx(10)


def test_times_have_units_that_fit() -> None:
    texts = [_measure.format_seconds(s) for s in (2.5e-7, 4.21e-5, 0.0123, 2.0, None)]
    assert texts == ["0.25 us", "42.1 us", "12.3 ms", "2.00 s", "-"]


# ---- peers --------------------------------------------------------------------------------------

WORKS = [
    *(Workload(cell, 9, 5, 3) for cell in ("lstm", "gru", "rnn")),
    Workload("lstm", 9, 9),
    *(Workload(cell, 9, 5, 3, 6) for cell in ("lstm", "gru", "rnn")),
    *(Workload(cell, 9, 5, 3, 6, layers=2, directions=2) for cell in ("lstm", "gru", "rnn")),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", ["torch", "onnxruntime", "openvino"])
def test_peers_compute_the_same(modules: Any, peer: str) -> None:
    pytest.importorskip("torch" if peer == "torch" else "onnx")
    pytest.importorskip(peer)
    peers = modules("peers")
    for work in WORKS:
        engine = peers.build(peer, work)  # raises where the outputs differ
        assert engine.name == peer


def test_an_engine_that_computes_something_else_is_refused(modules: Any) -> None:
    peers = modules("peers")
    work = Workload("gru", 6, 4, 2)
    right = peers.build("fastrnn", work)
    peers.prove(right, work)
    wrong = peers.Engine("wrong", peers.nothing, lambda: np.zeros((2, 6), np.float32))
    with pytest.raises(peers.WrongResultError, match="wrong, GRU 4-6 N=2 step: differs by"):
        peers.prove(wrong, work)
    misshapen = peers.Engine("misshapen", peers.nothing, lambda: np.zeros(6, np.float32))
    with pytest.raises(peers.WrongResultError, match="differs by inf"):
        peers.prove(misshapen, work)


def test_engines_take_turns(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peers, timing = modules("peers"), modules("timing")
    monkeypatch.setattr(timing, "TURN_SECONDS", 1e-4)
    monkeypatch.setattr(timing, "WARM_SECONDS", 0.0)
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)
    engines = [peers.build("fastrnn", Workload("rnn", h, h)) for h in (1, 2, 3)]
    times = timing.interleave(engines, 4)
    assert [len(each) for each in times] == [4, 4, 4]
    assert all(seconds > 0 for each in times for seconds in each)
    assert timing.ratio([2.0, 6.0, 9.0], [1.0, 2.0, 9.0]) == timing.Ratio(2.0, 1.0, 3.0)


def test_targets_are_met_by_the_median_of_the_rounds(modules: Any) -> None:
    table, timing = modules("table"), modules("timing")

    def verdict(ratio: float, scaling: float | None) -> str:
        pair = timing.Ratio(ratio, 0.1, 9.0)
        threads = None if scaling is None else timing.Ratio(scaling, 0.1, 9.0)
        return str(
            table.Report("x", 2, {}, "torch", pair, 1.5, threads, 1.8, 50.0, 1.0, None).verdict
        )

    assert verdict(1.5, None) == "ok"
    assert verdict(1.49, None) == "short"
    assert verdict(2.0, 1.8) == "ok"
    assert verdict(2.0, 1.79) == "short"


@pytest.mark.usefixtures("quick")
def test_compare_works_without_any_peer(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compare, peers, timing = modules("compare"), modules("peers"), modules("timing")
    monkeypatch.setattr(timing, "TURN_SECONDS", 1e-4)
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(peers, "available", lambda name: name == "fastrnn")
    machines = {n: _calibrate.calibrate(n) for n in (1, 2)}
    case = compare.Case(Workload("lstm", 8, 8, 2, 3), 1.5)
    report = compare.measure(case, 2, compare.MIN_ROUNDS, machines)
    assert set(report.seconds) == {"fastrnn", "fastrnn, 1 thread"}
    assert report.ratio is None
    assert report.scaling is not None
    assert report.verdict == ""
    assert compare.line(report).startswith("LSTM 8 N=2 T=3 ")


def test_every_case_has_its_own_name(modules: Any) -> None:
    cases = modules("workloads").cases()
    names = [case.work.label for case in cases]
    assert len(set(names)) == len(names)
    assert sum(case.target is not None for case in cases) == 24
