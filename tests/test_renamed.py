"""Old names of modules lead to the new ones, with a warning."""

from __future__ import annotations

import importlib
import pickle
import sys

import pytest

from fastrnn import _renamed


@pytest.fixture(autouse=True)
def nothing_is_loaded():
    for old in _renamed._NEW:
        sys.modules.pop(f"fastrnn.{old}", None)


@pytest.mark.parametrize("old", _renamed._NEW)
def test_an_old_module_name_leads_to_the_new_module(old):
    if old.startswith("layers."):  # its package warns first
        with pytest.warns(DeprecationWarning, match="fastrnn.layers is fastrnn.nn now"):
            importlib.import_module("fastrnn.layers")
    new = importlib.import_module(f"fastrnn.{_renamed._NEW[old]}")
    with pytest.warns(DeprecationWarning, match=f"fastrnn.{old} is {new.__name__} now"):
        module = importlib.import_module(f"fastrnn.{old}")
    for name in set(dir(new)) - set(dir(importlib)):  # but not what every module has
        assert getattr(module, name) is getattr(new, name)


def test_a_pickle_of_the_old_version_loads():
    with pytest.warns(DeprecationWarning, match="fastrnn.nn.recurrent"):
        loaded = pickle.loads(b"cfastrnn.rnn\nLSTM\n.")
    assert loaded is pickle.loads(b"cfastrnn.nn.recurrent\nLSTM\n.")


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fastrnn.nothing")
