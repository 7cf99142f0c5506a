"""Every pickle protocol and Python 2, NumPy's arrays in pickles, and pickles alone."""

from __future__ import annotations

import collections
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickles import archive, call, mapping, named, opened, tensor, text, whole

from fastrnn.formats import CheckpointError, open_checkpoint

VALUES = np.arange(6, dtype="<f4")


def body_of(value: Any, protocol: int) -> bytes:
    """The instructions that make a value, without what begins and ends a pickle."""
    data = pickle.dumps(value, protocol)
    return data[2 if protocol > 1 else 0 : -1]


PLAIN: dict[str, Any] = {
    "none": None, "true": True, "false": False, "small": 7, "negative": -70000, "large": 1 << 100,
    "float": -0.25, "text": "a\nb'\u00e9\u4e2d\U0001f600", "empty": "", "bytes": b"\x00\xff'",
    "list": [1, [2]], "tuple": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "dict": {"a": {}},
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    found = opened(tmp_path, archive(mapping(w=tensor(), **{
        name: body_of(value, protocol) for name, value in PLAIN.items()
    })))  # fmt: skip
    assert list(found.tensors) == ["w"]
    kept = {k: v for k, v in PLAIN.items() if isinstance(v, (bool, int, float, str))}
    assert found.values == kept
    assert found.skipped["bytes"] == "bytes of 3"
    assert found.skipped["tuple"] == "tuple of 5"


CONTAINERS: dict[str, Any] = {
    "range": range(3), "default": collections.defaultdict(int), "lists":
    collections.defaultdict(list), "counter": collections.Counter("aab"), "ordered":
    collections.OrderedDict(a=1), "set": {1, 2}, "frozen": frozenset({1}), "bytearray":
    bytearray(b"a"), "complex": 1j, "deque": collections.deque([1], 5), "slice": slice(1, 2),
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", list(CONTAINERS))
def test_containers_of_every_protocol_do_not_sink_a_file(
    tmp_path: Path, name: str, protocol: int
) -> None:
    body = mapping(state_dict=mapping(w=tensor()), x=body_of(CONTAINERS[name], protocol))
    found = opened(tmp_path, archive(body))
    assert list(found.tensors) == ["w"]
    assert list(found.skipped) == ["x"]


# ---- Python 2 ---------------------------------------------------------------------------------

ORDERED = b"ccollections\nOrderedDict\n"


def short(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def python2_file(entries: bytes) -> bytes:
    """A legacy file of an OrderedDict, as Python 2.7 pickles it: from a list of pairs."""
    head = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"a": 1}))
    state = b"\x80\x02" + ORDERED + b"](" + entries + b"e\x85R."
    return head + state + pickle.dumps(["0"], 2) + struct.pack("<q", 6) + VALUES.tobytes()


def test_dictionaries_of_pairs_are_read(tmp_path: Path) -> None:
    hooks = ORDERED + b"]\x85R"
    weight = tensor().replace(b"\x89}t", b"\x89" + hooks + b"t")
    entries = b"](" + short(b"w") + weight + b"e" + b"(" + short(b"v") + tensor() + b"t"
    found = opened(tmp_path, python2_file(entries))
    assert list(found.tensors) == ["w", "v"]
    np.testing.assert_array_equal(found.tensors["w"], VALUES.reshape(2, 3))


@pytest.mark.parametrize("pair", [b"](K\x01e", b"K\x01", b"](K\x01K\x02K\x03e"])
def test_pairs_that_are_none_are_refused(tmp_path: Path, pair: bytes) -> None:
    with pytest.raises(CheckpointError, match="no pairs"):
        opened(tmp_path, python2_file(pair))


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (call("__builtin__", "long", whole(5)), "object (builtins.int(5))"),
        (call("__builtin__", "unicode", short(b"a")), "object (builtins.str('a'))"),
        (call("__builtin__", "xrange", b"K\x03"), "object (builtins.range(3))"),
        (call("__builtin__", "bytearray", text("\u00e9"), short(b"latin-1")), "bytes of 1"),
        (call("copy_reg", "_reconstructor", named("a", "B"), named("__builtin__", "object"), b"N"),
         "object (a.B)"),
        (b"S'caf\\xc3\\xa9'\n", "str 'caf\u00e9'"),
        (b"S\"it's\"\n", 'str "it\'s"'),
        (b"(ia\nB\n", "object (a.B)"),
    ],
)  # fmt: skip
def test_forms_of_python_2_are_read(tmp_path: Path, made: bytes, what: str) -> None:
    assert opened(tmp_path, archive(mapping(w=tensor(), x=made))).skipped == {"x": what}


def test_a_class_with_its_source_text_is_inert(tmp_path: Path) -> None:
    """PyTorch before 1.6 wrote modules as persistent ids with their source."""
    kind = named("torch.nn.modules.linear", "Linear")
    pid = b"(" + text("module") + kind + text("linear.py") + text("import os") + b"tQ"
    state = mapping(_parameters=mapping(weight=tensor()), _modules=b"}", _buffers=b"}")
    found = opened(tmp_path, archive(pid + b")\x81" + state + b"b"))
    assert list(found.tensors) == ["weight"]


def test_a_pickle_that_begins_as_safetensors_do_is_a_pickle(tmp_path: Path) -> None:
    array = body_of(np.ones(2), 2)
    path = tmp_path / "x"
    path.write_bytes(b"\x80\x02}q\x00(" + short(b"{w") + array + b"u.")
    assert path.read_bytes()[8:9] == b"{"
    assert list(open_checkpoint(path).tensors) == ["{w"]


# ---- NumPy ------------------------------------------------------------------------------------

ARRAYS: dict[str, Any] = {
    "c": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "scalar": np.array(2.5),
    "swapped": np.arange(3, dtype=">i2"),
    "swapped_float": np.arange(3, dtype=">f8"),
    "empty": np.zeros((0, 3)),
    "bool": np.array([True, False]),
    "complex": np.array([1j], np.complex64),
    "half": np.arange(3, dtype=np.float16),
    "strided": np.arange(10, dtype=np.uint8)[::3],
}


def module_of(version: int, data: bytes) -> bytes:
    """The pickle with the module names of NumPy 1 or 2."""
    names = (b"numpy._core.", b"numpy.core.")
    old, new = names if version == 1 else names[::-1]
    return data if b"\x8c" in data else data.replace(old, new)  # texts have their lengths before


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_arrays_is_read(tmp_path: Path, protocol: int, version: int) -> None:
    path = tmp_path / "arrays.pkl"
    path.write_bytes(module_of(version, pickle.dumps(ARRAYS | {"epoch": 3}, protocol)))
    found = open_checkpoint(path)
    assert found.format == "pickle"
    assert list(found.tensors) == list(ARRAYS)
    assert found.skipped == {"epoch": "int 3"}
    for name, array in found.tensors.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype.newbyteorder("=")
        assert array.flags.writeable


@pytest.mark.parametrize("protocol", [2, 5])
def test_state_dicts_of_arrays_in_a_pytorch_file_are_read(tmp_path: Path, protocol: int) -> None:
    body = mapping(model=body_of(ARRAYS, protocol), epoch=b"K\x03")
    found = opened(tmp_path, archive(body))
    assert list(found.tensors) == list(ARRAYS)
    for name, array in found.tensors.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_arrays_beside_tensors_are_reached_by_a_key(tmp_path: Path) -> None:
    body = mapping(w=tensor(), statistics=body_of({"mean": np.ones(3)}, 2))
    found = opened(tmp_path, archive(body))
    assert list(found.tensors) == ["w"]
    assert found.skipped == {"statistics": "dictionary with 0 tensors"}
    assert list(open_checkpoint(tmp_path / "file.pt", "statistics").tensors) == ["mean"]
    assert list(open_checkpoint(tmp_path / "file.pt", ()).tensors) == ["w", "statistics.mean"]


def test_one_array_under_two_names_stays_one(tmp_path: Path) -> None:
    one = np.ones(3)
    path = tmp_path / "tied.pkl"
    path.write_bytes(pickle.dumps({"a": one, "b": one}))
    found = open_checkpoint(path).tensors
    assert np.shares_memory(found["a"], found["b"])


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_that_are_no_numbers_are_skipped(tmp_path: Path, protocol: int) -> None:
    others = {
        "objects": np.array([{}], object), "text": np.array("abc"), "record": np.zeros(2, "i4,f4"),
        "days": np.array(["2020-01-01"], "M8[D]"), "masked": np.ma.masked_array([1, 2], [0, 1]),
        "number": np.float32(1.5), "flag": np.bool_(True), "whole": np.int64(-3),
    }  # fmt: skip
    path = tmp_path / "others.pkl"
    path.write_bytes(pickle.dumps({"w": np.ones(1)} | others, protocol))
    found = open_checkpoint(path)
    assert list(found.tensors) == ["w"]
    assert set(found.skipped) >= set(others)
    assert found.values == {"number": 1.5, "flag": True, "whole": -3}


F4 = call("numpy", "dtype", text("f4"), b"\x89\x88")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (b"(K\x01(K\x03t" + F4 + b"\x89C\x08" + bytes(8) + b"t", r"\(3,\).* has 8 bytes"),
        (b"(K\x01(" + whole(1 << 40) * 3 + b"t" + F4 + b"\x89C\x00t", "too large"),
        (b"(K\x01(" + whole(-1) + b"t" + F4 + b"\x89C\x00t", "shape is -1"),
        (b"(K\x01t", "malformed state"),
        (b"K\x01", "malformed state"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(tmp_path: Path, state: bytes, words: str) -> None:
    made = call("numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), b")", b"N")
    with pytest.raises(CheckpointError, match=words):
        opened(tmp_path, archive(mapping(w=made + state + b"b")))


# ---- pickles alone ----------------------------------------------------------------------------


def test_bytes_after_a_pickle_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "two.pkl"
    path.write_bytes(pickle.dumps({"w": np.ones(1)}) + pickle.dumps("more"))
    (note,) = open_checkpoint(path).notes
    assert note == f"{len(pickle.dumps('more'))} bytes follow the pickle and were not read"


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_without_arrays_is_refused(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps({"a": [1, "b"]}, protocol))
    with pytest.raises(CheckpointError, match=r"a plain pickle: .*a \(list of 2\)"):
        open_checkpoint(path)


# ---- compressed archives ----------------------------------------------------------------------


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_deflated_archives_are_read(tmp_path: Path, compression: int) -> None:
    found = opened(tmp_path, archive(mapping(w=tensor()), VALUES.tobytes(), compression))
    np.testing.assert_array_equal(found.tensors["w"], VALUES.reshape(2, 3))


def test_many_zeros_in_few_bytes_are_read(tmp_path: Path) -> None:
    count = 1 << 18
    body = mapping(w=tensor(shape=b"(" + whole(count) + b"t", strides=b"(K\x01t", numel=count))
    content = archive(body, bytes(4 * count), zipfile.ZIP_DEFLATED)
    assert len(content) < 3000
    assert opened(tmp_path, content).tensors["w"].shape == (count,)


@pytest.mark.parametrize(
    ("size", "words"),
    [(23, "does not unpack"), (25, "does not unpack"), (1 << 31, "claim")],
)
def test_an_entry_that_unpacks_to_another_size_is_refused(
    tmp_path: Path, size: int, words: str
) -> None:
    content = bytearray(archive(mapping(w=tensor(numel=6)), VALUES.tobytes(), zipfile.ZIP_DEFLATED))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", size)
    for kind in (b"a/data/0", b"a/byteorder"):
        assert kind in content
    with pytest.raises(CheckpointError, match=rf"{words}|expected 24"):
        opened(tmp_path, bytes(content))
