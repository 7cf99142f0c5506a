"""Files and pickles of fastrnn 0.1 give the modules that were saved, with the same bits."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import models

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

import make_format1 as made  # noqa: E402

OUTPUTS = np.load(GOLDEN / "format1" / "outputs.npz")


def check(module, name):
    assert np.array_equal(made.call(module), OUTPUTS[f"y_{name}"])
    assert module.fingerprint() == OUTPUTS[f"fingerprint_{name}"].tobytes()


@pytest.mark.parametrize("name", made.MODULES)
def test_a_file_of_the_version_before_is_loaded_with_the_same_bits(name, tmp_path):
    module = fastrnn.load(GOLDEN / "format1" / f"{name}.safetensors")
    fresh = made.MODULES[name]()
    assert type(module) is type(fresh)
    assert repr(module) == repr(fresh)
    assert module.config == fresh.config
    check(module, name)
    for setting in module._settings:
        assert getattr(module, setting) == getattr(fresh, setting)
    if isinstance(module, models.Model):
        assert (module.vocabulary, module.extra) == (["a", {"b": 1}], {"note": name})
    fastrnn.save(module, tmp_path / "again")
    check(fastrnn.load(tmp_path / "again"), name)


@pytest.mark.parametrize("name", made.PICKLED)
def test_a_pickle_of_the_version_before_is_loaded_with_the_same_bits(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old names of modules
        module = pickle.loads((GOLDEN / "format1" / f"{name}.pkl").read_bytes())
    check(module, name)
    check(pickle.loads(pickle.dumps(module)), name)


def test_a_pickled_tie_of_the_version_before_is_still_one():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = pickle.loads((GOLDEN / "format1" / "language_tied.pkl").read_bytes())
    assert model.parameters["head.weight"] is model.parameters["embedding.weight"]
    before = model(made.TOKENS)[0]
    model.embedding.load_state_dict({"weight": 2 * model.embedding.weight})
    assert not np.array_equal(model(made.TOKENS)[0], before)
