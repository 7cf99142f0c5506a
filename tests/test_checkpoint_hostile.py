"""Hostile and damaged checkpoints: always a CheckpointError, never code, a crash or a hang."""

from __future__ import annotations

import argparse
import os
import pickle
import pickletools
import random
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from pickles import archive, legacy, mapping, named, numbers, opened, tensor, text, whole, zipped

from fastrnn.formats import CheckpointError, open_checkpoint

GOLDEN = Path(__file__).parent / "golden"
FLIPS = 600


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Asserts that a file of these bytes is refused within seconds, with these words."""

    def check(content: bytes, words: str = "") -> None:
        path = tmp_path / "hostile.pt"
        path.write_bytes(content)
        start = time.process_time()
        with pytest.raises(CheckpointError, match=words or ".") as caught:
            open_checkpoint(path)
        assert time.process_time() - start < 5
        assert str(path) in str(caught.value)

    return check


def test_the_building_blocks_make_a_readable_file(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4")
    for content in (
        archive(mapping(w=tensor()), values.tobytes()),
        legacy(mapping(w=tensor()), values.tobytes()),
    ):
        np.testing.assert_array_equal(opened(tmp_path, content).tensors["w"], values.reshape(2, 3))


# ---- code --------------------------------------------------------------------------------------


def payloads(command: str) -> dict[str, bytes]:
    """Pickles of which an ordinary reader would run `command`."""
    argument = b"(" + text(command) + b"t"
    code = text(f"__import__('os').system({command!r})")
    system = named("os", "system")
    return {
        "reduce": system + argument + b"R",
        "posix": named("posix", "system") + argument + b"R",
        "eval": named("builtins", "eval") + b"(" + code + b"tR",
        "exec_python2": named("__builtin__", "exec") + b"(" + code + b"tR",
        "stack_global": text("os") + text("system") + b"\x93" + argument + b"R",
        "nested_name": text("collections") + text("abc.sys.modules") + b"\x93" + argument + b"R",
        "inst": b"(" + text(command) + b"ios\nsystem\n",
        "obj": b"(" + system + text(command) + b"o",
        "newobj": system + argument + b"\x81",
        "newobj_ex": system + argument + b"}\x92",
        "subclass": named("torch._tensor", "_rebuild_from_type_v2")
        + b"(" + system + named("torch", "Tensor") + argument + b"NtR",
        "default_factory": named("collections", "defaultdict") + b"(" + system + b"tR",
        "setstate": named("collections", "OrderedDict") + b")R"
        + b"}" + text("__setstate__") + system + b"sb",
        "reduce_of_reduce": named("builtins", "getattr")
        + b"(" + named("os", "path") + text("system") + b"tR" + argument + b"R",
        "module_persistent_id": b"(" + text("module") + system + text(command) + text("") + b"tQ",
        "import_in_key": b"}" + system + argument + b"R" + b"Ns",
        "popped": system + argument + b"R0N",
    }  # fmt: skip


@pytest.mark.parametrize("wrap", [archive, legacy])
@pytest.mark.parametrize("name", list(payloads("")))
def test_a_pickle_that_tries_to_run_code_gives_its_tensors_and_nothing_runs(
    tmp_path: Path, name: str, wrap: Any
) -> None:
    victim = tmp_path / "victim"
    payload = payloads(f"touch {victim}")[name]
    beside = opened(tmp_path, wrap(mapping(w=tensor(), evil=payload)))
    before = opened(tmp_path, wrap(payload + b"0" + mapping(w=tensor())))
    for found in (beside, before):
        assert list(found.tensors) == ["w"]
        assert found.skipped
    assert not victim.exists()


@pytest.mark.parametrize("wrap", [archive, legacy])
@pytest.mark.parametrize("name", list(payloads("")))
def test_a_pickle_of_code_alone_is_refused_and_nothing_runs(
    tmp_path: Path, refused: Any, name: str, wrap: Any
) -> None:
    victim = tmp_path / "victim"
    refused(wrap(mapping(evil=payloads(f"touch {victim}")[name])))
    assert not victim.exists()


def test_the_payloads_would_run_in_an_ordinary_reader(tmp_path: Path) -> None:
    """So that the test above proves something."""
    victim = tmp_path / "victim"
    pickle.loads(b"\x80\x02" + payloads(f"touch {victim}")["reduce"] + b".")
    assert victim.exists()


def test_a_python_object_with_its_own_reduction_is_refused_by_name(
    tmp_path: Path, refused: Any
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "victim"),)

    for protocol in (2, 3, 4, 5):
        refused(archive(pickle.dumps({"w": Evil()}, protocol)[2:-1]), r"w \(object \(\w+\.mkdir")
    assert not (tmp_path / "victim").exists()


def test_known_objects_beside_the_tensors_are_skipped(tmp_path: Path) -> None:
    extra = {
        "args": argparse.Namespace(lr=0.1, layers={1, 2}),
        "path": PurePosixPath("/x"),
        "score": np.float64(0.5),
        "vector": np.ones(3),
        "complex": 1j,
        "frozen": frozenset({1}),
        "bytes": b"abc",
        "big": 1 << 100,
        ("a", 1): None,
    }
    for protocol in (2, 4, 5):
        body = mapping(w=tensor(), extra=pickle.dumps(extra, protocol)[2:-1])
        found = opened(tmp_path, archive(body))
        assert list(found.tensors) == ["w"]
        assert found.skipped.pop("extra") == "dictionary with 0 tensors"
        assert found.skipped == {
            "extra.args": "object (argparse.Namespace)",
            "extra.path": found.skipped["extra.path"],
            "extra.complex": "object (builtins.complex(0.0, 1.0))",
        }
        assert "PurePosixPath" in found.skipped["extra.path"]


# ---- instructions and limits of the pickle -----------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x82\x01", "copyreg.extension 1"),  # EXT1
        (b"\x83\x02\x00", "extension 2"),
        (b"\x84\x03\x00\x00\x00", "extension 3"),
        (b"Pname\n", "0x50"),  # PERSID
        (b"I5\n", "int 5"),
        (b"I5x\n", "'5x' in the pickle, expected a number"),
        (b"L-7L\n", "int -7"),
        (b"L" + b"9" * 1_000_000 + b"L\n", "an integer of 1000000 digits"),
        (b"Fone\n", "expected a number"),
        (b"F0.5\n", "float 0.5"),
        (b"Sopen\n", "without quotes"),
        (b"V\\u12\n", "broken escape"),
        (b"V" + b"x" * 1000, "without an end"),
        (b"2", "empty stack"),
        (b"(o", "no class"),
        (b"(K\x05o", "no name"),
        (b"g7\n", "never stored"),
        (b"N\x8b\xff\xff\xff\xff", "an integer of 4294967295 bytes"),
        (b"\x97", "0x97"),  # NEXT_BUFFER
        (b"\xff", "0xff"),
        (b"\x80\x06", "protocol 6"),
        (b"t", "never set"),
        (b"1", "never set"),
        (b"R", "empty stack"),
        (b"\x86", "empty stack"),
        (b"q\x00", "empty stack"),
        (b"h\x07", "never stored"),
        (b"j\xff\xff\xff\xff", "never stored"),
        (b"K\x05b", "empty stack"),
        (b"K\x05}b", "has none"),
        (b"K\x05K\x05a", "no list"),
        (b"K\x05K\x05K\x05s", "no dictionary"),
        (b"}(K\x05u", "without a value"),
        (b"(K\x05d", "without a value"),
        (b"K\x05)R", "no name"),
        (named("torch", "Size") + b"K\x05R", "no tuple"),
        (named("torch", "Size") + b"K\x05}\x92", "no tuple"),
        (b"K\x05K\x06\x93", "no string"),
        (b"K\x05Q", "no storage"),
        (b"c" + b"x" * 100_000, "without an end"),
        (b"\x8b\xff\xff\xff\x7f", "an integer of 2147483647 bytes"),
        (b"\x8b\x00\x01\x00\x00" + bytes(256), "an integer of 256 bytes"),
        (b"X\xff\xff\xff\xff", "truncated"),
        (b"\x8d" + b"\xff" * 8, "truncated"),
        (b"\x95" + b"\xff" * 8, ""),
        (b"(" * 10_001, "nests deeper"),
        (b"N" * 1_000_001, "stack grew"),
        (b"K\x05", "int 5, expected a dictionary"),
        (b"]", "expected a dictionary"),
        (tensor(), "bare tensor"),
        (named("torch", "FloatStorage") + b")R", "FloatStorage"),
        (named("collections", "OrderedDict") + b"(K\x05tR", "built from arguments"),
        (named("torch._utils", "_rebuild_tensor_v2") + b")R", "0 arguments"),
        (named("torch._utils", "_rebuild_tensor_v2") + b"(NNNNNNtR", "without a storage"),
        (named("torch._utils", "_rebuild_tensor_v3") + b"(NNNNNNNtR", "element type"),
        (named("torch._utils", "_rebuild_parameter") + b"(NNNtR", "no tensor"),
        (named("torch._utils", "_rebuild_qtensor") + b")R", "quantised"),
        (named("torch", "qint8"), "quantised"),
        (named("torch.nn.modules.linear", "Linear"), r"torch\.nn\.modules\.linear\.Linear"),
        (named("__main__", "Model"), "state_dict"),
    ],
)  # fmt: skip
def test_what_a_checkpoint_does_not_need_is_refused(refused: Any, body: bytes, words: str) -> None:
    refused(archive(body), words)


def test_the_number_of_instructions_and_of_remembered_objects_is_bounded(
    refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrnn.formats.torch.pickle.MAX_OPS", 1000)
    refused(archive(b"N0" * 1000), "more than 1000 instructions")
    monkeypatch.setattr("fastrnn.formats.torch.pickle.MAX_MEMO", 100)
    refused(archive(b"N" + b"\x94" * 200), "more than 100 objects")


def test_depth_and_doubling_cost_nothing(tmp_path: Path) -> None:
    nested = b"]" * 100_000 + b"a" * 99_999
    doubled = b")q\x00" + b"0h\x00h\x00\x86q\x00" * 200
    as_key = b"}" + doubled + b"Ns"
    lists = b"]q\x00" + b"0](h\x00h\x00eq\x00" * 200
    content = archive(mapping(w=tensor(), nested=nested, tuples=doubled, key=as_key, lists=lists))
    assert list(opened(tmp_path, content).tensors) == ["w"]


def test_doubling_dictionaries_are_refused(refused: Any) -> None:
    start = mapping(w=tensor()) + b"q\x00"
    step = b"0}(" + text("a") + b"h\x00" + text("b") + b"h\x00uq\x00"
    refused(archive(start + step * 200), "unfold to more than|the names in the checkpoint")


def test_many_groups_over_one_dictionary_are_refused_quickly(refused: Any) -> None:
    inner = b"}q\x00(" + b"".join(text(f"{i}") + b"N" for i in range(1100))
    inner += text("w") + tensor() + b"u"
    groups = b"".join(text(f"g{i}") + b"}" + text("x") + b"h\x00s" for i in range(1000))
    refused(archive(b"}(" + text("first") + inner + groups + b"u"), "unfold to more than")


def test_long_names_do_not_multiply(refused: Any) -> None:
    name = text("n" * 100_000) + b"q\x01"
    inner = b"}q\x00(" + b"".join(text(f"{i}") + b"N" for i in range(1000))
    inner += text("w") + tensor() + b"u"
    refused(archive(b"}" + name + inner + b"s"), "names in the checkpoint")


def test_cycles_end(tmp_path: Path, refused: Any) -> None:
    cycle = b"}q\x00(" + text("w") + tensor() + text("again") + b"h\x00u"
    found = opened(tmp_path, archive(cycle))
    assert list(found.tensors) == ["w"]
    assert list(found.skipped) == ["again"]
    through_list = b"]q\x00h\x00a"
    assert opened(tmp_path, archive(mapping(w=tensor(), l=through_list))).skipped
    refused(archive(b"}q\x00(" + text("w") + tensor() + text("model") + b"h\x00u"), "deeper")


# ---- shapes, strides and storages --------------------------------------------------------------

HUGE = 1 << 62


@pytest.mark.parametrize("wrap", [archive, legacy])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (tensor(whole(1)), "reaches element 6"),
        (tensor(whole(-1)), "offset is -1"),
        (tensor(whole(HUGE)), "offset is"),
        (tensor(b"N"), "offset is None"),
        (tensor(b"\x88"), "offset is True"),
        (tensor(shape=numbers(3, 3)), "reaches element 8"),
        (tensor(shape=numbers(-2, 3)), "shape is -2"),
        (tensor(shape=numbers(HUGE, 3)), "shape is"),
        (tensor(shape=numbers(1 << 40, 1 << 40)), "too large"),
        (tensor(shape=numbers(1 << 40, 0, 1 << 40), strides=numbers(0, 0, 0)), "too large"),
        (tensor(shape=numbers(1 << 32, 1 << 32, 0), strides=numbers(0, 0, 0)), "too large"),
        (tensor(strides=numbers(-3, 1)), "strides is -3"),
        (tensor(strides=numbers(HUGE, 1)), "strides is"),
        (tensor(strides=numbers(1 << 47, 1)), "reaches element"),
        (tensor(strides=numbers(1)), "2 sizes but 1 strides"),
        (tensor(shape=numbers(*[1] * 33), strides=numbers(*[1] * 33)), "33 dimensions"),
        (tensor(shape=b"N"), "no tuple"),
        (tensor(shape=b"(NNt"), "shape is None"),
        (tensor(shape=numbers(1 << 30), strides=numbers(0)), "repeat their storage"),
        (tensor(numel=7), "expected 28"),
        (tensor(numel=5), ""),
        (tensor(numel=-1), "size of storage 0 is -1"),
        (tensor(numel=HUGE), "size of storage 0"),
        (tensor(numel=1 << 40), "expected"),
        (tensor(kind="DoubleStorage"), ""),
        (tensor(kind="QInt8Storage"), "quantised"),
        (tensor(kind="EvilStorage"), "EvilStorage"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    refused: Any, body: bytes, words: str, wrap: Any
) -> None:
    if wrap is legacy and words.startswith("expected"):
        words = ""
    refused(wrap(mapping(w=body)), words)


def test_strides_of_single_and_empty_dimensions_do_not_matter(tmp_path: Path) -> None:
    single = tensor(shape=numbers(1, 3), strides=numbers(1 << 47, 1))
    empty = tensor(shape=numbers(0, 3), strides=numbers(1 << 47, 1 << 47))
    found = opened(tmp_path, archive(mapping(a=single, b=empty))).tensors
    assert (found["a"].shape, found["b"].shape) == ((1, 3), (0, 3))


def test_one_storage_in_two_ways_is_refused(refused: Any) -> None:
    two = tensor(shape=numbers(1), strides=numbers(1), numel=3, kind="DoubleStorage")
    refused(archive(mapping(a=tensor(), b=two)), "two ways")


def test_expansion_is_bounded_over_all_tensors(refused: Any) -> None:
    body = {f"t{i}": tensor(shape=numbers(1 << 24), strides=numbers(0)) for i in range(20)}
    refused(archive(mapping(**body)), "repeat their storage")


def test_weight_norm_over_one_shared_direction_is_bounded(refused: Any) -> None:
    g = tensor(shape=numbers(1, 1), strides=numbers(1, 1))
    wide = tensor(shape=numbers(1 << 20, 1), strides=numbers(0, 1))
    body: dict[str, bytes] = {}
    for i in range(3):
        body |= {f"l{i}.weight_g": g, f"l{i}.weight_v": wide}
    refused(archive(mapping(**body)), "weight norm repeats")


# ---- containers --------------------------------------------------------------------------------


PICKLE = b"\x80\x02" + mapping(w=tensor()) + b"."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped(("a/data.pkl", PICKLE)), "no entry 'a/data/0'"),
        (zipped(("a/data.pkl", PICKLE), ("b/data.pkl", PICKLE)), "2 entries data.pkl"),
        (zipped(("a/data.pkl", PICKLE), ("a/data.pkl", PICKLE)), "more than once"),
        (zipped(("a/data.pkl", PICKLE), ("a/data/0", bytes(20))), "20 bytes, expected 24"),
        (zipped(("a/data.pkl", PICKLE), ("a/data/0", bytes(28))), "28 bytes, expected 24"),
        (zipped(("a/data.pkl", b"")), "truncated"),
        (zipped(("a/data.pkl", PICKLE[:-1])), "truncated"),
        (zipped(("a/data.pkl", PICKLE), ("a/byteorder", b"middle")), "byte order 'middle'"),
        (zipped(("a/constants.pkl", b""), ("a/code/x.py", b"")), "TorchScript"),
        (zipped(("a/archive_format", b"pt2"), ("a/models/model.json", b"{}")), "torch.export"),
        (archive(b"}", compression=zipfile.ZIP_BZIP2), "compressed by method 12"),
        (zipped(("a/data.pkl", bytes(1 << 24)), compression=zipfile.ZIP_DEFLATED), "at most 1"),
        (zipped(("w.npy", b"")), "corrupt"),
        (zipped(("w.npy", b"\x93NUMPY\x01\x00\xff\xff{")), "corrupt"),
    ],
)  # fmt: skip
def test_an_archive_of_the_wrong_build_is_refused(refused: Any, content: bytes, words: str) -> None:
    refused(content, words)


def npy(header: str, data: bytes = b"") -> bytes:
    line = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line + data


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, " + "9" * 40 + ")}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 100 + ")}",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}",
        "__import__('os').system('true')",
        "(" * 5000,
        "{'descr': '<f4'",
    ],
)
def test_an_array_with_a_false_header_is_refused(refused: Any, header: str) -> None:
    refused(zipped(("w.npy", npy(header, bytes(4)))), "")


def test_an_array_that_unpacks_without_bound_is_refused(refused: Any) -> None:
    content = bytearray(zipped(("w.npy", bytes(1 << 16)), compression=zipfile.ZIP_DEFLATED))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 0xF0000000)
    refused(bytes(content), "unpack")


def test_overlapping_entries_are_refused(refused: Any) -> None:
    entries = [("a/data.pkl", PICKLE), *((f"a/data/{i}", bytes(4000)) for i in range(8))]
    content = bytearray(zipped(*entries))
    first = content.index(b"PK\x01\x02")
    for _ in range(9):
        content[first + 42 : first + 46] = bytes(4)
        content[first + 20 : first + 28] = struct.pack("<II", 30_000, 30_000)
        first += 46 + struct.unpack_from("<H", content, first + 28)[0]
    refused(bytes(content), "claim more")


def test_a_false_count_in_a_legacy_file_is_refused(refused: Any) -> None:
    for count in (-1, 5, 7, 1 << 40, (1 << 63) - 1, -(1 << 63)):
        refused(legacy(mapping(w=tensor()), count=count), "")


def test_legacy_views_are_bounded(tmp_path: Path, refused: Any) -> None:
    def view(start: int, size: int) -> bytes:
        storage = b"(" + text("storage") + named("torch", "FloatStorage") + text("0")
        storage += text("cpu") + whole(6) + b"(" + text("v") + whole(start) + whole(size) + b"ttQ"
        arguments = b"(" + storage + whole(0) + numbers(2) + numbers(1) + b"\x89}t"
        return mapping(w=named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R")

    data = np.arange(6, dtype="<f4").tobytes()
    assert opened(tmp_path, legacy(view(3, 2), data)).tensors["w"].tolist() == [3, 4]
    refused(legacy(view(3, 1), data), "reaches element")
    refused(legacy(view(5, 2), data), "past its 6 elements")
    refused(legacy(view(-1, 2), data), "view offset")


def test_safetensors_with_false_headers_are_refused(refused: Any) -> None:
    pytest.importorskip("safetensors")
    good = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    for header, size in (
        (good, 4),
        (good, 12),
        (good.replace(b"[2]", b"[3]"), 8),
        (good.replace(b"[2]", b"[4611686018427387904,4]"), 8),
        (good.replace(b"[0,8]", b"[0,99]"), 8),
        (good.replace(b"F32", b"F99"), 8),
        (good[:-1], 8),
        (b'{"w":' * 10_000, 0),
    ):
        refused(struct.pack("<Q", len(header)) + header + bytes(size), "safetensors")
    refused(struct.pack("<Q", 1 << 60) + good, "safetensors")


def test_a_directory_and_a_device_are_no_checkpoints(tmp_path: Path) -> None:
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(CheckpointError, match="no regular file"):
            open_checkpoint(path)


# ---- damage ------------------------------------------------------------------------------------

SMALL = ["rnn.pt", "gru_legacy.pt", "lstm.npz", "kinds.safetensors"]


FLIPPED = [
    *SMALL, "kinds.pt", "kinds_legacy.pt", "weight_norm_new.pt", "whole_module.pt",
    "torchscript.pt", "quantised.pt",
]  # fmt: skip


def tried(path: Path, content: bytes, key: Any = None) -> bool:
    """Whether a file of these bytes can be read; anything but a CheckpointError is a failure."""
    path.unlink(missing_ok=True)  # a new file; some file systems flush one that is overwritten
    path.write_bytes(content)
    try:
        open_checkpoint(path, key)
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("name", SMALL)
def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    content = (GOLDEN / name).read_bytes()
    path = tmp_path / "cut"
    assert [n for n in range(len(content)) if tried(path, content[:n])] == []
    assert tried(path, content)


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bytes_give_an_answer_or_a_checkpoint_error(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    chance = random.Random(name)
    content = (GOLDEN / name).read_bytes()
    for _ in range(FLIPS // 4):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 1, 2, 8])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        tried(tmp_path / "damaged", bytes(damaged))


@pytest.mark.parametrize("file", ["nested.pt", "whole_module.pt", "torchscript.pt"])
def test_damaged_pickles_give_an_answer_or_a_checkpoint_error(tmp_path: Path, file: str) -> None:
    """The pickle alone is damaged, and its archive made anew, so that checksums are right."""
    chance = random.Random(1)
    with zipfile.ZipFile(GOLDEN / file) as golden:
        entries = [(name, golden.read(name)) for name in golden.namelist()]
    place = next(i for i, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    name, good = entries[place]
    for _ in range(FLIPS // 2):
        entries[place] = (name, damaged(chance, good))
        tried(tmp_path / "damaged", zipped(*entries))


def test_damaged_pickles_alone_give_an_answer_or_a_checkpoint_error(tmp_path: Path) -> None:
    chance = random.Random(3)
    values = {"w": np.ones((2, 3)), "x": [argparse.Namespace(a={1}), 1j, b"ab", 1 << 70, None]}
    for i in range(FLIPS):
        good = pickle.dumps(values, i % 6)
        tried(tmp_path / "damaged", damaged(chance, good), chance.choice([None, (), "x"]))


def damaged(chance: random.Random, good: bytes) -> bytes:
    """The bytes with a few of them changed, left out, doubled, or made instructions."""
    bad = bytearray(good)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(bad) + 1)
        new = chance.choice([
            b"", chance.randbytes(1), bytes([chance.choice(OPCODES)]), bad[at : at + 30],
            b"\xff\xff\xff\x7f",
        ])  # fmt: skip
        bad[at : at + chance.choice([0, 1, 1, 3])] = new
    return bytes(bad)


OPCODES = [ord(code.code) for code in pickletools.opcodes]


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    chance = random.Random(2)
    starts = [b"", b"PK\x03\x04", b"\x80\x02", legacy(b"")[:40], struct.pack("<Q", 50) + b"{"]
    for i in range(300):
        content = starts[i % len(starts)] + chance.randbytes(chance.randrange(1, 400))
        assert not tried(tmp_path / "random", content)
