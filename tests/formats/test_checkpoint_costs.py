"""Small files cost little: time and memory are linear in the file, whatever it repeats."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from pickles import archive, call, legacy, mapping, named, numbers, tensor, text, whole

from fastrnn.formats import CheckpointError, open_checkpoint

RATIO = 400  # bytes of memory for a byte of the file, at most
FREE = 4_000_000  # bytes that any file may take
SECONDS = 5  # of a slow machine; quadratic readers took minutes


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def many(entry: bytes, count: int = 700) -> bytes:
    return b"](" + entry * count + b"e"


def doubled(start: bytes) -> bytes:
    """A dictionary that holds the one before it twice, 1000 times."""
    step = b"0}(" + text("a") + get(1) + text("b") + get(1) + b"u" + put(1)
    return start + put(1) + step * 1000


WEIGHT = tensor()
WIDE = b"".join(text(f"t{i}") + (get(9) if i else WEIGHT + put(9)) for i in range(300))
WIDE = b"}(" + WIDE + b"u"
SHARED = b"".join(text(f"g{i}") + get(1) for i in range(1000))
NULLS = b"}(" + b"".join(text(f"k{i}") + b"N" for i in range(1000)) + b"u"
PAIRS = b"](" + b"".join(b"](" + text(f"k{i}") + b"Ne" for i in range(1000)) + b"e\x85"
STATE = b"}(" + text("_parameters") + b"}" + text("_modules")
LEAF = mapping(_parameters=mapping(w=WEIGHT), _modules=b"}")
NET = named("project", "Net") + put(1) + b")R" + LEAF + b"b" + put(10)


def nets() -> bytes:
    """Modules of which each holds the one before it twice."""
    twice = (b"}(" + text("a") + get(i) + text("b") + get(i) + b"u" for i in range(10, 50))
    made = (get(1) + b")R" + STATE + two + b"ub" + put(11 + i) for i, two in enumerate(twice))
    return NET + b"".join(made)


FILES = {
    "dictionaries shared by many": b"}(" + text("x") + WIDE + put(1) + SHARED + b"u",
    "siblings that are one": b"}(" + text("model") + WIDE + put(1) + SHARED + b"u",
    "dictionaries doubled": mapping(w=WEIGHT, x=doubled(WEIGHT)),
    "tuples doubled": mapping(
        w=WEIGHT, x=b")" + put(1) + (b"0" + get(1) + get(1) + b"\x86" + put(1)) * 1000
    ),
    "modules doubled": nets(),
    "pairs copied": named("collections", "OrderedDict") + put(2) + b"0" + PAIRS + put(3)
    + b"0" + many(get(2) + get(3) + b"R") + b"0" + mapping(w=WEIGHT),
    "texts encoded": named("_codecs", "encode") + put(2) + text("x" * 100_000)
    + text("latin1") + b"\x86" + put(3) + b"00" + many(get(2) + get(3) + b"R"),
    "long names": text("m" * 400) + put(1) + text("n" * 500) + put(2) + b"00"
    + many(get(1) + get(2) + b"\x93") + b"0" + mapping(w=WEIGHT),
    "endless names": text("m" * 100_000) + put(1) + b"0" + many(get(1) + get(1) + b"\x93"),
    "many strangers": mapping(w=WEIGHT, x=many(call("project", "Odd"))),
    "strangers with one argument list": mapping(w=WEIGHT, x=named("project", "Odd") + put(1)
    + b"0(" + b"N" * 2000 + b"t" + put(2) + b"0" + many(get(1) + get(2) + b"R")),
    "strangers with one state": mapping(w=WEIGHT, x=named("project", "Odd") + put(1) + b"0"
    + NULLS + put(2) + b"0" + many(get(1) + b")R" + get(2) + b"b")),
    "strangers inside each other": mapping(w=WEIGHT, x=named("project", "Odd") + put(1) + b")R"
    + put(5) + (b"0" + get(1) + b")R" + get(5) + b"b" + put(5)) * 1200),
    "modules with one state": named("project", "Net") + put(1) + b"0" + STATE + b"}u"
    + NULLS + b"\x86" + put(2) + b"0" + many(get(1) + b")R" + get(2) + b"b"),
    "deep dictionaries": mapping(w=WEIGHT, x=b"}" + (text("k") + b"}") * 1600 + b"s" * 1600),
    "deep tensors": b"}" + (text("k") + b"}") * 1500 + text("w") + WEIGHT + b"s" + b"s" * 1500,
    "deep lists": mapping(w=WEIGHT, x=b"]" * 2500 + b"a" * 2499),
    "empty lists": mapping(w=WEIGHT, x=many(b"]", 6000)),
    "empty sets": mapping(w=WEIGHT, x=many(b"\x8f", 6000)),
    "odd keys": mapping(w=WEIGHT, x=b"}(" + b"]N" * 1500 + b"u"),
    "far places of the memo": b"N" + b"".join(put(2**32 - 1 - i) for i in range(9000)) + b"0"
    + mapping(w=WEIGHT),
    "a long key in many groups": text("k" * 100_000) + put(1) + b"0" + WIDE + b"0}("
    + b"".join(text(f"g{i}") + b"}" + get(1) + get(9) + b"s" for i in range(1000)) + b"u",
    "expanded tensors": b"}(" + b"".join(
        text(f"t{i}") + tensor(shape=numbers(1 << 20), strides=numbers(0)) for i in range(100)
    ) + b"u",
}  # fmt: skip


@pytest.mark.parametrize("key", [None, ()])
@pytest.mark.parametrize("name", list(FILES))
def test_memory_and_time_are_linear_in_the_file(
    tmp_path: Path, name: str, key: tuple[()] | None
) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(archive(FILES[name]))
    start = time.process_time()
    tracemalloc.start()
    try:
        open_checkpoint(path, key)
    except CheckpointError:
        pass  # too much for such a small file
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < FREE + RATIO * path.stat().st_size
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("wrap", [archive, legacy])
def test_an_error_never_prints_what_a_pickle_nests(tmp_path: Path, wrap: object) -> None:
    assert callable(wrap)
    nested = b")" + put(0) + (get(0) + get(0) + b"\x86" + put(0)) * 60
    for body in (
        nested,
        tensor(offset=nested),
        tensor(shape=nested),
        mapping(w=tensor(shape=b"(" + nested + b"t", strides=numbers(1))),
        nested + b"Q",
        b"(" + text("storage") + nested + nested + nested + nested + b"tQ",
        nested + nested + b"R",
        nested + nested + b"\x93",
        mapping(x=nested),
        b"}" + nested + b"Ns",
        call("project", "Odd", nested, nested),
        nested + nested + b"b",
    ):
        path = tmp_path / "file.pt"
        path.write_bytes(wrap(body))
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        assert len(str(caught.value)) < 1000


def test_an_integer_beyond_any_is_printed_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(archive(mapping(w=tensor(offset=whole(1 << 2000)))))
    with pytest.raises(CheckpointError, match="offset is an integer of 2001 bits"):
        open_checkpoint(path)


def test_deep_wrappers_of_state_are_read_without_recursion(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    depth = 700
    body = b"}" + (text("m") + b"}") * depth + text("w") + WEIGHT + b"s" + b"s" * depth
    path.write_bytes(archive(body))
    (name,) = open_checkpoint(path).tensors
    assert name == "m." * depth + "w"
