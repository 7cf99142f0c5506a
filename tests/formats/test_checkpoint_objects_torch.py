"""Modules, TorchScript archives and objects beside the weights, as PyTorch itself writes them."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import pickle
import random
import sys
import types
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastrnn.formats import open_checkpoint, read_checkpoint

torch = pytest.importorskip("torch")


class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Everything that decides about the names of a state_dict."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.enc, self.dec = nn.Embedding(5, 4), nn.Linear(4, 5)
        self.dec.weight = self.enc.weight
        self.rnn = nn.LSTM(4, 4, 2, bidirectional=True)
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.register_buffer("table", torch.ones(3))
        self.register_buffer("none", None)
        self.register_parameter("absent", None)
        self.blocks = nn.ModuleList([nn.Linear(2, 2)] * 3)
        self.several = nn.ParameterList([torch.ones(1), torch.ones(2)])
        self.named = nn.ParameterDict({"a": torch.ones(2)})
        self.norm = nn.BatchNorm1d(3)
        self.own, self.apart = torch.ones(7), [nn.Linear(1, 1)]
        self.activation = torch.tanh

    def forward(self, x: Any) -> Any:
        return self.activation(self.dec(self.rnn(self.enc(x))[0][..., :4]))


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_a_pickled_module_has_the_names_of_its_state_dict(
    tmp_path: Path, protocol: int, zipped: bool
) -> None:
    net = Net()
    torch.save(
        net, tmp_path / "net", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
    )
    found = open_checkpoint(tmp_path / "net")
    assert_same(found.tensors, net.state_dict())
    assert np.shares_memory(found.tensors["enc.weight"], found.tensors["dec.weight"])
    assert "getattr" in found.skipped["activation"]


@pytest.mark.parametrize("protocol", range(6))
def test_tensors_that_pickle_alone_wrote_are_read(tmp_path: Path, protocol: int) -> None:
    net = Net()
    for value in (net, net.state_dict()):
        (tmp_path / "net.pkl").write_bytes(pickle.dumps(value, protocol))
        assert_same(read_checkpoint(tmp_path / "net.pkl"), net.state_dict())


def test_a_list_of_model_loss_and_optimiser_is_the_model(tmp_path: Path) -> None:
    net = Net()
    adam = torch.optim.Adam(net.parameters())
    torch.save([net, torch.nn.CrossEntropyLoss(), adam], tmp_path / "net")
    assert_same(read_checkpoint(tmp_path / "net"), net.state_dict())


class Scripted(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A module that TorchScript compiles, with tensors that its state_dict has not."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = torch.nn.GRU(2, 3), torch.nn.Linear(3, 2)
        self.again, self.norm = self.head, torch.nn.BatchNorm1d(2)
        self.register_buffer("table", torch.ones(3))
        self.names: list[str] = ["a", "b"]
        self.own, self.several = torch.ones(4), [torch.ones(1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0]) + self.table[0] + self.own[0] + self.several[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["script", "trace"])
def test_a_torchscript_archive_has_the_names_of_its_state_dict(tmp_path: Path, way: str) -> None:
    net, x = Scripted(), torch.ones(2, 1, 2)
    made = torch.jit.script(net) if way == "script" else torch.jit.trace(net, x)
    made.save(str(tmp_path / "net.pt"))
    found = open_checkpoint(tmp_path / "net.pt")
    assert found.format == "torchscript"
    assert_same(found.tensors, torch.jit.load(str(tmp_path / "net.pt")).state_dict())
    assert_same(found.tensors, net.state_dict())


@pytest.mark.filterwarnings("ignore")
def test_the_float_layers_beside_quantised_ones_are_read(tmp_path: Path) -> None:
    nn = torch.nn
    model = nn.Sequential(nn.LSTM(2, 3), nn.Linear(3, 2), nn.GRU(2, 2))
    mixed = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear})
    expected = {f"2.{name}": value for name, value in model[2].state_dict().items()}
    for value in (mixed, mixed.state_dict()):
        torch.save(value, tmp_path / "net")
        found = open_checkpoint(tmp_path / "net")
        tensors = {name: found.tensors[name] for name in found.tensors if name[0] == "2"}
        assert_same(tensors, expected)
        advice = [what for what in found.skipped.values() if "float model" in what]
        assert len(advice) >= 2


# ---- objects beside the weights ---------------------------------------------------------------


class Mode(enum.Enum):
    FAST = 1


class Point(NamedTuple):
    x: int


@dataclasses.dataclass
class Options:
    rate: float = 0.5


class Mapping(dict):  # type: ignore[type-arg]
    """A dictionary of a project's own."""


class Stop:
    """A callback, also by its class."""

    def __init__(self) -> None:
        self.wait = 3


def strangers() -> dict[str, Any]:
    layer = torch.nn.LSTM(3, 4)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.zeros(2, 1, 3))[0].sum().backward()
    adam.step()
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 1.0, total_steps=10)
    return {
        "version": torch.__version__, "anneal": torch.optim.lr_scheduler.OneCycleLR._annealing_cos,
        "bound": cycle.get_lr, "scheduler": cycle.state_dict(), "cycle": cycle, "adam": adam,
        "optimizer": adam.state_dict(), "partial": functools.partial(int, base=2),
        "relu": torch.nn.ReLU, "function": torch.nn.functional.relu, "mode": Mode.FAST,
        "point": Point(1), "options": Options(), "mapping": Mapping(a=1), "stop": Stop(),
        "callbacks": {Stop: {"wait": 3}, "x": [Stop()]}, "dtype": torch.float32,
        "float32": np.float32, "numpy": np.dtype("f4"), "type": torch.FloatTensor,
        "size": torch.Size([2, 3]), "device": torch.device("cpu"), "range": range(3),
        "default": collections.defaultdict(list, a=[1]), "counter": collections.Counter("ab"),
        "deque": collections.deque([1]), "set": {1, 2}, "frozen": frozenset({3}), "complex": 1j,
        "bytes": b"ab", "bytearray": bytearray(b"ab"), "date": datetime.datetime(2020, 1, 1),
        "delta": datetime.timedelta(1), "path": pathlib.Path("a"), "uuid": uuid.UUID(int=1),
        "namespace": argparse.Namespace(lr=1, layers={1}), "simple": types.SimpleNamespace(a=1),
        "decimal": decimal.Decimal("0.1"), "fraction": fractions.Fraction(1, 3),
        "slice": slice(1, 2), "array": np.ones(3), "scalar": np.float64(0.5), "text": np.str_("a"),
        "random": random.getstate(), "numpy_random": np.random.get_state(),
        "generator": np.random.default_rng(0), "torch_random": torch.get_rng_state(),
        "sparse": torch.eye(2).to_sparse(), "meta": torch.empty(2, device="meta"),
        "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "linear": torch.nn.Linear, "int": int, "error": ValueError("x"), "none": None,
        "int8": torch.int8, "layout": torch.strided,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_objects_in_random_places_never_sink_the_weights(
    tmp_path: Path, protocol: int, zipped: bool
) -> None:
    chance, expected = random.Random(protocol), torch.nn.LSTM(3, 4).state_dict()
    every = strangers()
    modules: set[str] = set()
    for _ in range(25):
        chosen = chance.sample(list(every), 6)
        inside, beside = {}, {}
        for name in chosen[:2]:
            inside[name] = every[name]
        for name in chosen[2:]:
            beside[name] = chance.choice([every[name], [every[name]], {"deep": (every[name],)}])
        entries = [("state_dict", dict(expected) | inside), *beside.items()]
        chance.shuffle(entries)
        torch.save(
            dict(entries), tmp_path / "x",
            pickle_protocol=protocol, _use_new_zipfile_serialization=zipped,
        )  # fmt: skip
        modules = modules or set(sys.modules)
        found = open_checkpoint(tmp_path / "x")
        kept = {name: found.tensors[name] for name in expected}
        assert_same(kept, expected)
        rest = set(found.tensors) - set(expected)
        assert rest <= {"torch_random"}  # a tensor where tensors are
        assert set(chosen) - rest <= set(found.skipped)
    assert set(sys.modules) - modules <= {"torch._dynamo"}


@pytest.mark.filterwarnings("ignore")
def test_every_object_is_named(tmp_path: Path) -> None:
    expected = torch.nn.LSTM(3, 4).state_dict()
    for name, value in strangers().items():
        for key in ("x", name):
            torch.save({"state_dict": expected, key: value}, tmp_path / "x")
            found = open_checkpoint(tmp_path / "x")
            assert_same(found.tensors, expected)
            assert key in found.skipped, name


def test_a_sibling_of_the_model_comes_under_its_own_name(tmp_path: Path) -> None:
    nn = torch.nn
    model = {f"encoder.{k}": v for k, v in nn.LSTM(3, 4).state_dict().items()}
    head = nn.Linear(4, 9)
    for beside in (head.state_dict(), head):
        torch.save({"model": model, "generator": beside, "epoch": 3}, tmp_path / "x")
        expected = model | {f"generator.{k}": v for k, v in head.state_dict().items()}
        assert_same(read_checkpoint(tmp_path / "x"), expected)
        assert_same(read_checkpoint(tmp_path / "x", "generator"), head.state_dict())
        whole = read_checkpoint(tmp_path / "x", ())
        assert list(whole) == [f"model.{k}" for k in model] + ["generator.weight", "generator.bias"]
