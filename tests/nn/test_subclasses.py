"""Subclasses of layers and models with constructors of their own."""

from __future__ import annotations

import numpy as np
import pytest
from test_copies import WAYS, assert_same

import fastrnn
from fastrnn import models


class Small(fastrnn.LSTM):
    """Sizes that are not the arguments."""

    def __init__(self, width):
        super().__init__(width, 2 * width, dropout=0.0)
        self.note = {"width": width}


class Head(fastrnn.Linear):
    def __init__(self, *, from_model):
        super().__init__(from_model, 3)
        self.scale = np.full(3, 2.0, np.float32)

    def __call__(self, x):
        return super().__call__(x) * self.scale


class Story(models.LanguageModel):
    def __init__(self, vocabulary):
        super().__init__(len(vocabulary), 4, 4, tie_weights=True)
        self.vocabulary = list(vocabulary)


class Speaker(fastrnn.WeightDrop):
    def __init__(self, width):
        super().__init__(Small(width), 0.5)


SUBCLASSES = {
    "layer": (lambda: Small(2), np.ones((3, 1, 2))),
    "linear": (lambda: Head(from_model=2), np.ones((3, 2))),
    "model": (lambda: Story("abcde"), np.ones((3, 1), int)),
    "around a subclass": (lambda: Speaker(2), np.ones((3, 1, 2))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SUBCLASSES)
def test_a_subclass_with_its_own_constructor_is_copied_without_calling_it(name, way):
    make, x = SUBCLASSES[name]
    original = make()
    original.seed(3)
    twin = WAYS[way](original)
    assert_same(original, twin)
    assert repr(twin) == repr(original)
    assert_same(original(x), twin(x))
    assert_same(original.vjp(x)[0], twin.vjp(x)[0])


def test_the_text_of_a_subclass_names_what_it_is_made_of():
    assert repr(Small(2)) == "Small(2, 4)"
    assert repr(Head(from_model=2)) == "Head(in_features=2, out_features=3, bias=True)"
    assert "embedding" in repr(Story("abcde"))


@pytest.mark.parametrize("name", SUBCLASSES)
def test_a_subclass_is_not_saved_as_something_else(name, tmp_path):
    make, _ = SUBCLASSES[name]
    module = make()
    with pytest.raises(TypeError, match=r"module is an? \w+, .*; save_pytorch writes"):
        fastrnn.save(module, tmp_path / "model.safetensors")
    fastrnn.save_pytorch(module, tmp_path / "weights.pt")
    found = fastrnn.read_checkpoint(tmp_path / "weights.pt")
    make().load_state_dict(found)


def test_a_subclass_of_the_same_name_is_not_saved_as_its_base(tmp_path):
    namesake = type("LSTM", (fastrnn.LSTM,), {})
    with pytest.raises(TypeError, match="subclass of fastrnn's LSTM"):
        fastrnn.save(namesake(2, 3), tmp_path / "model.safetensors")
