"""Every module says once what its constructor takes; files, texts and copies follow from that."""

from __future__ import annotations

import inspect

import pytest
from made import MADE, public_classes

import fastrnn
from fastrnn import models
from fastrnn.nn.declared import plain
from fastrnn.nn.module import Module
from fastrnn.nn.registry import KINDS, make, registered


@pytest.fixture
def several():
    """A class with a list of modules among its arguments, and a dictionary of them."""

    @registered
    class Several(Module):
        _modules = ("modules", "named")
        _options = ("scale",)

        def __init__(self, *modules, named=None, scale=1.0):
            self.modules, self.named, self.scale = list(modules), named, scale
            self._allocate([])

        def reset_parameters(self, seed=None):
            """There is nothing to draw."""

    yield Several
    del KINDS["Several"]


def test_every_public_module_can_be_made_from_a_file():
    modules = {kind for kind in public_classes() if issubclass(kind, Module)}
    assert modules - {models.Model} == set(KINDS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_declares_arguments_of_its_constructor_and_keeps_them(kind):
    cls = KINDS[kind]
    declared = (*cls._modules, *cls._options, *cls._settings)
    parameters = inspect.signature(cls).parameters
    assert len(set(declared)) == len(declared)
    assert set(declared) <= set(parameters)
    assert set(cls._shorthands) <= set(cls._options)
    assert all(parameters[name].default is not inspect.Parameter.empty for name in cls._unsaid)
    module = MADE[cls]()
    _, arguments = plain(module)
    again = make(kind, arguments, "it")
    assert plain(again) == plain(module)
    assert again.config == module.config
    assert {name: p.shape for name, p in again.parameters.items()} == {
        name: p.shape for name, p in module.parameters.items()
    }


def test_lists_and_dictionaries_of_modules_are_made_again(several):
    made = several(fastrnn.Linear(2, 3), several(fastrnn.GRU(3, 4)), named={"a": fastrnn.Dropout()})
    kind, arguments = plain(made)
    assert arguments["named"] == {"a": ("Dropout", {"p": 0.5})}
    again = make(kind, arguments, "it")
    assert plain(again) == plain(made)
    assert isinstance(again.modules[1].modules[0], fastrnn.GRU)
    assert make("Several", {"modules": [], "scale": 2}, "it").scale == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modules": [["Linear", {"in_features": 2}]]}, r"it: modules\[0\]: missing a required"),
        ({"modules": [["Linear", 3]]}, r"it: modules\[0\] has no mapping of names"),
        ({"modules": [3]}, "it: modules is no pair of a kind and its arguments"),
        ({"modules": "LSTM"}, "it: modules is no pair of a kind and its arguments"),
        ({"named": {"a": ["os.system", {}]}}, r"it: named\['a'\] is a 'os.system', expected one"),
        ({"named": {"a": ["GRU", {"input_size": 0, "hidden_size": 1}]}}, r"named\['a'\]: input_s"),
        ({"zoom": 1}, "it: got an unexpected keyword argument 'zoom'"),
    ],
)
def test_what_a_file_says_wrongly_of_modules_inside_is_named(several, arguments, message):
    with pytest.raises(ValueError, match=message):
        make("Several", arguments, "it")


def test_a_class_inside_that_is_not_listed_is_named(several, tmp_path):
    class Mine(fastrnn.Linear):
        pass

    made = several(fastrnn.Linear(2, 3), several(Mine(3, 4)))
    with pytest.raises(
        TypeError,
        match=r"module\.modules\[1\]\.modules\[0\] is a Mine, a subclass of fastrnn",
    ):
        fastrnn.save(made, tmp_path / "file")
