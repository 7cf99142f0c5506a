"""What all sources of batches promise: the rest of an epoch, and exact resumption."""

from __future__ import annotations

import json
import re
import sys
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from processes import run_python

import fastrnn
from fastrnn import data


def words(seed: int = 0, count: int = 60) -> data.Sequences:
    rng = np.random.default_rng(seed)
    return data.Sequences.of([rng.integers(3, 30, rng.integers(1, 12)) for _ in range(count)])


def buckets(seed: int, **options) -> data.Buckets:
    examples = data.LabelledSequences(words(), np.arange(60) % 4)
    return data.Buckets(examples, **options, seed=seed)


def pairs(seed: int) -> data.Buckets:
    examples = data.Pairs(words(1), words(2), bos=1, eos=2)
    return data.Buckets(examples, tokens=64, pool=2, seed=seed)


def windows(seed: int) -> data.Windows:
    series = np.random.default_rng(5).standard_normal((90, 3))
    return data.Windows(series, 8, 7, horizon=2, scaler=data.Scaler.fit(series[:50]), seed=seed)


SOURCES = {
    "stream": lambda seed: data.TextStream(np.arange(500) % 40, 4, 9, seed=seed),
    "random stream": lambda seed: data.TextStream(
        np.arange(500), 4, 9, lengths="random", seed=seed
    ),
    "buckets": lambda seed: buckets(seed, batch_size=7, pool=3),
    "budget": lambda seed: buckets(seed, tokens=50),
    "in order": lambda seed: buckets(seed, batch_size=7, shuffle=False),
    "pairs": pairs,
    "windows": windows,
}
every_source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


def flat(batch: data.Batch) -> list[np.ndarray]:
    """The arrays of a batch, in which some members are pairs of arrays."""
    parts = chain.from_iterable(
        part if isinstance(part, tuple) else (part,) for part in batch if part is not None
    )
    return [np.asarray(part) for part in parts]


def assert_same(one: data.Batch, other: data.Batch) -> None:
    assert len(flat(one)) == len(flat(other))
    for a, b in zip(flat(one), flat(other), strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


def endless(source: data.Source):
    while True:
        yield from source.batches()


def take(batches, count: int) -> list[data.Batch]:
    return [next(batches) for _ in range(count)]


SHOWN = {
    "random stream": "TextStream(tokens=500, batch_size=4, steps=9, lengths='random'; ",
    "budget": "Buckets(examples=60, positions=403, tokens=50, pool=100, shuffle=True; ",
    "windows": "Windows(series=[90, 3], steps=8, horizon=2, stride=1, batch_size=7, "
    "targets=[0, 1, 2], shuffle=True; ",
}


@pytest.mark.parametrize(("name", "settings"), SHOWN.items())
def test_a_source_shows_its_settings_and_where_it_stands(name, settings):
    source = SOURCES[name](0)
    for _ in source.batches():
        pass
    take(source.batches(), 2)
    assert repr(source) == f"{settings}batch 2 of {source.num_batches} in epoch 1)"


@every_source
@settings(max_examples=25)
@given(done=st.integers(0, 45), seed=st.integers(0, 3))
def test_a_source_resumed_anywhere_continues_as_the_original(make, done, seed):
    original, resumed = make(seed), make(seed + 100)
    running = endless(original)
    take(running, done)
    resumed.load_state_dict(json.loads(json.dumps(original.state_dict())))
    assert resumed.state_dict() == original.state_dict()
    for one, other in zip(take(running, 30), take(endless(resumed), 30), strict=True):
        assert_same(one, other)
    assert original.state_dict() == resumed.state_dict()


@every_source
def test_an_epoch_gives_the_promised_number_of_batches_and_leads_to_the_next(make):
    source = make(0)
    for epoch in range(3):
        assert (source.epoch, source.position) == (epoch, 0)
        assert source.num_batches == len(list(source.batches()))


@every_source
def test_a_source_that_stands_behind_its_last_batch_has_nothing_left_in_the_epoch(make):
    original, resumed = make(0), make(1)
    take(original.batches(), original.num_batches)
    resumed.load_state_dict(original.state_dict())
    assert resumed.epoch == 0
    assert list(resumed.batches()) == []
    assert (resumed.epoch, resumed.position) == (1, 0)


@every_source
def test_loading_a_state_while_batches_are_read_goes_back(make):
    source = make(0)
    start, batches = source.state_dict(), source.batches()
    first = next(batches)
    next(batches)
    source.load_state_dict(start)
    assert_same(next(batches), first)


@every_source
def test_the_same_seed_gives_the_same_batches(make):
    for one, other in zip(make(3).batches(), make(3).batches(), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", ["random stream", "buckets", "budget", "pairs", "windows"])
def test_another_seed_and_another_epoch_give_another_order(name):
    def firsts(source):
        return [flat(batch)[0].tolist() for batch in source.batches()]

    source = SOURCES[name](0)
    one = firsts(source)
    assert firsts(source) != one
    assert firsts(SOURCES[name](1)) != one


def test_a_state_of_other_data_or_settings_is_refused_and_changes_nothing():
    source = SOURCES["stream"](0)
    next(source.batches())
    before = source.state_dict()
    longer = data.TextStream(np.arange(501) % 40, 4, 9)
    with pytest.raises(ValueError, match="with tokens 501, this one has 500"):
        source.load_state_dict(longer.state_dict())
    with pytest.raises(ValueError, match="with type 'Windows', this one has 'TextStream'"):
        source.load_state_dict(windows(0).state_dict())
    assert source.state_dict() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": 99}, "batch 99 of epoch 0"),
        ({"position": -1}, "batch -1 of epoch 0"),
        ({"epoch": -2}, "epoch -2"),
        ({"generator": {"bit_generator": "MT19937"}}, "generator of the state"),
        ({"generator": 3}, "generator of the state"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(change, message):
    source = SOURCES["windows"](0)
    before = source.state_dict()
    with pytest.raises(ValueError, match=message):
        source.load_state_dict({**before, **change})
    assert source.state_dict() == before


def test_a_state_must_be_whole():
    source = SOURCES["windows"](0)
    with pytest.raises(TypeError, match="state is a list"):
        source.load_state_dict([])
    with pytest.raises(ValueError, match="state has no 'epoch'"):
        source.load_state_dict({"source": {}, "position": 0, "generator": {}})


def test_the_package_imports_its_data_part_on_first_use_only():
    done = run_python(
        """
        import sys
        import fastrnn
        assert not any(name.startswith("fastrnn.data") for name in sys.modules)
        assert fastrnn.data.Vocabulary is sys.modules["fastrnn.data"].Vocabulary
        """
    )
    assert done.returncode == 0, done.stderr
    assert fastrnn.data is sys.modules["fastrnn.data"]


def test_every_public_name_is_there():
    for name in data.__all__:
        assert getattr(data, name).__class__ is int or getattr(data, name).__doc__, name


def test_a_wheel_contains_every_part_of_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^packages = \[([^]]*)\]$", text, re.MULTILINE)
    assert listed
    folders = {path.parent for path in (ROOT / "fastrnn").rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(re.findall(r'"([\w.]+)"', listed[1])) == names
