"""The checkpoint reader against PyTorch itself, on files made in the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn.formats import infer_recurrent, open_checkpoint, read_checkpoint

torch = pytest.importorskip("torch")


def numpy_of(tensor: Any) -> Any:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_same(path: Path, expected: dict[str, Any], *, exact: bool = True) -> None:
    """The file holds the same names, in the same order, with the same types and values."""
    found = read_checkpoint(path)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = numpy_of(tensor)
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        if exact:
            np.testing.assert_array_equal(found[name], array)
        else:
            np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-7)


def layers() -> list[Any]:
    nn = torch.nn
    return [
        nn.RNN(3, 4), nn.RNN(3, 4, 2, bidirectional=True), nn.GRU(3, 4, bias=False),
        nn.GRU(5, 2, 3, bidirectional=True), nn.LSTM(3, 4), nn.LSTM(3, 5, 2, proj_size=2),
        nn.LSTM(1, 1, 2, bidirectional=True), nn.LSTM(7, 5, 3, bidirectional=True, proj_size=3),
        nn.RNNCell(3, 4), nn.GRUCell(3, 4, bias=False), nn.LSTMCell(3, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("layer", layers(), ids=repr)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_layer_is_read_and_told(tmp_path: Path, layer: Any, zipped: bool) -> None:
    path = tmp_path / "layer.pt"
    torch.save(layer.state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert_same(path, layer.state_dict())
    for mapping in (read_checkpoint(path), layer.state_dict()):
        found = infer_recurrent(mapping)
        assert found.cell == type(layer).__name__.removesuffix("Cell")
        assert found.single_step == type(layer).__name__.endswith("Cell")
        for key in ("input_size", "hidden_size", "num_layers", "bidirectional", "proj_size"):
            if hasattr(layer, key):
                assert getattr(found, key) == getattr(layer, key)
        assert found.bias == bool(layer.bias)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_element_type_and_view_is_read(tmp_path: Path, protocol: int, zipped: bool) -> None:
    torch.manual_seed(0)
    base = torch.randn(5, 7)
    tensors = {str(dtype): base.mul(9).to(dtype) for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.bool, torch.complex64, torch.complex128,
    )}  # fmt: skip
    tensors["uint8"] = base.abs().to(torch.uint8)
    tensors["uint16"] = base.abs().to(torch.uint8).to(torch.uint16)
    tensors["uint64"] = base.abs().to(torch.uint8).to(torch.uint64)
    tensors |= {"t": base.t(), "cut": base[2:4, 1::3], "e": base[:1].expand(6, 7), "0": base[0, 0]}
    tensors |= {"none": base[:0], "p": torch.nn.Parameter(base), "flat": base.view(-1)[3:9]}
    path = tmp_path / "kinds.pt"
    torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_same(path, tensors)


def test_special_values_of_bfloat16_are_exact(tmp_path: Path) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    torch.save({"w": every}, tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt")["w"]
    np.testing.assert_array_equal(found.view(np.uint32), every.float().numpy().view(np.uint32))


def test_archives_without_checksums_are_read(tmp_path: Path) -> None:
    layer = torch.nn.GRU(3, 4)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(layer.state_dict(), tmp_path / "layer.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(tmp_path / "layer.pt", layer.state_dict())


def test_parameters_with_attributes_and_buffers_are_read(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "kept by nobody"
    tensors = {"p": parameter, "b": torch.nn.Buffer(torch.ones(3))}
    torch.save(tensors, tmp_path / "w.pt")
    assert_same(tmp_path / "w.pt", tensors)


def test_tensors_that_are_no_arrays_are_skipped(tmp_path: Path) -> None:
    tensors = {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(2, device="meta"),
        "conjugated": torch.ones(2, dtype=torch.complex64).conj(),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
        "w": torch.ones(2),
    }
    torch.save(tensors, tmp_path / "w.pt")
    found = open_checkpoint(tmp_path / "w.pt")
    assert list(found.tensors) == ["w"]
    assert set(found.skipped) == set(tensors) - {"w"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dim", [0, 1, None, -1])
@pytest.mark.parametrize("modern", [True, False])
def test_weight_norm_is_folded_as_torch_does(tmp_path: Path, dim: int | None, modern: bool) -> None:
    torch.manual_seed(0)
    utils = torch.nn.utils
    norm = utils.parametrizations.weight_norm if modern else utils.weight_norm
    layer = torch.nn.LSTM(3, 4)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        norm(layer, name, dim)
        magnitude = layer.state_dict()[
            f"parametrizations.{name}.original0" if modern else f"{name}_g"
        ]
        magnitude.mul_(1.5)
    layer(torch.zeros(1, 1, 3))  # the old form makes its weight here
    torch.save(layer.state_dict(), tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt")
    assert set(found) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    for name, array in found.items():
        np.testing.assert_allclose(array, getattr(layer, name).detach().numpy(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_compiled_and_parallel_models_give_plain_names(tmp_path: Path) -> None:
    layer = torch.nn.LSTM(3, 4)
    plain = layer.state_dict()
    for name, model in (
        ("compiled", torch.compile(layer)),
        ("parallel", torch.nn.DataParallel(layer)),
        ("both", torch.compile(torch.nn.DataParallel(layer))),
        ("other", torch.nn.DataParallel(torch.compile(layer))),
    ):
        torch.save({"epoch": 1, "net": model.state_dict()}, tmp_path / name)
        assert_same(tmp_path / name, plain)


def test_safetensors_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch")
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(5).bfloat16(), "c": torch.arange(3)}
    files.save_file(tensors, tmp_path / "w")
    found = read_checkpoint(tmp_path / "w")
    assert {name: array.tolist() for name, array in found.items()} == {
        name: tensor.tolist() for name, tensor in files.load_file(tmp_path / "w").items()
    }
