"""The picture of attention."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import plot


def test_a_picture_shows_target_over_source(tmp_path):
    pytest.importorskip("matplotlib")
    weights = np.eye(4, 7, dtype=np.float32)
    path = tmp_path / "attention.svg"
    plot.attention(weights, list("a bcd"), list("123"), path, title="Where it looked")
    text = path.read_text()
    assert "Where it looked" in text
    assert text.count('id="xtick_') == 5
    assert text.count('id="ytick_') >= 3


def test_weights_smaller_than_the_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"weights has shape \(2, 3\), expected at least \(2, 4\)"):
        plot.attention(np.zeros((2, 3)), list("abcd"), list("xy"), tmp_path / "no.png")
    with pytest.raises(ValueError, match="expected at least"):
        plot.attention(np.zeros((2, 3, 1)), list("a"), list("x"), tmp_path / "no.png")
