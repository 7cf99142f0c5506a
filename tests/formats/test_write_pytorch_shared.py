"""Memory that arrays share, in files for PyTorch: shared storages, and nothing else."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

import fastrnn


def storages(path):
    """Number of elements of all storages, in bytes."""
    with zipfile.ZipFile(path) as archive:
        return [i.file_size for i in archive.infolist() if "/data/" in i.filename]


def written(given, path):
    """The arrays of a file, which must be equal to those given."""
    fastrnn.save_pytorch(given, path)
    found = fastrnn.read_checkpoint(path)
    assert list(found) == list(given)
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
    return found


def views(rng):
    whole = rng.standard_normal((6, 8)).astype(np.float32)
    return {
        "whole": whole,
        "again": whole[:],
        "transposed": whole.T,
        "part": whole[2:4, 1::3],
        "spread": np.broadcast_to(whole[0], (5, 8)),
        "one": whole[3:4, 3].reshape(()),
    }


def test_views_of_one_array_share_a_storage(tmp_path, rng):
    given = views(rng)
    found = written(given, tmp_path / "file.pt")
    assert storages(tmp_path / "file.pt") == [4 * 48]
    assert all(np.shares_memory(found["whole"], found[name]) for name in given)


def test_pytorch_finds_the_same_views(tmp_path, rng):
    torch = pytest.importorskip("torch")
    x = np.arange(6, dtype=np.float32)
    given = {**views(rng), "x": x, "back": x[::-1], "none": x[3:3]}
    fastrnn.save_pytorch(given, tmp_path / "file.pt")
    theirs = torch.load(tmp_path / "file.pt", weights_only=True)
    assert list(theirs) == list(given)
    for name, array in given.items():
        np.testing.assert_array_equal(theirs[name].numpy(), array)
    places = {name: theirs[name].untyped_storage().data_ptr() for name in given}
    assert {places[name] for name in views(rng)} == {places["whole"]}
    assert len({places[name] for name in ("whole", "x", "back")}) == 3


def test_neighbours_in_one_buffer_share_nothing(tmp_path):
    buffer = np.arange(24, dtype=np.float32)
    given = {"second": buffer[12:].reshape(3, 4), "first": buffer[:12], "none": buffer[12:12]}
    found = written(given, tmp_path / "file.pt")
    assert sorted(storages(tmp_path / "file.pt")) == [0, 48, 48]
    assert not np.shares_memory(found["first"], found["second"])


def test_arrays_without_elements_share_nothing_at_one_address(tmp_path):
    buffer = np.arange(4, dtype=np.float32)
    empty = buffer[1:1]
    given = {"a": empty, "b": buffer[1:1], "c": buffer[1:1].reshape(0, 3), "a again": empty}
    written(given, tmp_path / "file.pt")
    assert len(storages(tmp_path / "file.pt")) == 3  # an object is itself


def test_memory_that_is_used_again_is_not_taken_as_shared(tmp_path):
    """Lists become arrays that live for the moment of their conversion alone."""
    given = {f"row {i}": [float(i)] * 4 for i in range(50)}
    written(given, tmp_path / "file.pt")
    swapped = {f"row {i}": np.full(4, i, ">f4") for i in range(50)}
    written(swapped, tmp_path / "other.pt")
    assert len(storages(tmp_path / "file.pt")) == len(storages(tmp_path / "other.pt")) == 50


def test_an_object_under_two_names_is_one_storage_whatever_it_is(tmp_path):
    row, swapped = [1.0, 2.0], np.arange(3, dtype=">f4")
    given = {"a": row, "b": row, "c": swapped, "d": swapped}
    written(given, tmp_path / "file.pt")
    assert len(storages(tmp_path / "file.pt")) == 2


def test_one_memory_of_two_types_is_two_storages(tmp_path):
    words = np.arange(8, dtype=np.int32)
    written({"ints": words, "bytes": words.view(np.uint8)}, tmp_path / "file.pt")
    assert storages(tmp_path / "file.pt") == [32, 32]


def test_what_pytorch_has_no_view_for_is_written_by_itself(tmp_path):
    x = np.arange(6, dtype=np.float32)
    pairs = np.zeros(4, [("a", "<f4"), ("b", "<i2")])
    pairs["a"] = np.arange(4)
    given = {"x": x, "back": x[::-1], "back again": x[::-1], "packed": pairs["a"]}
    found = written(given, tmp_path / "file.pt")
    assert storages(tmp_path / "file.pt") == [24, 24, 16]
    assert np.shares_memory(found["back"], found["back again"])


def test_nothing_between_two_views_goes_to_the_file(tmp_path):
    secret = np.full((3, 100), 77.0, np.float32)
    secret[:, :4] = 1.0
    written({"a": secret[:, :3], "b": secret[:, 1:4]}, tmp_path / "file.pt")
    with zipfile.ZipFile(tmp_path / "file.pt") as archive:
        numbers = np.frombuffer(archive.read("archive/data/0"), np.float32)
    assert set(numbers) == {0.0, 1.0}
