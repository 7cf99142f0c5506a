"""The benchmarks of attention and translation: peers agree, and those that do not are refused."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from paths import BENCH

import fastrnn

SMALL = {
    "attention": {"rows": 3, "positions": 7, "size": 6},
    "translation": {"rows": 3, "hidden": 6, "vocabulary": 11, "steps": 5},
}


@pytest.fixture(params=SMALL)
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of bench/; what engines set for the process is put back."""
    monkeypatch.syspath_prepend(str(BENCH))
    with fastrnn.num_threads(fastrnn.get_num_threads()):
        yield importlib.import_module(request.param)
    importlib.import_module("peers").settings.close()


def small(bench: Any) -> list[Any]:
    """All cases with tiny sizes, each once."""
    return list(dict.fromkeys(replace(work, **SMALL[bench.__name__]) for work in bench.cases()))


def test_every_case_has_its_own_name(bench: Any) -> None:
    labels = [work.label for work in bench.cases()]
    assert len(set(labels)) == len(labels)


@pytest.mark.filterwarnings("ignore")
def test_pytorch_finds_the_same(bench: Any) -> None:
    pytest.importorskip("torch")
    for work in small(bench):
        for name in bench.names(work):
            bench.build(name, work).run()  # build raises where results differ


def test_an_engine_that_finds_something_else_is_refused(bench: Any) -> None:
    work = small(bench)[0]
    right = bench.build("fastrnn", work)
    bench.prove(right, work)
    for change in (lambda value: value * 1.01, lambda value: None):
        found = {key: change(value) for key, value in right.output().items()}
        wrong = bench.Engine("wrong", right.run, lambda found=found: found)
        with pytest.raises(AssertionError, match=r"wrong, .* differs by"):
            bench.prove(wrong, work)
    missing = bench.Engine("missing", right.run, dict)
    with pytest.raises(AssertionError, match="differs by inf"):
        bench.prove(missing, work)
