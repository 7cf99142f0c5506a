"""Modules that people write around PyTorch's layers, loaded by their state dicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import normal

import fastrnn
from fastrnn.models import LanguageModel

torch = pytest.importorskip("torch")
nn = torch.nn

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_layers_and_cells_of_pytorch_stand_for_each_other(kind, rng):
    x = normal(rng, 5, 2, 3)
    cell, layer = getattr(nn, f"{kind}Cell")(3, 4), getattr(nn, kind)(3, 4)
    state, found = None, []
    for step in torch.from_numpy(x):
        state = cell(step, state)
        found.append((state[0] if kind == "LSTM" else state).detach().numpy())
    ours = getattr(fastrnn, kind).from_state_dict(cell.state_dict())
    np.testing.assert_allclose(ours(x)[0], found, **CLOSE)
    single = getattr(fastrnn, f"{kind}Cell").from_state_dict(layer.state_dict())
    wanted = layer(torch.from_numpy(x[:1]))[0][0].detach().numpy()
    got = single(x[0])
    np.testing.assert_allclose(got[0] if kind == "LSTM" else got, wanted, **CLOSE)


@pytest.mark.parametrize("middle", [False, True])
def test_a_module_with_learned_initial_states_gives_its_outputs_and_gradients(middle, rng):
    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, 2, bidirectional=True)
            shape = (4, 1, 4) if middle else (4, 4)
            self.h0 = nn.Parameter(torch.randn(shape))
            self.c0 = nn.Parameter(torch.randn(shape))

        def forward(self, x: Any) -> Any:
            h, c = (s.reshape(4, 1, 4).repeat(1, x.shape[1], 1) for s in (self.h0, self.c0))
            return self.lstm(x, (h, c))[0]

    theirs = Net()
    ours = fastrnn.LSTM.from_state_dict(theirs.state_dict(), "lstm.")
    x, dy = normal(rng, 5, 3, 3), normal(rng, 5, 3, 8)
    wanted = theirs(torch.from_numpy(x))
    wanted.backward(torch.from_numpy(dy))
    (y, _), pullback = ours.vjp(x)
    pullback(dy)
    np.testing.assert_allclose(y, wanted.detach().numpy(), **CLOSE)
    for name, parameter in (("h_0", theirs.h0), ("c_0", theirs.c0)):
        gradient = parameter.grad.numpy().reshape(4, 4)
        np.testing.assert_allclose(ours.grads[name], gradient, rtol=1e-4, atol=1e-5)


def test_weights_tied_by_save_model_stay_tied(tmp_path):
    save_model = pytest.importorskip("safetensors.torch").save_model
    parts = {"encoder": nn.Embedding(9, 8), "rnn": nn.LSTM(8, 8), "decoder": nn.Linear(8, 9)}
    module = nn.ModuleDict(parts)
    module["decoder"].weight = module["encoder"].weight
    save_model(module, str(tmp_path / "tied.safetensors"))
    tensors = fastrnn.read_checkpoint(tmp_path / "tied.safetensors")
    assert tensors.keys() == module.state_dict().keys()
    model = LanguageModel.from_state_dict(tensors)
    assert model.tie_weights
    for name, tensor in module.state_dict().items():
        assert np.array_equal(tensors[name], tensor.numpy())
