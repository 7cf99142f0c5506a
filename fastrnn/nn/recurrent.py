"""The recurrent layers and their single-step cells, with PyTorch's names, arguments and layouts.

Letters: T steps, N rows, I inputs, H units, R = proj_size or H, D directions, L layers.
Layers take x (T, N, I), or (N, T, I) with batch_first, or (T, I) for one row, or a packed batch;
they give y of the same layout with D * R features (R with merge="sum"). States are (L * D, N, R)
and for an LSTM's c (L * D, N, H), never batch-first, without N for one row, zeros by default.
`lengths` (N,) holds ints from 0 to T in any order: steps past a row's end are skipped, y is 0
there, and the last states are the row's own. Wrong shapes and types are a ValueError or TypeError.
"""

from __future__ import annotations

from typing import Any, overload

from fastrnn import _core
from fastrnn._arrays import ArrayLike, FloatArray, as_choice, as_flag, shown
from fastrnn.nn.gate_activation import GateActivation
from fastrnn.nn.packed import PackedSequence
from fastrnn.nn.recurrent_base import Cell, Recurrent
from fastrnn.nn.registry import registered

_NONLINEARITIES = tuple(c.name.removeprefix("rnn_") for c in _core.cells() if c.family == "RNN")
_RESETS = {"after": "gru", "before": "gru_reset_before"}
_PEEPHOLES = {False: "lstm", True: "lstm_peephole"}


class _HiddenLayer(Recurrent):
    """A layer whose state is h alone."""

    @overload
    def __call__(
        self,
        x: PackedSequence,
        h_0: ArrayLike | None = None,
        *,
        lengths: None = None,
        hx: ArrayLike | None = None,
    ) -> tuple[PackedSequence, FloatArray]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        h_0: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        hx: ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray]: ...
    def __call__(
        self,
        x: ArrayLike,
        h_0: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        hx: ArrayLike | None = None,
    ) -> Any:
        """y and h_n of a whole sequence, started from h_0; shapes as the class says."""
        return self._stack.forward(
            self, "h_0", x, h_0, hx, lengths, self.batch_first, self._first_state
        )


@registered
class RNN(_HiddenLayer):
    """h = act(W_ih x + b_ih + W_hh h' + b_hh); act: tanh, relu, sigmoid or identity.

    RNN(input_size, hidden_size, ...): I features in, H units, ints from 1 to 2**20.
    num_layers: L layers on top of each other, 1 to 1024. nonlinearity: the name of act.
    bias: whether there are b_ih and b_hh. batch_first: x and y are (N, T, *), not (T, N, *).
    dropout: the share of every layer's y but the last's that is zeroed, in training only.
    bidirectional: D = 2, a second direction reads from the end; merge: "concat" or "sum" of both.
    learned_state: a parameter h_0 (L * D, H), zeros at first, for a state that is not given.
    recurrent_activation: with nonlinearity="sigmoid" what stands for it, as in `LSTM`.

    y, h_n = rnn(x, h_0=None, *, lengths=None)
    x: (T, N, I), (N, T, I) if batch_first, (T, I) for one row, or a PackedSequence of (*, I).
    h_0: (L * D, N, H), (L * D, H) for one row, zeros by default; PyTorch's name hx= is taken too.
    lengths: (N,) ints from 0 to T in any order; steps past a row's end are skipped, y is 0 there.
    y: laid out like x, with D * H features (H if merge="sum"); h_n: shaped like h_0, each row's
    own last state. Wrong shapes are a ValueError, wrong types a TypeError.

    `parameters`: the tensors by PyTorch's names, views into `flat`; after writing, call `repack()`.
    Source: torch.nn.RNN; sigmoid, identity, `merge`, `learned_state` and
    `recurrent_activation` are ours.
    """

    _family = "RNN"
    _options = (*Recurrent._options, "nonlinearity", "recurrent_activation")
    _gates = "n"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        merge: str = "concat",
        learned_state: bool = False,
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        self.nonlinearity = as_choice(nonlinearity, "nonlinearity", _NONLINEARITIES)
        _check_sigmoid(nonlinearity, recurrent_activation)
        cell = f"rnn_{nonlinearity}"
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            merge, learned_state=learned_state, recurrent_activation=recurrent_activation,
        )  # fmt: skip


@registered
class LSTM(Recurrent):
    """Long short-term memory: gates i f g o, c = f c' + i g, h = o tanh(c), or W_hr times that.

    LSTM(input_size, hidden_size, ...): I features in, H units, ints from 1 to 2**20.
    num_layers: L layers on top of each other, 1 to 1024. bias: whether there are b_ih and b_hh.
    batch_first: x and y are (N, T, *), not (T, N, *).
    dropout: the share of every layer's y but the last's that is zeroed, in training only.
    bidirectional: D = 2, a second direction reads from the end; merge: "concat" or "sum" of both.
    proj_size: h is projected to R = proj_size < H values; 0 for none, then R = H.
    peephole: i and f also see c', o sees c, through weight_ch_l{k} (3*H,) in the order i f o.
    learned_state: parameters h_0 (L * D, R), c_0 (L * D, H), zeros at first, for a state that is
    not given.
    recurrent_activation: of the gates i, f and o: "sigmoid", or ("hard_sigmoid", alpha, beta) for
    max(0, min(1, alpha x + beta)), with 0.2 and 0.5 in ONNX and Keras 2; "hard_sigmoid" stands
    for 1/6 and 0.5, as in Keras 3 and torch.nn.Hardsigmoid.

    y, (h_n, c_n) = lstm(x, (h_0, c_0)=None, *, lengths=None)
    x: (T, N, I), (N, T, I) if batch_first, (T, I) for one row, or a PackedSequence of (*, I).
    h_0: (L * D, N, R), c_0: (L * D, N, H), without N for one row; both or neither (zeros);
    PyTorch's name hx= is taken too.
    lengths: (N,) ints from 0 to T in any order; steps past a row's end are skipped, y is 0 there.
    y: laid out like x, with D * R features (R if merge="sum"); h_n, c_n: shaped like h_0, c_0,
    each row's own last state. Wrong shapes are a ValueError, wrong types a TypeError.

    `parameters`: the tensors by PyTorch's names, views into `flat`; after writing, call `repack()`.
    Source: torch.nn.LSTM; peepholes: Gers and Schmidhuber 2000; `merge`, `learned_state` and
    `recurrent_activation` are ours.
    """

    _family = "LSTM"
    _options = (
        "input_size",
        "hidden_size",
        "proj_size",
        *Recurrent._options[2:],
        "peephole",
        "recurrent_activation",
    )
    _gates = "ifgo"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        peephole: bool = False,
        merge: str = "concat",
        learned_state: bool = False,
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        self.peephole = as_flag(peephole, "peephole")
        cell = _PEEPHOLES[self.peephole]
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            merge, proj_size, learned_state, recurrent_activation,
        )  # fmt: skip

    @overload
    def __call__(
        self,
        x: PackedSequence,
        state: ArrayLike | None = None,
        *,
        lengths: None = None,
        hx: ArrayLike | None = None,
    ) -> tuple[PackedSequence, tuple[FloatArray, FloatArray]]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        state: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        hx: ArrayLike | None = None,
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]: ...
    def __call__(
        self,
        x: ArrayLike,
        state: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        hx: ArrayLike | None = None,
    ) -> Any:
        """y and (h_n, c_n) of a whole sequence, started from state, the pair (h_0, c_0)."""
        return self._stack.forward(
            self, "state", x, state, hx, lengths, self.batch_first, self._first_state
        )


@registered
class GRU(_HiddenLayer):
    """Gated recurrent unit: gates r z n, h = (1 - z) n + z h'.

    GRU(input_size, hidden_size, ...): I features in, H units, ints from 1 to 2**20.
    num_layers: L layers on top of each other, 1 to 1024. bias: whether there are b_ih and b_hh.
    batch_first: x and y are (N, T, *), not (T, N, *).
    dropout: the share of every layer's y but the last's that is zeroed, in training only.
    bidirectional: D = 2, a second direction reads from the end; merge: "concat" or "sum" of both.
    reset="after": n = tanh(W_in x + b_in + r (W_hn h' + b_hn)), as PyTorch and cuDNN;
    reset="before": n = tanh(W_in x + b_in + W_hn (r h') + b_hn), as Cho et al. 2014.
    learned_state: a parameter h_0 (L * D, H), zeros at first, for a state that is not given.
    recurrent_activation: of the gates r and z, as in `LSTM`.

    y, h_n = gru(x, h_0=None, *, lengths=None)
    x: (T, N, I), (N, T, I) if batch_first, (T, I) for one row, or a PackedSequence of (*, I).
    h_0: (L * D, N, H), (L * D, H) for one row, zeros by default; PyTorch's name hx= is taken too.
    lengths: (N,) ints from 0 to T in any order; steps past a row's end are skipped, y is 0 there.
    y: laid out like x, with D * H features (H if merge="sum"); h_n: shaped like h_0, each row's
    own last state. Wrong shapes are a ValueError, wrong types a TypeError.

    `parameters`: the tensors by PyTorch's names, views into `flat`; after writing, call `repack()`.
    Source: torch.nn.GRU; `reset`, `merge`, `learned_state` and `recurrent_activation` are ours.
    """

    _family = "GRU"
    _options = (*Recurrent._options, "reset", "recurrent_activation")
    _gates = "rzn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset: str = "after",
        merge: str = "concat",
        learned_state: bool = False,
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        self.reset = as_choice(reset, "reset", tuple(_RESETS))
        cell = _RESETS[reset]
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            merge, learned_state=learned_state, recurrent_activation=recurrent_activation,
        )  # fmt: skip


@registered
class LiGRU(_HiddenLayer):
    """Light gated recurrent unit: update gate z, no reset, h = (1 - z) n + z h', n by ReLU.

    z = sigmoid(W_iz x + b_iz + W_hz h' + b_hz), n = max(0, W_in x + b_in + W_hn h' + b_hn).

    LiGRU(input_size, hidden_size, ...): I features in, H units, ints from 1 to 2**20.
    num_layers: L layers on top of each other, 1 to 1024. bias: whether there are b_ih and b_hh.
    batch_first: x and y are (N, T, *), not (T, N, *).
    dropout: the share of every layer's y but the last's that is zeroed, in training only.
    bidirectional: D = 2, a second direction reads from the end; merge: "concat" or "sum" of both.
    learned_state: a parameter h_0 (L * D, H), zeros at first, for a state that is not given.
    recurrent_activation: of the gate z, as in `LSTM`.

    y, h_n = ligru(x, h_0=None, *, lengths=None)
    x: (T, N, I), (N, T, I) if batch_first, (T, I) for one row, or a PackedSequence of (*, I).
    h_0: (L * D, N, H), (L * D, H) for one row, zeros by default; hx= is taken too.
    lengths: (N,) ints from 0 to T in any order; steps past a row's end are skipped, y is 0 there.
    y: laid out like x, with D * H features (H if merge="sum"); h_n: shaped like h_0, each row's
    own last state. Wrong shapes are a ValueError, wrong types a TypeError.

    `parameters`: named as a GRU's, rows of z first and then those of n (2*H, *), views into `flat`;
    after writing, call `repack()`. The ReLU does not bound h: keep the weights small.
    Source: Ravanelli, Brakel, Omologo and Bengio 2018, Light Gated Recurrent Units for Speech
    Recognition; its batch normalisation is left out, and weights and biases can take in a trained
    one.
    """

    _family = "LiGRU"
    _options = (*Recurrent._options, "recurrent_activation")
    _gates = "zn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        merge: str = "concat",
        learned_state: bool = False,
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        super().__init__(
            "light_gru", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, merge, learned_state=learned_state,
            recurrent_activation=recurrent_activation,
        )  # fmt: skip


class _HiddenCell(Cell):
    """A cell whose state is h alone."""

    def __call__(
        self, x: ArrayLike, h: ArrayLike | None = None, *, hx: ArrayLike | None = None
    ) -> FloatArray:
        """The next h; PyTorch's name hx= for h is taken too."""
        h_n: FloatArray = self._stack.forward(self, "h", x, h, hx)
        return h_n


@registered
class RNNCell(_HiddenCell):
    """One step of an RNN: x (N, I) or (I,), h (N, H) or (H,) -> h. Source: torch.nn.RNNCell."""

    _family = "RNNCell"
    _options = (*Cell._options, "nonlinearity", "recurrent_activation")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        self.nonlinearity = as_choice(nonlinearity, "nonlinearity", _NONLINEARITIES)
        _check_sigmoid(nonlinearity, recurrent_activation)
        super().__init__(f"rnn_{nonlinearity}", input_size, hidden_size, bias, recurrent_activation)

    def __repr__(self) -> str:
        return super().__repr__().replace("'", "")  # as torch.nn.RNNCell's, without quotes


@registered
class LSTMCell(Cell):
    """One step of an LSTM: x (N, I) or (I,), (h, c) each (N, H) or (H,) -> (h, c).

    Source: torch.nn.LSTMCell; `peephole` and `recurrent_activation` as in `LSTM`.
    """

    _family = "LSTMCell"
    _options = (*Cell._options, "peephole", "recurrent_activation")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        peephole: bool = False,
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        self.peephole = as_flag(peephole, "peephole")
        cell = _PEEPHOLES[self.peephole]
        super().__init__(cell, input_size, hidden_size, bias, recurrent_activation)

    def __call__(
        self, x: ArrayLike, state: ArrayLike | None = None, *, hx: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """The next (h, c); PyTorch's name hx= for the state is taken too."""
        last: tuple[FloatArray, FloatArray] = self._stack.forward(self, "state", x, state, hx)
        return last


@registered
class GRUCell(_HiddenCell):
    """One step of a GRU: x (N, I) or (I,), h (N, H) or (H,) -> h.

    Source: torch.nn.GRUCell; `reset` and `recurrent_activation` as in `GRU`.
    """

    _family = "GRUCell"
    _options = (*Cell._options, "reset", "recurrent_activation")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset: str = "after",
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        self.reset = as_choice(reset, "reset", tuple(_RESETS))
        super().__init__(_RESETS[reset], input_size, hidden_size, bias, recurrent_activation)


# Every family of the core has a layer of its name here; the one with the most gates comes first.
LAYERS = {family.lower(): globals()[family] for family in _core.families()}


def _check_sigmoid(nonlinearity: str, recurrent_activation: object) -> None:
    """An RNN has no gates: what stands for a sigmoid needs one that it could stand for."""
    if nonlinearity != "sigmoid" and recurrent_activation != "sigmoid":
        raise ValueError(
            f"recurrent_activation is {shown(recurrent_activation)}, expected one only with "
            f'nonlinearity="sigmoid", got nonlinearity={nonlinearity!r}'
        )
