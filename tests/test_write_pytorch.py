"""Files for PyTorch, written without it."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from families import FAMILIES, make, normal
from processes import run_python as run

import fastrnn
from fastrnn.models import LanguageModel

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?", "c8", "c16"]


def arrays(rng):
    many = {dtype: (rng.standard_normal((3, 4)) * 9).astype(dtype) for dtype in DTYPES}
    return {
        **many,
        "scalar": np.float32(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "transposed": normal(rng, 3, 4).T,
        "a slice": normal(rng, 6, 8)[::2, 1::3],
        "big endian": normal(rng, 3).astype(">f4"),
        "name.with.ümlaut and space": normal(rng, 1, 1, 2, 1),
    }


def test_our_own_reader_reads_what_was_written(tmp_path, rng):
    given = arrays(rng)
    fastrnn.save_pytorch(given, tmp_path / "file.pt")
    found = fastrnn.read_checkpoint(tmp_path / "file.pt")
    assert list(found) == list(given)
    for name, array in given.items():
        assert found[name].dtype == np.asarray(array).dtype.newbyteorder("=")
        assert found[name].shape == np.shape(array)
        assert np.array_equal(found[name], array)


def test_pytorch_loads_what_was_written(tmp_path, rng):
    torch = pytest.importorskip("torch")
    given = arrays(rng)
    fastrnn.save_pytorch(given, tmp_path / "file.pt")
    for options in ({}, {"mmap": True}):
        found = torch.load(tmp_path / "file.pt", weights_only=True, **options)
        assert list(found) == list(given)
        for name, array in given.items():
            assert found[name].shape == np.shape(array)
            assert np.array_equal(found[name].numpy(), array)


@pytest.mark.parametrize("family", ["rnn_tanh", "lstm", "lstm_projected", "gru"])
def test_pytorch_s_layers_accept_the_parameters(family, tmp_path):
    torch = pytest.importorskip("torch")
    layer = make(family, 3, 8, 2, bidirectional=True)
    fastrnn.save_pytorch(layer, tmp_path / "layer.pt")
    options = {"proj_size": layer.proj_size} if layer.has_cell else {}
    theirs = getattr(torch.nn, FAMILIES[family][0].__name__)(3, 8, 2, bidirectional=True, **options)
    theirs.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    for name, tensor in theirs.named_parameters():
        assert np.array_equal(tensor.detach().numpy(), layer.parameters[name])


def test_tied_weights_stay_tied(tmp_path):
    model = LanguageModel(11, 5, 5, tie_weights=True)
    fastrnn.save_pytorch(model, tmp_path / "model.pt")
    found = fastrnn.read_checkpoint(tmp_path / "model.pt")
    assert np.shares_memory(found["embedding.weight"], found["head.weight"])
    assert LanguageModel.from_state_dict(found).fingerprint() == model.fingerprint()
    torch = pytest.importorskip("torch")
    theirs = torch.load(tmp_path / "model.pt", weights_only=True)
    assert theirs["embedding.weight"].data_ptr() == theirs["head.weight"].data_ptr()


def test_storages_are_aligned_and_not_compressed(tmp_path, rng):
    path = tmp_path / "file.pt"
    fastrnn.save_pytorch({f"tensor {n}": normal(rng, n) for n in range(1, 40)}, path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            at = info.header_offset
            lengths = data[at + 26 : at + 30]
            start = at + 30 + int.from_bytes(lengths[:2], "little")
            start += int.from_bytes(lengths[2:], "little")
            assert start % 64 == 0
            assert data[start : start + info.file_size] == archive.read(info)


def test_a_large_archive_keeps_its_alignment(tmp_path, rng, monkeypatch):
    from fastrnn.formats.torch import writer

    monkeypatch.setattr(writer, "_ZIP64_FROM", 64)
    test_storages_are_aligned_and_not_compressed(tmp_path, rng)
    test_our_own_reader_reads_what_was_written(tmp_path, rng)


def test_what_pytorch_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "file.pt"
    cases = [
        ({"a": np.zeros(3, np.longdouble)}, TypeError, "a has dtype"),
        ({"a": np.array(["x"])}, TypeError, "a has dtype"),
        ({"a": [object()]}, TypeError, "a has dtype object"),
        ({3: np.zeros(3)}, TypeError, "mapping has the key 3, expected names"),
        ([1], TypeError, "model is a list, expected a model, a layer or names to arrays"),
    ]
    for given, error, message in cases:
        with pytest.raises(error, match=message):
            fastrnn.save_pytorch(given, path)
    assert not list(tmp_path.iterdir())


def test_nothing_of_pytorch_is_imported(tmp_path):
    code = "import fastrnn, sys; fastrnn.save_pytorch(fastrnn.GRU(2, 3), {path!r}); "
    code = code.format(path=str(tmp_path / "gru.pt")) + "assert 'torch' not in sys.modules"
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gru.pt").is_file()
