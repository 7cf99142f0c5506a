"""The curve of a training follows PyTorch's, from the same weights, batches and Adam settings."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
from paths import EXAMPLES

import fastrnn

torch = pytest.importorskip("torch")

EXAMPLE = EXAMPLES / "learning_curves.py"
STEPS = 60
BOUND = 5e-3  # asked for over hundreds of steps; these few differ by about 1e-6
SIZES = ["--hidden", "32", "--embedding", "16", "--batch", "16", "--bptt", "32"]


@pytest.fixture
def experiment():
    """The example as a module, the number of threads of both engines put back afterwards."""
    spec = spec_from_file_location("learning_curves", EXAMPLE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    before = torch.get_num_threads(), fastrnn.get_num_threads()
    yield module
    torch.set_num_threads(before[0])
    fastrnn.set_num_threads(before[1])


@pytest.fixture
def learned(experiment):
    """Runs the experiment of a small network with these arguments."""

    def learn(*arguments):
        options = experiment.make_parser().parse_args(
            [*arguments, *SIZES, "--steps", str(STEPS), "--every", "20", "--lr", "5e-3"]
        )
        return experiment.run(options)

    return learn


def check(result):
    """Both learned, and the same; gives the losses of the last validation."""
    theirs, ours = (np.array(result["losses"][name]) for name in ("pytorch", "fastrnn"))
    assert ours.shape == theirs.shape == (STEPS,)
    assert ours[-10:].mean() < 0.9 * ours[:3].mean()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=BOUND)
    last = result["held_out"][-1]
    assert last["step"] == STEPS
    assert abs(last["pytorch"]["loss"] - last["fastrnn"]["loss"]) < BOUND
    return last


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_language_model_learns_as_in_pytorch(learned, cell, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(fastrnn.data.standard_library_text()[:60_000])
    check(learned(str(text), "--cell", cell, "--clip", "0.5"))  # which clips most of these steps


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_classifier_of_padded_names_learns_as_in_pytorch(learned, cell, tmp_path, rng):
    for language, letters in {"one": "abcdefgh", "two": "efghijkl", "three": "ijklmnop"}.items():
        words = ["".join(rng.choice(list(letters), rng.integers(3, 12))) for _ in range(150)]
        (tmp_path / f"{language}.txt").write_text("\n".join(words))
    last = check(learned(str(tmp_path), "--task", "names", "--cell", cell))
    assert abs(last["pytorch"]["accuracy"] - last["fastrnn"]["accuracy"]) < 0.05  # 2 of 45 names
