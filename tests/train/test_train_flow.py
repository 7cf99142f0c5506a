"""The heat map of characters: what it shows, how wide it is, and where it may be in colour."""

from __future__ import annotations

import io

import numpy as np
import pytest

from fastrnn.train import GradientFlow, heat_map, show_flow


def vanishing(layers=2, steps=40, directions=1):
    """A gradient that falls tenfold every 10 steps back, and saturation that rises with depth."""
    norm = 10.0 ** (np.arange(steps) / 10 - steps / 10) * np.ones((layers, 1))
    saturated = np.linspace(0, 1, layers)[:, None] * np.ones(steps)
    return GradientFlow(norm.astype(np.float32), saturated.astype(np.float32), directions)


def test_rows_are_layers_with_the_last_on_top_and_steps_from_left_to_right():
    lines = heat_map(vanishing(), width=80).splitlines()
    assert lines[1].startswith("layer 2 │")
    assert lines[2].startswith("layer 1 │")
    cells = lines[2].split("│")[1]
    assert len(cells) == 40
    assert cells[0] == "▁"
    assert cells[-1] == "█"
    assert list(cells) == sorted(cells)  # the blocks' code points rise with their height
    assert lines[3].split() == ["step", "0", "39"]
    assert lines[3].rstrip().endswith("39")
    assert len(lines[3]) == lines[2].rindex("│")


def test_the_scale_is_logarithmic_and_its_ends_are_named():
    text = heat_map(vanishing())
    assert "1e-04 ▁▂▃▄▅▆▇█ 1e+00" in text
    cells = text.splitlines()[1].split("│")[1]
    counts = [cells.count(block) for block in "▁▂▃▄▅▆▇█"]
    assert sum(counts) == 40
    assert min(counts) >= 4


def test_saturation_has_its_own_map_from_none_to_all():
    lines = heat_map(vanishing()).splitlines()
    start = lines.index("saturated gates")
    assert set(lines[start + 1].split("│")[1]) == {"█"}
    assert set(lines[start + 2].split("│")[1]) == {"▁"}


def test_the_change_per_step_is_told_for_every_layer():
    lines = heat_map(vanishing()).splitlines()
    assert lines[-2] == "layer 1: 7.9e-01 at step 39, 1.0e-04 at step 0, times 0.794 per step back"


@pytest.mark.parametrize("width", [40, 80, 133])
@pytest.mark.parametrize("steps", [1, 7, 100, 1000])
def test_no_line_is_wider_than_asked_for(width, steps):
    lines = heat_map(vanishing(steps=steps), width=width).splitlines()
    maps = lines[: lines.index("saturated gates")]
    assert max(map(len, maps)) <= width


def test_many_steps_are_binned_by_their_means():
    norm = np.ones((1, 64), np.float32)
    norm[0, 10] = 1e4
    text = heat_map(GradientFlow(norm, np.zeros_like(norm)), width=26)
    cells = text.splitlines()[1].split("│")[1]
    assert len(cells) == 16
    assert cells[2] != "▁"
    assert set(cells[:2] + cells[3:]) == {"▁"}


def test_zeros_are_blank_and_infinities_are_marked():
    norm = np.array([[0.0, 1e-3, 1.0, np.inf, np.nan]], np.float32)
    cells = heat_map(GradientFlow(norm, np.zeros_like(norm))).splitlines()[1].split("│")[1]
    assert cells == " ▁█! "


def test_a_flow_of_zeros_alone_can_be_shown():
    zeros = np.zeros((1, 3), np.float32)
    assert "layer 1 │   │" in heat_map(GradientFlow(zeros, zeros))


def test_directions_are_rows_of_their_own():
    names = vanishing(layers=4, directions=2).names
    assert names == ["layer 1", "layer 1 reverse", "layer 2", "layer 2 reverse"]


def test_colours_come_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, file = Terminal(), io.StringIO()
    show_flow(vanishing(), terminal)
    show_flow(vanishing(), file)
    assert "\x1b[48;5;" in terminal.getvalue()
    assert "\x1b" not in file.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    show_flow(vanishing(), plain := Terminal())
    assert "\x1b" not in plain.getvalue()


def test_a_file_that_knows_ascii_only_gets_no_more():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    show_flow(vanishing(), file)
    file.flush()
    assert b"layer 2 |....." in raw.getvalue()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected \(layers\*D, T\) for both"):
        GradientFlow(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
