"""Objects beside the weights: the tensors are found, the objects are named, nothing is run."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pickles import archive, call, legacy, mapping, named, numbers, opened, tensor, text, whole

from fastrnn.formats import format_inspection, inspect_checkpoint

FILES = 250


class Canary:
    """A class that notes whatever is done with it."""

    calls: tuple[str, ...] = ()

    def __new__(cls, *args: Any) -> Canary:
        Canary.calls += ("new",)
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        Canary.calls += ("setstate",)

    def append(self, item: Any) -> None:
        Canary.calls += ("append",)

    def __setitem__(self, key: Any, item: Any) -> None:
        Canary.calls += ("setitem",)

    def __hash__(self) -> int:
        Canary.calls += ("hash",)
        return 0


# ---- the ways in which a pickle makes an object, each for any class ---------------------------

STATE = b"}" + text("lr") + b"G?\xb9\x99\x99\x99\x99\x99\x9as"


def on_stack(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def ways(module: str, name: str) -> list[bytes]:
    """REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST, and what may follow them."""
    kind = named(module, name)
    return [
        kind,
        on_stack(module, name),
        kind + b")R",
        kind + b")R" + STATE + b"b",
        kind + b")\x81" + STATE + b"N\x86b",
        kind + b"(K\x01t" + STATE + b"\x92",
        b"(" + kind + text("x") + b"o",
        b"(" + text("x") + b"i" + kind[1:],
        kind + b")R(K\x01K\x02e",
        kind + b")RK\x01a",
        kind + b")R(K\x01K\x02u",
        kind + b")RK\x01K\x02s",
        kind + b")\x81(K\x01K\x02\x90",
        kind + b")R)R",
        call("copyreg", "_reconstructor", kind, named("builtins", "object"), b"N") + STATE + b"b",
        call("copy_reg", "_reconstructor", kind, named("__builtin__", "dict"), STATE),
        call("copyreg", "__newobj__", kind, whole(7)),
        call("builtins", "getattr", kind, text("run")),
        call("functools", "partial", kind) + b"(" + kind + b")}Ntb",
    ]


CLASSES = [
    (__name__, "Canary"), ("os", "system"), ("posix", "system"), ("builtins", "eval"),
    ("__builtin__", "exec"), ("subprocess", "Popen"), ("functools", "partial"),
    ("torch.torch_version", "TorchVersion"), ("torch.optim.adam", "Adam"),
    ("torch.optim.lr_scheduler", "OneCycleLR._annealing_cos"),
    ("torch.nn.modules.activation", "ReLU"), ("torch", "FloatTensor"), ("torch", "device"),
    ("torch._utils", "_rebuild_sparse_tensor"), ("torch._utils", "_rebuild_qtensor"),
    ("torch", "ScriptObject"), ("torch.cuda.amp.grad_scaler", "GradScaler"),
    ("numpy", "float32"), ("numpy.random._pickle", "__randomstate_ctor"), ("numpy", "str_"),
    ("numpy.ma.core", "_mareconstruct"), ("random", "Random"), ("collections", "deque"),
    ("builtins", "range"), ("__builtin__", "xrange"), ("builtins", "complex"),
    ("builtins", "slice"), ("datetime", "datetime"), ("datetime", "timedelta"),
    ("pathlib", "PosixPath"), ("pathlib._local", "WindowsPath"), ("argparse", "Namespace"),
    ("types", "SimpleNamespace"), ("decimal", "Decimal"), ("fractions", "Fraction"),
    ("uuid", "UUID"), ("enum", "Flag"), ("project.config", "Mode"), ("project.config", "Options"),
    ("project.data", "Point"), ("project.train", "Trainer.<locals>.<lambda>"),
    ("pytorch_lightning.callbacks", "ModelCheckpoint"), ("lightning.fabric.utilities.data",
    "AttributeDict"), ("omegaconf.dictconfig", "DictConfig"), ("sklearn.preprocessing", "Scaler"),
    ("pandas.core.frame", "DataFrame"), ("transformers", "PreTrainedTokenizer"),
    ("logging", "getLogger"), ("weakref", "ref"), ("not a module", "not a name"),
    ("zoneinfo", "ZoneInfo._unpickle"), ("ipaddress", "IPv4Address"),
]  # fmt: skip


def full_name(module: str, name: str) -> str:
    module = {"__builtin__": "builtins"}.get(module, module)
    return f"{module}.{'range' if name == 'xrange' else name}"


def placed(chance: random.Random, strangers: list[bytes]) -> bytes:
    """A checkpoint's object with the strangers in random places around and inside the weights."""
    weights = {"rnn.w": tensor(), "rnn.b": tensor(shape=numbers(3), strides=numbers(1))}
    inside: list[bytes] = [text(name) + value for name, value in weights.items()]
    beside: list[bytes] = []
    dropped = b""
    for place, stranger in enumerate(strangers):
        key = text(f"x{place}")
        kind = chance.randrange(9)
        if kind == 0:
            beside.append(key + stranger)
        elif kind == 1:
            beside.append(key + b"}(" + text("deep") + b"](" + stranger + b"K\x01eu")
        elif kind == 2:
            beside.append(key + b"}(" + stranger + b"K\x01u")  # a key of a dictionary
        elif kind == 3:
            beside.append(stranger + text("value"))  # a key of the file's own dictionary
        elif kind == 4:
            inside.append(key + stranger)
        elif kind == 5:
            inside.append(stranger + b"K\x05")
        elif kind == 6:
            beside.append(key + b"(" + stranger + b"q\x05h\x05" + text("t") + b"t")  # shared
        elif kind == 7:
            beside.append(key + b"]" * 50 + stranger + b"a" * 50)
        else:
            dropped += stranger + b"0"
    for entries in (inside, beside):
        chance.shuffle(entries)
    wrapped = text(chance.choice(["state_dict", "model", "net"])) + b"}(" + b"".join(inside) + b"u"
    beside.insert(chance.randrange(len(beside) + 1), wrapped)
    return dropped + b"}(" + b"".join(beside) + b"u"


@pytest.fixture
def nothing_runs(tmp_path: Path) -> Iterator[None]:
    """Asserts that no module was imported and that the canary lived undisturbed."""
    opened(tmp_path, archive(mapping(w=tensor())))
    modules, Canary.calls = set(sys.modules), ()
    yield
    assert set(sys.modules) == modules
    assert Canary.calls == ()


@pytest.mark.usefixtures("nothing_runs")
def test_the_weights_are_found_and_the_strangers_named_wherever_they_are(tmp_path: Path) -> None:
    chance = random.Random(9)
    for _ in range(FILES):
        chosen = chance.sample(CLASSES, chance.randrange(1, 6))
        body = placed(chance, [chance.choice(ways(*kind)) for kind in chosen])
        found = opened(tmp_path, chance.choice([archive, legacy])(body))
        assert list(found.tensors) in (["rnn.w", "rnn.b"], ["rnn.b", "rnn.w"])
        report = "\n".join(f"{name}: {what}" for name, what in found.skipped.items())
        for kind in chosen:
            assert full_name(*kind) in report


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("kind", CLASSES, ids=".".join)
def test_every_stranger_in_every_way_is_inert(tmp_path: Path, kind: tuple[str, str]) -> None:
    for made in ways(*kind):
        found = opened(tmp_path, archive(mapping(w=tensor(), x=made)))
        assert list(found.tensors) == ["w"]
        assert full_name(*kind) in str(found.skipped)


def test_the_canary_would_sing_in_an_ordinary_reader() -> None:
    import pickle

    Canary.calls = ()
    pickle.loads(b"\x80\x02" + ways(__name__, "Canary")[3] + b".")
    assert Canary.calls == ("new", "setstate")


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (b"C\x03abc", "bytes of 3"),
        (call("builtins", "bytearray", b"C\x03abc"), "bytes of 3"),
        (call("_codecs", "encode", text("\u00e9"), text("latin1")), "bytes of 1"),
        (call("__builtin__", "set", b"](K\x01e"), "object (builtins.set(list of 1))"),
        (b"\x8f(K\x01\x90", "object (builtins.set)"),
        (b"(K\x01\x91", "object (builtins.frozenset)"),
        (call("torch", "Size", b"(K\x02K\x03t"), "tuple of 2"),
        (named("torch", "bfloat16"), "object (torch.bfloat16)"),
        (call("collections", "Counter", b"}"), "dictionary with 0 tensors"),
        (call("collections", "defaultdict", named("__builtin__", "list")),
         "dictionary with 0 tensors"),
        (call("builtins", "complex", b"K\x01K\x02"), "object (builtins.complex(1, 2))"),
        (call("numpy._core.multiarray", "scalar",
              call("numpy", "dtype", text("f8"), b"\x89\x88"), b"C\x08" + bytes(6) + b"\xe0\x3f"),
         "float 0.5"),
        (call("torch.serialization", "_get_layout", text("torch.strided")),
         "object (torch.serialization._get_layout('torch.strided'))"),
    ],
)  # fmt: skip
def test_what_is_skipped_is_described(tmp_path: Path, made: bytes, what: str) -> None:
    assert opened(tmp_path, archive(mapping(w=tensor(), x=made))).skipped == {"x": what}


def test_strangers_inside_entries_are_named_by_their_path(tmp_path: Path) -> None:
    state = mapping(best=call("project", "Score"), seen=b"](" + call("project", "Seen") + b"e")
    callbacks = b"}(" + named("project", "Stop") + state + b"u"
    body = mapping(
        model=mapping(w=tensor(), odd=call("project", "Odd")),
        callbacks=callbacks,
        loader=named("project", "Loader") + b")R" + mapping(dataset=call("project", "Data")) + b"b",
    )
    assert opened(tmp_path, archive(body)).skipped == {
        "odd": "object (project.Odd)",
        "callbacks": "dictionary with 0 tensors",
        "callbacks.[object (project.Stop)]": "object (project.Stop)",
        "callbacks.[object (project.Stop)].best": "object (project.Score)",
        "callbacks.[object (project.Stop)].seen.0": "object (project.Seen)",
        "loader": "object (project.Loader)",
        "loader.dataset": "object (project.Data)",
    }


def test_a_name_that_the_pickle_drops_is_reported(tmp_path: Path) -> None:
    body = named("project", "Gone") + b"0" + mapping(w=tensor())
    found = opened(tmp_path, archive(body))
    assert found.skipped == {"[project.Gone]": "a name that the pickle drops"}


def test_entries_of_one_name_are_all_reported(tmp_path: Path) -> None:
    body = b"}(" + text("w") + tensor() + (b"K\x01K\x02\x86" + text("v")) * 3 + b"u"
    found = opened(tmp_path, archive(body))
    assert list(found.skipped) == ["[(1, 2)]", "[(1, 2)] (2)", "[(1, 2)] (3)"]


def test_inspection_shows_the_strangers(tmp_path: Path) -> None:
    opened(tmp_path, archive(mapping(w=tensor(), x=call("project", "Odd", text("\x1b[2J")))))
    info = inspect_checkpoint(tmp_path / "file.pt")
    assert r"x: object (project.Odd('\x1b[2J'))" in format_inspection(info)


def test_more_strangers_than_anybody_reads_are_counted(tmp_path: Path) -> None:
    many = b"](" + call("project", "Odd") * 1500 + b"e"
    found = opened(tmp_path, archive(mapping(w=tensor(), x=many)))
    assert len(found.skipped) == 1001
    assert "500 more objects were skipped than are named" in found.notes
