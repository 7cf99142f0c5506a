"""The picture of attention."""

from __future__ import annotations

from xml.etree import ElementTree

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


def test_labels_are_shown_as_they_stand(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "attention.svg"
    plot.attention(np.eye(2, 3), [r"$\x$", "$5", "international"], [7, 8], path, title=r"$\frac$")
    text = path.read_text()
    assert all(f"<!-- {label} -->" in text for label in (r"$\x$", "$5", r"$\frac$", "7", "8"))
    assert "<!-- international -->" in text
    assert "rotate(-90)" in text.partition("<!-- international -->")[2][:300]


def test_a_picture_needs_labels(tmp_path):
    with pytest.raises(ValueError, match="source is empty, expected a label for each position"):
        plot.attention(np.eye(2), "", "ab", tmp_path / "no.png")
    with pytest.raises(ValueError, match="target is empty"):
        plot.attention(np.eye(2), "ab", np.arange(0), tmp_path / "no.png")


@pytest.mark.parametrize("label", ["\ud800", "\x00", "a\nb", "\x1b[2J", "\t"])
def test_what_no_font_draws_is_escaped(label, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "a.svg"
    plot.attention(np.ones((1, 2)), [label, "b"], [label], path, title=label)
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert path.read_text().count(f"<!-- {repr(label)[1:-1]} -->") == 3
