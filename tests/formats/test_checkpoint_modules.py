"""Pickled modules and TorchScript archives are data; their names are those of state_dict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paths import GOLDEN
from pickles import archive, call, mapping, named, numbers, opened, tensor, text, zipped

from fastrnn.formats import CheckpointError, open_checkpoint

SET = b"\x8f("


def module(
    name: str = "Net",
    parameters: bytes = b"}",
    buffers: bytes = b"}",
    modules: bytes = b"}",
    passing: bytes | None = b"\x8f",
    **attributes: bytes,
) -> bytes:
    """A pickled `torch.nn.Module` of a project's own class."""
    state = {"training": b"\x88", "_parameters": parameters, "_buffers": buffers}
    if passing is not None:
        state["_non_persistent_buffers_set"] = passing
    state |= {"_modules": modules, **attributes}
    return named("project", name) + b")\x81" + mapping(**state) + b"b"


def test_a_pickled_module_gives_the_names_of_its_state_dict(tmp_path: Path) -> None:
    leaf = module("Leaf", mapping(weight=tensor(), bias=b"N"), mapping(mean=tensor()))
    body = module(
        parameters=mapping(scale=tensor()),
        buffers=mapping(mask=tensor(), table=tensor(), none=b"N"),
        modules=mapping(a=leaf + b"q\x07", empty=b"N", again=b"h\x07"),
        passing=SET + text("mask") + b"\x90",
        own=tensor(),
    )
    found = opened(tmp_path, archive(body))
    assert list(found.tensors) == [
        "scale", "table", "a.weight", "a.mean", "again.weight", "again.mean",
    ]  # fmt: skip
    assert found.skipped == {}
    assert "project.Net was read as data" in found.notes[0]
    assert np.shares_memory(found.tensors["a.weight"], found.tensors["again.weight"])


@pytest.mark.parametrize(
    "passing",
    [
        SET + text("mask") + b"\x90",
        call("__builtin__", "set", b"](" + text("mask") + b"e"),
        call("builtins", "set", b"(" + text("mask") + b"t"),
    ],
)
def test_buffers_that_do_not_persist_are_left_out_in_every_protocol(
    tmp_path: Path, passing: bytes
) -> None:
    body = module(buffers=mapping(mask=tensor(), table=tensor()), passing=passing)
    assert list(opened(tmp_path, archive(body)).tensors) == ["table"]


def test_all_buffers_of_old_modules_persist(tmp_path: Path) -> None:
    body = module(buffers=mapping(mask=tensor()), passing=None)
    assert list(opened(tmp_path, archive(body)).tensors) == ["mask"]


def test_a_module_that_passes_its_state_as_an_argument_is_found(tmp_path: Path) -> None:
    state = mapping(_parameters=mapping(w=tensor()), _buffers=b"}", _modules=b"}")
    body = call("torch.fx.graph_module", "reduce_graph_module", state, text("import os"))
    assert list(opened(tmp_path, archive(body)).tensors) == ["w"]


def test_a_module_inside_itself_ends(tmp_path: Path) -> None:
    body = module(parameters=mapping(w=tensor()), modules=mapping(me=b"h\x09")).replace(
        b")\x81", b")\x81q\x09"
    )
    assert list(opened(tmp_path, archive(body)).tensors) == ["w"]


def test_modules_are_wrappers_and_siblings_as_dictionaries_are(tmp_path: Path) -> None:
    net, head = module(parameters=mapping(w=tensor())), module(parameters=mapping(weight=tensor()))
    adam = call("torch.optim.adam", "Adam") + mapping(param_groups=b"](" + tensor() + b"e") + b"b"
    body = archive(mapping(model=net, generator=head, optimizer=adam))
    found = opened(tmp_path, body)
    assert list(found.tensors) == ["w", "generator.weight"]
    assert found.skipped == {"optimizer": "object (torch.optim.adam.Adam) with 1 tensors"}
    listed = opened(tmp_path, archive(b"](" + net + adam + b"e"))
    assert list(listed.tensors) == ["w"]
    assert list(open_checkpoint(tmp_path / "file.pt", "0").tensors) == ["w"]


def test_the_parts_and_attributes_of_a_module_are_reached_by_a_key(tmp_path: Path) -> None:
    inner = module(parameters=mapping(weight=tensor()))
    body = module(modules=mapping(enc=inner), own=tensor(), parts=b"](" + inner + b"e")
    opened(tmp_path, archive(mapping(model=body)))
    for key, names in (
        ("model", ["enc.weight"]), ("model.enc", ["weight"]), ("model.enc.weight", ["weight"]),
        ("model.own", ["own"]), ("model.parts", ["0.weight"]),
    ):  # fmt: skip
        assert list(open_checkpoint(tmp_path / "file.pt", key).tensors) == names


def test_the_attributes_of_a_module_that_are_objects_are_named(tmp_path: Path) -> None:
    inner = module(parameters=mapping(w=tensor()), act=named("project", "swish"))
    body = module(modules=mapping(enc=inner), config=mapping(c=call("project", "Config")))
    found = opened(tmp_path, archive(body))
    assert found.skipped == {
        "enc.act": "object (project.swish)",
        "config.c": "object (project.Config)",
    }


def test_a_module_among_the_settings_is_named_once(tmp_path: Path) -> None:
    relu = module("Relu", modules=mapping(inner=module("Inner")))
    found = opened(tmp_path, archive(mapping(model=mapping(w=tensor()), settings=mapping(a=relu))))
    assert list(found.tensors) == ["w"]
    assert found.skipped == {
        "settings": "dictionary with 0 tensors",
        "settings.a": "object (project.Relu)",
    }


def test_quantised_modules_are_skipped_with_advice(tmp_path: Path) -> None:
    packed = call("torch", "ScriptObject", tensor())
    dynamic = module("x", passing=None, param=packed).replace(
        b"cproject\nx", b"ctorch.ao.nn.quantized.dynamic.modules.rnn\nLSTM"
    )
    body = module(modules=mapping(float=module(parameters=mapping(w=tensor())), rnn=dynamic))
    found = opened(tmp_path, archive(body))
    assert list(found.tensors) == ["float.w"]
    assert list(found.skipped) == ["rnn"]
    assert "save model.state_dict() of the float model" in found.skipped["rnn"]


def test_a_quantised_tensor_is_skipped_with_advice(tmp_path: Path) -> None:
    found = opened(tmp_path, archive(mapping(w=tensor(), q=tensor(kind="QInt8Storage"))))
    assert "float model" in found.skipped["q"]


def test_a_whole_module_of_pytorch_is_read() -> None:
    found = open_checkpoint(GOLDEN / "whole_module.pt")
    assert list(found.tensors) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]


# ---- TorchScript ------------------------------------------------------------------------------

CODE = b"""class Net(Module):
  __parameters__ = ["scale", ]
  __buffers__ = ["mean", ]
  training : bool
  enc : __torch__.project.Linear
  def forward(self: __torch__.Net) -> Tensor:
    x = "__parameters__ = [\\"own\\", ]"
    return x
"""
LINEAR = b"""class Linear(Module):
  __parameters__ = ["weight", "bias", ]
  __buffers__ = []
class Helper:
  __parameters__ = ["hidden", ]
"""


def script(name: str, **attributes: bytes) -> bytes:
    module_name, _, kind = f"__torch__.{name}".rpartition(".")
    return named(module_name, kind) + b")\x81" + mapping(**attributes) + b"b"


def script_archive(body: bytes, **code: bytes) -> bytes:
    entries = [("net/data.pkl", b"\x80\x02" + body + b"."), ("net/data/0", bytes(24))]
    entries += [(f"net/code/{name}.py", source) for name, source in code.items()]
    return zipped(*entries, ("net/constants.pkl", b"\x80\x02)."))


SOURCES = {"__torch__": CODE, "__torch__/project": LINEAR}


def test_the_tensors_of_torchscript_are_those_that_its_code_declares(tmp_path: Path) -> None:
    linear = script("project.Linear", weight=tensor(), bias=b"N", cached=tensor())
    body = script(
        "Net", own=tensor(), mean=tensor(), scale=tensor(), enc=linear + b"q\x07", again=b"h\x07",
        helper=script("project.Helper", hidden=tensor()),
    )  # fmt: skip
    found = opened(tmp_path, script_archive(body, **SOURCES))
    assert found.format == "torchscript"
    assert list(found.tensors) == ["scale", "mean", "enc.weight", "again.weight"]
    assert found.skipped == {"helper": "object (__torch__.project.Helper)"}


def test_a_torchscript_module_of_pytorch_is_read() -> None:
    found = open_checkpoint(GOLDEN / "torchscript.pt")
    assert list(found.tensors) == ["weight", "bias"]


def test_a_frozen_archive_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="without parameters, which freezing takes away"):
        opened(tmp_path, script_archive(script("Net"), **SOURCES))


@pytest.mark.parametrize("source", [b"", b"class", b"\xff\xfe", b'  __parameters__ = ["s'])
def test_without_its_code_the_tensors_of_the_object_itself_are_found(
    tmp_path: Path, source: bytes
) -> None:
    content = script_archive(script("Net", scale=tensor()), __torch__=source)
    assert list(opened(tmp_path, content).tensors) == ["scale"]


def test_shapes_are_those_of_the_file(tmp_path: Path) -> None:
    vector = tensor(shape=numbers(3), strides=numbers(1))
    found = opened(tmp_path, script_archive(script("Net", scale=vector), **SOURCES))
    assert found.tensors["scale"].shape == (3,)
