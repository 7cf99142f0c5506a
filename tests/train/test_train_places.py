"""Sources that are read on the side stay where they are, after an error as well."""

from __future__ import annotations

import numpy as np
import pytest
from resuming import language_model

from fastrnn import data, optim, train
from fastrnn.train.fingerprint import beginning


def begun():
    """A source in the middle of an epoch."""
    source = data.TextStream(np.arange(400) % 9, 2, 20)
    next(iter(source.batches()))
    return source


@pytest.mark.parametrize("fails", [False, True])
def test_an_evaluation_leaves_the_source_where_it_is(fails, monkeypatch):
    model, source = language_model(), begun()
    trainer, place = train.Trainer(model, optim.Adam(model)), source.state_dict()
    if not fails:
        assert trainer.evaluate(source).count
    else:
        monkeypatch.setattr(type(model), "loss", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.evaluate(source)
    assert source.state_dict() == place


def test_a_fingerprint_leaves_a_foreign_source_where_it_is_after_an_error():
    source = begun()
    place = source.state_dict()

    class Foreign:
        state_dict, load_state_dict = source.state_dict, source.load_state_dict

        def batches(self):
            yield next(iter(source.batches()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        beginning(Foreign())
    assert source.state_dict() == place
