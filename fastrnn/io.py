"""Saving and loading: one safetensors file for a model or a layer, and files for PyTorch.

The file is an ordinary safetensors file. What makes it a model is one JSON text in its metadata,
under "fastrnn": the format's number, the class, its architecture, settings, vocabulary, scaling and
whatever the caller added. Nothing in it is ever run: a class is chosen from a fixed list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fastrnn._arrays import ArrayLike, FloatArray, shown, with_article
from fastrnn._atomic import FilePath
from fastrnn._json import MAX_DEPTH, check_depth, read_json
from fastrnn.nn.module import Module, made, only_from, unfilled

__all__ = ["load", "save", "save_pytorch"]

_FORMAT = 1

# What a description may cause that a stranger wrote: arguments of any type and any value.
_DAMAGE = (
    TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError,
    MemoryError, RecursionError,
)  # fmt: skip


def save(module: Module, path: FilePath) -> None:
    """Write a model or a layer to a .safetensors file from which `load` makes it again.

    Parameters, architecture, settings, scaling, and a model's `vocabulary` and `extra`, which must
    be what JSON can hold (ValueError). The file appears whole or not at all: after an error or a
    kill an older one at `path` is unchanged.
    """
    kind = type(module).__name__
    _check_kind(module)
    description = {"format": _FORMAT, "kind": kind, **_described(module)}
    for name in ("vocabulary", "extra"):
        _check_json(description.get(name), name)
    text = json.dumps(description, allow_nan=False, ensure_ascii=False)
    from fastrnn.formats._write_safetensors import write_safetensors

    write_safetensors(_without_twins(module.parameters), {"fastrnn": text}, path)


def load(path: FilePath) -> Any:
    """The model or layer that `save` wrote, of the class it had.

    A file that is damaged, that no fastrnn model is in, or that a newer fastrnn wrote is a
    CheckpointError (a ValueError) that says so; no code of the file is ever run.
    """
    from fastrnn.formats import CheckpointError, open_checkpoint
    from fastrnn.formats._errors import safe

    found = open_checkpoint(path)
    try:
        description = _parsed(found.metadata.get("fastrnn"), found.format)
        return _rebuilt(description, found.tensors)
    except _DAMAGE as error:
        raise CheckpointError(f"{safe(path, 500)}: {safe(error, 500)}") from error


def save_pytorch(model: Module | Mapping[str, ArrayLike], path: FilePath) -> None:
    """Write a .pt file with a plain state dict, which `torch.load(path)` opens; without PyTorch.

    `model`: a model or a layer, or a mapping of names to arrays of any type that PyTorch has.
    Tied weights stay tied. The file appears whole or not at all.
    """
    if not isinstance(model, (Module, Mapping)):
        kind = with_article(type(model).__name__)
        raise TypeError(f"model is {kind}, expected a model, a layer or names to arrays")
    from fastrnn.formats._write_torch import write_pytorch

    write_pytorch(model.parameters if isinstance(model, Module) else model, path)


def _check_kind(module: object) -> None:
    """Refuse what `load` could not make again: it calls nothing that a file names."""
    kind, known = type(module), _loaders()
    if kind.__name__ in known and kind.__module__.startswith("fastrnn."):
        return
    what = with_article(kind.__name__)
    bases = [base.__name__ for base in kind.__mro__[1:] if base.__name__ in known]
    if bases:
        what += f", a subclass of fastrnn's {bases[0]}"
    hint = ""
    if isinstance(module, Module):
        hint = " that load() can make again; save_pytorch writes the parameters of any"
    raise TypeError(f"module is {what}, expected a model or a layer of fastrnn{hint}")


def _described(module: Module) -> dict[str, Any]:
    """What is known of a module beside its parameters."""
    return module._described() if hasattr(module, "_described") else {"config": module.config}


def _loaders() -> dict[str, Callable[[Mapping[str, Any]], Module]]:
    """By class name, what makes a module, without values, from its description."""
    from fastrnn import models, nn

    kinds: list[type[Module]] = [nn.RNN, nn.LSTM, nn.GRU]
    kinds += [nn.RNNCell, nn.LSTMCell, nn.GRUCell]
    kinds += [nn.Embedding, nn.Linear, nn.LayerNorm, nn.Attention]
    kinds += [nn.ScalarMix, nn.Conv1d, nn.ScaleShift, nn.PReLU, *nn.ACTIVATIONS]
    made = {kind.__name__: _from_config(kind) for kind in kinds}
    return made | {kind.__name__: kind._from_description for kind in models.KINDS}


def _from_config(kind: type[Module]) -> Callable[[Mapping[str, Any]], Module]:
    return lambda description: made(kind, description["config"], "config")


def _check_json(value: Any, name: str) -> None:
    """What JSON can hold and `load` reads, with nothing but text as keys: others became text."""
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


def _without_twins(parameters: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Tied weights once, under the first of their names."""
    places: set[tuple[int, tuple[int, ...]]] = set()
    kept: dict[str, FloatArray] = {}
    for name, tensor in parameters.items():
        place = tensor.ctypes.data, tensor.shape
        if place not in places or tensor.size == 0:
            kept[name] = tensor
        places.add(place)
    return kept


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


def _rebuilt(description: Mapping[str, Any], tensors: Mapping[str, ArrayLike]) -> Module:
    kind, loaders = description.get("kind"), _loaders()
    if not isinstance(kind, str) or kind not in loaders:
        raise ValueError(f"holds a {shown(kind)}, expected one of {', '.join(loaders)}")
    if "config" not in description:
        raise ValueError("damaged: no 'config' in it")
    with unfilled(), only_from(tensors):
        module = loaders[kind](description)
    module.load_state_dict(tensors)
    return module
