"""Our own files: a module's tensors as safetensors, and its description in the metadata.

One JSON text under "fastrnn" holds the format's number, the class, its arguments and, for a model,
its settings, vocabulary and whatever the caller added. Second names of tied tensors are noted as
other writers of safetensors note them. Nothing in a file is ever run: a class is looked up in the
registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastrnn._arrays import ArrayLike
from fastrnn._atomic import FilePath
from fastrnn._errors import shown
from fastrnn._json import MAX_DEPTH, check_depth, read_json
from fastrnn.formats.safetensors import write_safetensors
from fastrnn.nn.making import only_from, unfilled
from fastrnn.nn.module import Module, aliases
from fastrnn.nn.registry import KINDS, make, unlisted

__all__ = ["DAMAGE", "KEY", "TRAINING_KEY", "described_module", "read_module", "save"]

KEY = "fastrnn"  # of the description among the metadata
TRAINING_KEY = "fastrnn_training"  # of a training's state, in checkpoints of `Trainer.fit`
_FORMAT = 1

# Errors that a stranger's description may cause: it has arguments of any type and any value.
DAMAGE = (
    TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError,
    MemoryError, RecursionError,
)  # fmt: skip


def save(module: Module, path: FilePath) -> None:
    """Write a model or a layer to a .safetensors file from which `fastrnn.load` makes it again.

    Parameters, architecture, settings, scaling, and a model's `vocabulary` and `extra`, which must
    be what JSON can hold (ValueError). The file appears whole or not at all: after an error or a
    kill an older one at `path` is unchanged.
    """
    problem = unlisted(module, "module")
    if problem:
        hint = " that load() can make again; save_pytorch writes the parameters of any"
        hint = hint if isinstance(module, Module) else ""
        raise TypeError(f"{problem}, expected a model or a layer of fastrnn{hint}")
    description = {"format": _FORMAT, "kind": type(module).__name__, "config": module.config}
    if module._notes:
        description["settings"] = module._said(module._settings)
    for name in module._notes:
        description[name] = getattr(module, name)
        _check_json(description[name], name)
    twins = aliases(module.parameters)
    if twins:
        description["tied"] = twins
    check_depth(description)
    text = json.dumps(description, allow_nan=False, ensure_ascii=False)
    tensors = {name: p for name, p in module.parameters.items() if name not in twins}
    write_safetensors(tensors, {KEY: text, **twins}, path)


def read_module(
    metadata: Mapping[str, str], tensors: Mapping[str, ArrayLike], file_format: str
) -> Module:
    """The module that `save` wrote; one of DAMAGE for what it did not write."""
    module, description = described_module(metadata, tensors, file_format)
    for name in module._notes:
        setattr(module, name, description[name])
    module.load_state_dict(tensors)
    return module


def described_module(
    metadata: Mapping[str, str], tensors: Mapping[str, ArrayLike], file_format: str
) -> tuple[Module, dict[str, Any]]:
    """The module that a file describes, with zeros as parameters, and its description.

    One of DAMAGE for a description that `save` did not write, or that is larger than `tensors`.
    """
    description = _parsed(metadata.get(KEY), file_format)
    kind = description.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"holds a {shown(kind)}, expected one of {', '.join(KINDS)}")
    arguments = _arguments(description, KINDS[kind]._notes)
    with unfilled(), only_from(tensors):
        module = make(kind, arguments, "config")
        _tie(module, description.get("tied", {}))
    return module, description


def _parsed(text: str | None, file_format: str) -> dict[str, Any]:
    if text is None:
        raise ValueError(
            f"a {file_format} file without a fastrnn model; read_checkpoint reads its tensors"
        )
    try:
        description: dict[str, Any] = read_json(text)
    except ValueError as error:
        raise ValueError(f"damaged: the model's description is no JSON ({error})") from error
    number = description.get("format") if isinstance(description, dict) else None
    if type(number) is not int or number < 1:
        raise ValueError("damaged: the model's description has no format")
    if number > _FORMAT:
        raise ValueError(f"written by a newer fastrnn: format {number}, this one reads {_FORMAT}")
    for part in ("config", "settings"):
        if not isinstance(description.get(part, {}), dict):
            raise ValueError(f"damaged: the model's {part} is no mapping of names to values")
    return description


def _arguments(description: Mapping[str, Any], notes: tuple[str, ...]) -> dict[str, Any]:
    """Config and settings together; ValueError for a field that is missing, or twice."""
    for field in ("config", *(("settings", *notes) if notes else ())):
        if field not in description:
            raise ValueError(f"damaged: no {field!r} in it")
    config, settings = description["config"], description["settings"] if notes else {}
    for name in settings:
        if name in config:
            raise ValueError(f"damaged: config and settings both have {shown(name)}")
    return {**config, **settings}


def _tie(module: Module, ties: Any) -> None:
    """Tie what the constructor has not tied: names to the names whose tensors they are."""
    if not isinstance(ties, dict):
        raise ValueError("damaged: the model's tied is no mapping of names to names")
    known = aliases(module.parameters)
    for name, twin in ties.items():
        if not isinstance(twin, str):
            raise ValueError(f"damaged: tied has {shown(twin)}, expected the name of a parameter")
        if known.get(name) != twin:
            module.tie(module, name, twin)
            known = aliases(module.parameters)


def _check_json(value: Any, name: str) -> None:
    """A copy that JSON can hold and `load` reads; keys that are no text become text."""
    try:
        check_depth(value, MAX_DEPTH - 1)  # it is one level down in the description
        read_json(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        hint = f", expected its {name}.to_dict()" if hasattr(value, "to_dict") else ""
        raise ValueError(f"{name} cannot be written as JSON: {error}{hint}") from error
    _check_keys(value, name)


def _check_keys(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{name} has the key {key!r}, expected text, as JSON does")
    if isinstance(value, (dict, list, tuple)):
        for entry in value.values() if isinstance(value, dict) else value:
            _check_keys(entry, name)
