"""The checkpoint reader on files made by PyTorch (see golden/make_checkpoints.py)."""

from __future__ import annotations

import builtins
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.formats import (
    CheckpointError,
    find_recurrent,
    format_inspection,
    infer_recurrent,
    inspect_checkpoint,
    open_checkpoint,
    read_checkpoint,
)
from fastrnn.models import LanguageModel

GOLDEN = Path(__file__).parent / "golden"


def pattern(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape))
    values = ((np.arange(count) * 37 + seed * 11) % 128 - 64) / 8
    return values.reshape(shape).astype(np.float32)


def assert_filled(tensors: dict[str, Any]) -> None:
    """Every tensor holds the pattern of its place in the file."""
    for seed, (name, array) in enumerate(tensors.items()):
        np.testing.assert_array_equal(array, pattern(array.shape, seed), err_msg=name)


def shapes(**sizes: tuple[int, ...]) -> dict[str, Any]:
    return {name: np.empty(shape, np.float32) for name, shape in sizes.items()}


LSTM_KEYS = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]


# ---- formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("lstm.pt", "pytorch-zip"),
        ("gru_legacy.pt", "pytorch-legacy"),
        ("lstm_projected.pt", "pytorch-zip"),
        ("gru_cell.pt", "pytorch-zip"),
        ("lstm.npz", "npz"),
    ],
)
def test_every_format_gives_the_values_pytorch_wrote(file: str, kind: str) -> None:
    found = open_checkpoint(GOLDEN / file)
    assert found.format == kind
    assert found.tensors
    assert found.skipped == {}
    assert_filled(found.tensors)


def test_safetensors_give_the_values_pytorch_wrote() -> None:
    pytest.importorskip("safetensors")
    tensors = read_checkpoint(GOLDEN / "lstm.safetensors")
    assert_filled({name: tensors[name] for name in LSTM_KEYS})


def test_safetensors_widen_bfloat16_and_keep_metadata() -> None:
    pytest.importorskip("safetensors")
    found = open_checkpoint(GOLDEN / "kinds.safetensors")
    np.testing.assert_array_equal(found.tensors["w"], pattern((2, 3), 6))
    assert found.tensors["w"].dtype == np.float32
    np.testing.assert_array_equal(found.tensors["n"], np.arange(3))
    assert found.tensors["s"].shape == ()
    assert found.metadata == {"made_by": "a test"}


def test_safetensors_without_the_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "safetensors":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match="pip install safetensors"):
        read_checkpoint(GOLDEN / "lstm.safetensors")


def test_the_extension_of_a_file_does_not_matter(tmp_path: Path) -> None:
    for file in ("lstm.pt", "gru_legacy.pt", "lstm.npz"):
        copy = tmp_path / f"{file}.safetensors"
        shutil.copy(GOLDEN / file, copy)
        assert open_checkpoint(copy).format == open_checkpoint(GOLDEN / file).format


def test_a_path_may_be_a_string() -> None:
    assert list(read_checkpoint(str(GOLDEN / "lstm_projected.pt")))[-1] == "weight_hr_l0"


# ---- kinds of tensors -------------------------------------------------------------------------


@pytest.fixture(params=["kinds.pt", "kinds_legacy.pt", "kinds_protocol4.pt"])
def kinds(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read_checkpoint(GOLDEN / request.param)


def test_views_have_their_own_shape_and_values(kinds: dict[str, Any]) -> None:
    base = pattern((4, 6), 1)
    np.testing.assert_array_equal(kinds["plain"], base)
    np.testing.assert_array_equal(kinds["transposed"], base.T)
    np.testing.assert_array_equal(kinds["window"], base[1:3, 2:5])
    np.testing.assert_array_equal(kinds["every_second"], base[:, ::2])
    np.testing.assert_array_equal(kinds["expanded"], np.repeat(pattern((1, 3), 2), 4, 0))


def test_scalars_empty_tensors_and_parameters_are_plain_arrays(kinds: dict[str, Any]) -> None:
    assert kinds["scalar"].shape == ()
    assert kinds["scalar"] == 2.5
    assert kinds["empty"].shape == (0, 3)
    np.testing.assert_array_equal(kinds["parameter"], pattern((2, 3), 3))


def test_element_types_are_kept_and_bfloat16_widened(kinds: dict[str, Any]) -> None:
    for name, seed in (("float64", 4), ("float16", 5), ("bfloat16", 6)):
        np.testing.assert_array_equal(kinds[name], pattern((5,), seed))
    assert kinds["bfloat16"].dtype == np.float32
    for name in ("float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16"):
        assert kinds[name].dtype == np.dtype(name)
        assert kinds[name].dtype.isnative
    np.testing.assert_array_equal(kinds["int8"], np.arange(-2, 3))
    np.testing.assert_array_equal(kinds["uint16"], np.arange(5))
    assert kinds["bool"].tolist() == [True, False, True]


def test_tied_tensors_share_memory_and_all_arrays_are_writable(kinds: dict[str, Any]) -> None:
    assert np.shares_memory(kinds["plain"], kinds["tied"])
    kinds["plain"][0, 0] = 99
    assert kinds["tied"][0, 0] == kinds["transposed"][0, 0] == 99
    assert all(array.flags.writeable for array in kinds.values())


def test_arrays_do_not_depend_on_the_file(tmp_path: Path) -> None:
    copy = tmp_path / "lstm.pt"
    shutil.copy(GOLDEN / "lstm.pt", copy)
    tensors = read_checkpoint(copy)
    copy.write_bytes(b"overwritten")
    assert_filled(tensors)


def test_a_big_endian_archive_is_swapped(tmp_path: Path) -> None:
    swapped = tmp_path / "big.pt"
    with zipfile.ZipFile(GOLDEN / "lstm.pt") as old, zipfile.ZipFile(swapped, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if "/data/" in name:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            new.writestr(name, b"big" if name.endswith("byteorder") else data)
    tensors = read_checkpoint(swapped)
    assert tensors["head.bias"].dtype.isnative
    assert_filled(tensors)


def test_npz_object_arrays_are_skipped_and_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "mixed.npz"
    np.savez(path, w=np.ones(3), b=np.ones(2, ">f4"), o=np.array([{}], object), s=np.array("text"))
    found = open_checkpoint(path)
    assert list(found.tensors) == ["w", "b"]
    assert found.tensors["b"].dtype == np.dtype("f4")
    assert found.tensors["b"].dtype.isnative
    assert set(found.skipped) == {"o", "s"}


# ---- nesting and names ------------------------------------------------------------------------


def test_the_model_is_found_among_the_other_entries() -> None:
    found = open_checkpoint(GOLDEN / "nested.pt")
    assert list(found.tensors) == LSTM_KEYS
    assert_filled(found.tensors)
    assert found.skipped == {
        "epoch": "int 7",
        "loss": "float 0.5",
        "optimizer": "optimiser state with 12 tensors",
        "best": "a tensor",
        "names": "list of 2",
    }
    assert found.values == {"epoch": 7, "loss": 0.5}
    assert "the tensors are those of 'model_state_dict'" in found.notes


def test_several_dictionaries_are_joined_by_dots() -> None:
    found = open_checkpoint(GOLDEN / "encoder_decoder.pt")
    assert find_recurrent(found.tensors) == ["en.", "de."]
    assert found.skipped == {"en_optim": "optimiser state with 4 tensors"}
    assert any("en, de" in note for note in found.notes)


@pytest.mark.parametrize(("file", "prefix"), [("parallel.pt", ""), ("compiled.pt", "rnn.")])
def test_prefixes_of_wrappers_are_taken_away(file: str, prefix: str) -> None:
    tensors = read_checkpoint(GOLDEN / file)
    assert list(tensors) == [prefix + key for key in LSTM_KEYS]
    assert_filled(tensors)


def test_fastai_raw_weights_replace_the_dropped_copy() -> None:
    found = open_checkpoint(GOLDEN / "fastai.pt")
    assert set(found.tensors) == {f"rnns.0.{key}" for key in LSTM_KEYS}
    np.testing.assert_array_equal(found.tensors["rnns.0.weight_hh_l0"], pattern((16, 4), 9))
    assert any("weight_hh_l0_raw" in note for note in found.notes)


@pytest.mark.parametrize("file", ["weight_norm_old.pt", "weight_norm_new.pt"])
def test_weight_norm_is_folded_into_plain_weights(file: str) -> None:
    tensors = read_checkpoint(GOLDEN / file)
    assert set(tensors) == set(LSTM_KEYS)
    assert infer_recurrent(tensors).cell == "GRU"
    assert tensors["weight_hh_l0"].dtype == np.float32


def test_folded_weight_norm_equals_pytorch() -> None:
    folded = read_checkpoint(GOLDEN / "weight_norm_new.pt")["weight_hh_l0"]
    expected = read_checkpoint(GOLDEN / "weight_norm_folded.npz")["weight_hh_l0"]
    np.testing.assert_allclose(folded, expected, rtol=float(4 * np.finfo(np.float32).eps))


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_prefixes_are_kept_where_names_would_collide(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", **{"_orig_mod.w": np.zeros(1), "w": np.ones(1)})
    found = open_checkpoint(path)
    assert set(found.tensors) == {"_orig_mod.w", "w"}
    assert found.notes == ("prefixes were kept: without them two tensors would have one name",)


def test_module_is_kept_where_not_all_names_have_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", **{"module.w": np.zeros(1), "head.w": np.ones(1)})
    assert set(read_checkpoint(path)) == {"module.w", "head.w"}


def test_weight_norm_over_other_dimensions(tmp_path: Path) -> None:
    v = np.random.default_rng(0).normal(size=(3, 4))
    g = np.arange(1.0, 5.0)
    path = saved(
        tmp_path / "a.npz",
        **{"a.weight_g": g.reshape(1, 4), "a.weight_v": v, "b.weight_g": g[2], "b.weight_v": v},
    )
    tensors = read_checkpoint(path)
    np.testing.assert_allclose(tensors["a.weight"], g * v / np.linalg.norm(v, axis=0))
    np.testing.assert_allclose(tensors["b.weight"], g[2] * v / np.linalg.norm(v))


def test_pairs_that_are_no_weight_norm_are_kept(tmp_path: Path) -> None:
    arrays = {"weight_g": np.ones((3, 4)), "weight_v": np.ones((3, 4))}
    found = open_checkpoint(saved(tmp_path / "a.npz", **arrays))
    assert set(found.tensors) == set(arrays)
    assert any("no weight norm" in note for note in found.notes)


# ---- refusals ---------------------------------------------------------------------------------


def test_the_packed_weights_of_a_quantised_model_are_skipped_with_advice() -> None:
    found = open_checkpoint(GOLDEN / "quantised.pt")
    assert set(found.tensors) == {"1.scale", "1.zero_point"}
    for name in ("0._all_weight_values.0.param", "1._packed_params._packed_params.0"):
        assert "save model.state_dict() of the float model" in found.skipped[name]
    assert found.skipped["0._all_weight_values.0.param"] == (
        "object (torch.ScriptObject) with 4 tensors, of a quantised model; save "
        "model.state_dict() of the float model instead"
    )


def test_a_missing_file_is_the_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "absent.pt")


def test_a_path_that_is_none_is_named() -> None:
    for bad in (None, 5, ["a.pt"]):
        with pytest.raises(TypeError, match=r"path has type \w+, expected a str or a path"):
            read_checkpoint(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"path is 'a\\x00b.pt', expected no NUL character in it"):
        read_checkpoint("a\0b.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, world, this is text", "neither"),
        (b"\x00" * 257 + b"ustar\x00" + b"\x00" * 300, "tar format"),
        (b"\x93NUMPY\x01\x00", r"\.npy"),
        (b"\x89HDF\r\n\x1a\n" + b"\x00" * 50, "HDF5"),
        (b"\x80\x02}.", "plain pickle"),
    ],
)
def test_other_files_are_named_for_what_they_are(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="zip archive"):
        read_checkpoint(path)


# ---- architecture -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "prefix", "call"),
    [
        ("lstm.pt", "rnn.", "fastrnn.LSTM(5, 6, num_layers=2, bidirectional=True)"),
        ("gru_legacy.pt", "", "fastrnn.GRU(3, 4)"),
        ("lstm_projected.pt", "", "fastrnn.LSTM(3, 5, proj_size=2)"),
        ("rnn.pt", "", "fastrnn.RNN(3, 4, bias=False)"),
        ("gru_cell.pt", "", "fastrnn.GRUCell(3, 4)"),
        ("fastai.pt", "rnns.0.", "fastrnn.LSTM(3, 4)"),
    ],
)
def test_the_layer_is_told_from_its_tensors(file: str, prefix: str, call: str) -> None:
    tensors = read_checkpoint(GOLDEN / file)
    assert find_recurrent(tensors) == [prefix]
    assert infer_recurrent(tensors, prefix).constructor() == call


def test_summed_directions_are_told_by_the_second_layer() -> None:
    layer = {
        f"{kind}_l{k}{side}": (16, 4)
        for k in range(2)
        for side in ("", "_reverse")
        for kind in ("weight_ih", "weight_hh")
    }
    assert infer_recurrent(shapes(**layer)).merge == "sum"
    wide = {name: (16, 8) if "ih_l1" in name else shape for name, shape in layer.items()}
    assert infer_recurrent(shapes(**wide)).merge == "concat"


def test_peepholes_are_told_by_their_key() -> None:
    found = infer_recurrent(
        shapes(weight_ih_l0=(16, 3), weight_hh_l0=(16, 4), weight_ch_l0=(12,)), ""
    )
    assert found.peephole
    assert found.constructor() == "fastrnn.LSTM(3, 4, bias=False, peephole=True)"


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({}, "no recurrent weights"),
        ({"weight_hh_l0": (16, 4)}, "weight_ih_l0 is missing"),
        ({"weight_ih_l0": (16, 3), "weight_hh_l0": (20, 4)}, "expected 1, .*3 or 4 times"),
        ({"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 0)}, "expected 1, .*3 or 4 times"),
        ({"weight_ih_l0": (12, 3), "weight_hh_l0": (16, 4)}, r"weight_ih_l0 has shape \(12, 3\)"),
        ({"weight_ih_l0": (16,), "weight_hh_l0": (16, 4)}, "two dimensions"),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (12,)},
            r"bias_ih_l0 has shape \(12,\), expected \(16,\)",
        ),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "weight_hh_l1": (16, 4)},
            "missing: weight_ih_l1",
        ),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "weight_hh_l99999999": (16, 4)},
            "no layers below",
        ),
        (
            {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "weight_ch_l0": (12,)},
            "only an LSTM",
        ),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "weight_hh": (16, 4)},
            "a cell and of a layer",
        ),
    ],
)
def test_contradicting_tensors_are_named(sizes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        infer_recurrent(shapes(**sizes))


# ---- inspection -------------------------------------------------------------------------------


def test_inspection_is_json_and_names_the_loading_line() -> None:
    info = inspect_checkpoint(GOLDEN / "lstm.pt")
    assert json.loads(json.dumps(info)) == info
    assert info["format"] == "pytorch-zip"
    (layer,) = info["recurrent"]
    assert layer["prefix"] == "rnn."
    assert layer["constructor"] == "fastrnn.LSTM(5, 6, num_layers=2, bidirectional=True)"
    assert layer["load"].endswith('lstm.pt"), prefix="rnn.")')
    assert "embedding.weight looks like Embedding(11, 5)" in info["remarks"]
    assert "head.weight looks like Linear(12, 11)" in info["remarks"]
    assert info["parameters"] == sum(int(np.prod(t["shape"])) for t in info["tensors"])


def test_inspection_prints_every_part() -> None:
    text = format_inspection(inspect_checkpoint(GOLDEN / "nested.pt"))
    for words in ("weight_ih_l0", "(16, 3)", "fastrnn.LSTM(3, 4)", "epoch: int 7", "optimiser"):
        assert words in text


def test_inspection_says_what_the_file_cannot_tell() -> None:
    text = format_inspection(inspect_checkpoint(GOLDEN / "rnn.pt"))
    assert "nonlinearity" in text
    assert "batch_first" in text
    assert not text.endswith("\n")


def test_inspection_says_that_there_is_no_recurrent_layer(tmp_path: Path) -> None:
    info = inspect_checkpoint(saved(tmp_path / "a.npz", weight=np.ones((8, 4))))
    assert "no recurrent layer found" in format_inspection(info)
    assert info["language_model"] == ""


@pytest.mark.parametrize("prefix", ["", "net.model."])
def test_inspection_suggests_a_language_model_where_all_its_parts_are(
    tmp_path: Path, prefix: str
) -> None:
    model = LanguageModel(11, 5, 6)
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    info = inspect_checkpoint(saved(tmp_path / "a.npz", **state))
    assert info["language_model"] in format_inspection(info)
    found = eval(info["language_model"], {"fastrnn": fastrnn})
    assert np.array_equal(found.flat, model.flat)
    del state[f"{prefix}embedding.weight"]
    assert not inspect_checkpoint(saved(tmp_path / "b.npz", **state))["language_model"]


def test_inspection_of_inconsistent_weights_says_why(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", weight_hh_l0=np.ones((8, 4)))
    text = format_inspection(inspect_checkpoint(path))
    assert "weight_ih_l0 is missing" in text


def test_inspection_prints_no_control_characters(tmp_path: Path) -> None:
    text = format_inspection(inspect_checkpoint(saved(tmp_path / "a.npz", **{"\x1b[2Jw": 1.0})))
    assert "\x1b" not in text
