"""Hard sigmoid gates against loops written with PyTorch's float64, outputs and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn

torch = pytest.importorskip("torch")

ALPHA, BETA = 0.25, 0.5  # exact in float32
STEPS, ROWS, INPUTS, UNITS = 5, 3, 4, 6


def gate(a: Any) -> Any:
    return torch.clamp(ALPHA * a + BETA, 0.0, 1.0)


def lstm(x: Any, w: dict[str, Any]) -> Any:
    h = c = torch.zeros(ROWS, UNITS, dtype=torch.float64)
    ys = []
    for x_t in x:
        a = x_t @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        i, f, g, o = a.split(UNITS, 1)
        p_i, p_f, p_o = w["weight_ch_l0"].split(UNITS) if "weight_ch_l0" in w else (0.0, 0.0, 0.0)
        c = gate(f + p_f * c) * c + gate(i + p_i * c) * torch.tanh(g)
        h = gate(o + p_o * c) * torch.tanh(c)
        ys.append(h)
    return torch.stack(ys)


def gru(x: Any, w: dict[str, Any], reset: str) -> Any:
    h = torch.zeros(ROWS, UNITS, dtype=torch.float64)
    u_r, u_z, u_n = w["weight_hh_l0"].split(UNITS)
    b_r, b_z, b_n = w["bias_hh_l0"].split(UNITS)
    ys = []
    for x_t in x:
        x_r, x_z, x_n = (x_t @ w["weight_ih_l0"].T + w["bias_ih_l0"]).split(UNITS, 1)
        r, z = gate(x_r + h @ u_r.T + b_r), gate(x_z + h @ u_z.T + b_z)
        n = r * (h @ u_n.T + b_n) if reset == "after" else (r * h) @ u_n.T + b_n
        h = z * h + (1 - z) * torch.tanh(x_n + n)
        ys.append(h)
    return torch.stack(ys)


def rnn(x: Any, w: dict[str, Any]) -> Any:
    h = torch.zeros(ROWS, UNITS, dtype=torch.float64)
    ys = []
    for x_t in x:
        a = x_t @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        h = gate(a)
        ys.append(h)
    return torch.stack(ys)


CASES = {
    "lstm": (fastrnn.LSTM, {}, lstm),
    "lstm_peephole": (fastrnn.LSTM, {"peephole": True}, lstm),
    "gru": (fastrnn.GRU, {}, lambda x, w: gru(x, w, "after")),
    "gru_reset_before": (fastrnn.GRU, {"reset": "before"}, lambda x, w: gru(x, w, "before")),
    "rnn": (fastrnn.RNN, {"nonlinearity": "sigmoid"}, rnn),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_pytorch_s(name):
    kind, options, run = CASES[name]
    rng = np.random.default_rng(11)
    layer = kind(INPUTS, UNITS, recurrent_activation=("hard_sigmoid", ALPHA, BETA), **options)
    layer.flat[:] = rng.uniform(-1.5, 1.5, layer.flat.shape)  # some gates are 0, some are 1
    layer.repack()
    x = rng.standard_normal((STEPS, ROWS, INPUTS), dtype=np.float32)
    dy = rng.standard_normal((STEPS, ROWS, UNITS), dtype=np.float32)
    w = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True)
         for k, v in layer.state_dict().items()}  # fmt: skip
    x64 = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = run(x64, w)
    wanted.backward(torch.tensor(dy, dtype=torch.float64))
    (y, _), pullback = layer.vjp(x)
    dx, _ = pullback(dy)
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(dx, x64.grad.numpy(), rtol=2e-4, atol=2e-4)
    for key, gradient in layer.grads.items():
        np.testing.assert_allclose(gradient, w[key].grad.numpy(), rtol=2e-4, atol=2e-4)
