"""One file for a model: written whole or not at all, read back the same, and never trusted."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from families import FAMILIES, make
from processes import run_python

import fastrnn
from fastrnn import _core, models
from fastrnn.data.scaling import Scaler
from fastrnn.formats import CheckpointError

SCALER = Scaler([1.5, -2.0, 1 / 3], [0.1, 7.0, 1e6])

MODELS = {
    "language": lambda: models.LanguageModel(
        11, 5, 9, 2, dropout=0.25, label_smoothing=0.1, ignore_index=3, weight_drop=0.5,
        locked_dropout=True,
    ),
    "tied_language": lambda: models.LanguageModel(11, 5, 5, cell="gru", tie_weights=True),
    "token_classifier": lambda: models.SequenceClassifier(
        4, 5, vocab_size=7, pooling="mean", bidirectional=True, label_smoothing=0.2
    ),
    "feature_classifier": lambda: models.SequenceClassifier(4, 5, 2, input_size=3, cell="rnn"),
    "token_tagger": lambda: models.SequenceTagger(4, 5, vocab_size=7, embedding_dim=3),
    "feature_tagger": lambda: models.SequenceTagger(4, 5, input_size=3, ignore_index=-100),
    "forecaster": lambda: models.Forecaster(
        3, 5, horizon=4, targets=[2, 0], scaler=SCALER, objective="huber"
    ),
    "autoregression": lambda: models.AutoRegression(3, 6, horizon=2, scaler=SCALER),
}  # fmt: skip
LAYERS = {
    **{family: lambda family=family: make(family, 3, 4, 2) for family in FAMILIES},
    "lstm_cell": lambda: fastrnn.LSTMCell(3, 4, peephole=True),
    "linear": lambda: fastrnn.Linear(3, 4, bias=False),
    "embedding": lambda: fastrnn.Embedding(3, 4),
    "layer_norm": lambda: fastrnn.LayerNorm(4, eps=1e-3),
    "scalar_mix": lambda: fastrnn.ScalarMix(3),
}


@pytest.mark.parametrize("name", [*MODELS, *LAYERS])
def test_what_was_saved_is_loaded_again(name, tmp_path):
    module = {**MODELS, **LAYERS}[name]()
    path = tmp_path / "some file"
    fastrnn.save(module, path)
    again = fastrnn.load(str(path))
    assert type(again) is type(module)
    assert repr(again) == repr(module)
    assert again.config == module.config
    assert again.fingerprint() == module.fingerprint()
    for setting in getattr(module, "_settings", ()):
        assert getattr(again, setting) == getattr(module, setting)
    assert os.listdir(tmp_path) == ["some file"]


def test_a_loaded_model_gives_the_same_bits(tmp_path, rng):
    tokens = rng.integers(0, 11, (6, 3))
    for name in ("language", "tied_language"):
        model = MODELS[name]()
        model.save(tmp_path / "model")
        assert np.array_equal(fastrnn.load(tmp_path / "model")(tokens)[0], model(tokens)[0])
    series = rng.standard_normal((20, 3))
    for name in ("forecaster", "autoregression"):
        model = MODELS[name]()
        model.save(tmp_path / "model")
        again = fastrnn.load(tmp_path / "model")
        assert np.array_equal(again.predict(series), model.predict(series))


def test_a_vocabulary_is_saved_as_its_description(tmp_path):
    model = models.LanguageModel(3, 2, 2)
    model.vocabulary = fastrnn.data.Vocabulary("abc")
    with pytest.raises(ValueError, match=r"written as JSON.*expected its vocabulary\.to_dict\(\)"):
        model.save(tmp_path / "model")


def test_vocabulary_and_extra_come_along(tmp_path):
    model = MODELS["language"]()
    model.vocabulary = {"tokens": ["a", "ß", "\n", "😀"], "level": "character"}
    model.extra = [1, 2.5, None, {"deep": True}]
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    assert again.vocabulary == model.vocabulary
    assert again.extra == model.extra


@pytest.mark.parametrize("value", [{1: "a"}, [{"a": {2: 3}}], object(), float("nan"), {1, 2}])
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(value, tmp_path):
    model = MODELS["language"]()
    path = tmp_path / "model"
    model.save(path)
    before = path.read_bytes()
    model.vocabulary = value
    with pytest.raises(ValueError, match="vocabulary"):
        model.save(path)
    model.vocabulary, model.extra = None, value
    with pytest.raises(ValueError, match="extra"):
        model.save(path)
    assert path.read_bytes() == before
    with pytest.raises(TypeError, match="module is a Dropout, expected a model or a layer"):
        fastrnn.save(fastrnn.Dropout(), path)
    with pytest.raises(TypeError, match="module is an int"):
        fastrnn.save(3, path)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(step, tmp_path, monkeypatch):
    model = MODELS["language"]()
    path = tmp_path / "model"
    model.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        from fastrnn.formats import _write_safetensors

        monkeypatch.setattr(_write_safetensors, "_little_endian", fail)
    else:
        monkeypatch.setattr(os, step, fail)
    for write in (fastrnn.save, fastrnn.save_pytorch)[: 1 if step == "write" else 2]:
        with pytest.raises(OSError, match="No space left"):
            write(model, path)
        assert os.listdir(tmp_path) == ["model"]
        assert path.read_bytes() == before


@pytest.mark.parametrize("write", ["fastrnn.save", "fastrnn.save_pytorch"])
def test_a_kill_during_a_save_leaves_the_old_file_whole(write, tmp_path):
    path = tmp_path / "model"
    fastrnn.save(fastrnn.GRU(2, 3), path)
    before = path.read_bytes()
    done = run_python(
        f"""
        import os
        import fastrnn
        os.fsync = lambda _: os._exit(9)
        {write}(fastrnn.GRU(20, 30), {str(path)!r})
        """
    )
    assert done.returncode == 9
    assert path.read_bytes() == before


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "deep").mkdir()
    os.symlink(tmp_path / "deep" / "model", tmp_path / "link")
    MODELS["language"]().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep" / "model").is_file()
    with pytest.raises(FileNotFoundError):
        MODELS["language"]().save(tmp_path / "nowhere" / "model")


def test_the_file_is_plain_safetensors(tmp_path):
    from safetensors.numpy import load_file

    model = MODELS["tied_language"]()
    model.save(tmp_path / "model")
    tensors = load_file(tmp_path / "model")
    assert set(tensors) == set(model.parameters) - {"head.weight"}
    assert all(np.array_equal(tensors[name], model.parameters[name]) for name in tensors)
    found = models.LanguageModel.from_state_dict(fastrnn.read_checkpoint(tmp_path / "model"))
    assert found.tie_weights
    data = (tmp_path / "model").read_bytes()
    assert (8 + int.from_bytes(data[:8], "little")) % 64 == 0


def description(path):
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["fastrnn"])


def rewrite(path, text):
    """The same tensors under another description."""
    from safetensors.numpy import load_file, save_file

    save_file(load_file(path), path, None if text is None else {"fastrnn": text})


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


CHANGES = {
    "no description": (lambda d: None, "a safetensors file without a fastrnn model"),
    "no JSON": (lambda d: "{", "damaged: the model's description is no JSON"),
    "a list": (lambda d: [], "damaged: the model's description has no format"),
    "newer": (lambda d: d | {"format": 2}, "written by a newer fastrnn: format 2"),
    "unknown kind": (lambda d: d | {"kind": "os.system"}, "holds a 'os.system', expected one of"),
    "kind of no text": (lambda d: d | {"kind": ["LSTM"]}, "holds a"),
    "a format of another type": (lambda d: d | {"format": True}, "has no format"),
    "config of no names": (lambda d: d | {"config": [1]}, "the model's config is no mapping"),
    "settings of no names": (lambda d: d | {"settings": 1}, "the model's settings is no mapping"),
    "no config": (lambda d: without(d, "config"), "no 'config' in it"),
    "other sizes": (
        lambda d: d
        | {"config": d["config"] | {"rnn": ["LSTM", {"input_size": 5, "hidden_size": 8}]}},
        "the head takes 9 features, expected the 8",
    ),
    "other layers": (
        lambda d: d | {"config": d["config"] | {"rnn": ["Linear", {"in_features": 5}]}},
        f"rnn is a 'Linear', expected one of {', '.join(_core.families())}",
    ),
    "an unknown option": (lambda d: d | {"config": d["config"] | {"zoom": 1}}, "zoom"),
    "a wrong option": (lambda d: d | {"config": d["config"] | {"dropout": 7}}, "dropout is 7"),
    "another cell": (
        lambda d: d
        | {"config": d["config"] | {"rnn": ["GRU", {"input_size": 5, "hidden_size": 9}]}},
        "these parameters do not fit this LanguageModel",
    ),
    "larger than memory": (
        lambda d: {"format": 1, "kind": "LSTM"}
        | {"config": {"input_size": 2**20, "hidden_size": 2**20, "num_layers": 1024}},
        "cannot allocate",
    ),
    "huge": (
        lambda d: d
        | {
            "config": d["config"]
            | {
                "embedding": ["Embedding", {"num": 2**20, "dim": 5}],
                "head": ["Linear", {"in_features": 9, "out_features": 2**20}],
            }
        },
        "these parameters do not fit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_foreign_or_damaged_file_is_refused(name, tmp_path):
    change, message = CHANGES[name]
    path = tmp_path / "model"
    MODELS["language"]().save(path)
    changed = change(description(path))
    rewrite(path, changed if changed is None or isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(CheckpointError, match=message) as caught:
        fastrnn.load(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "model"
    MODELS["language"]().save(path)
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=str(path)):
            fastrnn.load(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        fastrnn.load(path)
