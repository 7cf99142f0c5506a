"""Old names of modules lead to the new ones, with a warning."""

from __future__ import annotations

import importlib
import pickle
import sys

import pytest

from fastrnn import _renamed


@pytest.mark.parametrize("old", _renamed._NEW)
def test_an_old_module_name_leads_to_the_new_module(old):
    for name in [name for name in sys.modules if name.startswith(f"fastrnn.{old.split('.')[0]}")]:
        if name.partition(".")[2] in _renamed._NEW:
            del sys.modules[name]
    if "." in old:  # its package warns first
        with pytest.warns(DeprecationWarning, match="fastrnn.layers is fastrnn.nn now"):
            importlib.import_module("fastrnn.layers")
    new = importlib.import_module(f"fastrnn.{_renamed._NEW[old]}")
    for name in set(dir(new)) - set(dir(importlib)):  # but not what every module has
        assert getattr(module, name) is getattr(new, name)


def test_a_pickle_of_the_old_version_loads():
    new = b"cfastrnn.nn.recurrent\nLSTM\n."
    old = b"cfastrnn.rnn\nLSTM\n."
    sys.modules.pop("fastrnn.rnn", None)
    with pytest.warns(DeprecationWarning, match="fastrnn.nn.recurrent"):
        assert pickle.loads(old) is pickle.loads(new)


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fastrnn.nothing")
