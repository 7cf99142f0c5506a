"""Describes a checkpoint for a person or as JSON: tensors, skipped entries, recurrent layers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from itertools import starmap
from typing import Any

from fastrnn._arrays import as_int, is_real
from fastrnn._errors import counted, safe
from fastrnn._json import read_json
from fastrnn.formats.checkpoint import Checkpoint, FilePath, open_checkpoint
from fastrnn.formats.dtypes import Array
from fastrnn.formats.language_model import find_model
from fastrnn.formats.own import DAMAGE, KEY, TRAINING_KEY, described_module
from fastrnn.nn.architecture import Architecture, FoundLayer, find_layer
from fastrnn.nn.composite import Composite
from fastrnn.nn.layer_names import NameIndex, list_owner
from fastrnn.nn.module import Module, aliases
from fastrnn.nn.registry import KINDS

__all__ = ["format_inspection", "inspect_checkpoint"]

_EMBEDDING_WORDS = ("embed", "encoder", "emb")
_LINEAR_WORDS = ("linear", "decoder", "head", "fc", "proj", "out", "dense", "classifier")


def inspect_checkpoint(path: FilePath) -> dict[str, Any]:
    """Content of a checkpoint as plain lists, strings and numbers that JSON can carry.

    Keys: `file`, `format`, `bytes` and `parameters` (of all tensors, tied ones once), `tensors`
    (name, shape, dtype, bytes), `model` (of a model that fastrnn saved: its kind, architecture,
    parts that the architecture does not name, and the line that loads it, or `error`; else None),
    `training` (of a checkpoint of `Trainer.fit`: the model's kind and architecture, and the number
    of steps; else None), `recurrent` (per layer: prefix, the fields of Architecture,
    `constructor`, `load`, `remark`, or `error`), `language_model` (the line that loads another
    library's file as one, or ""), `remarks` (guesses at the parts of another library's model),
    `skipped`, `notes`, `metadata`.
    Raises what `read_checkpoint` raises.
    """
    checkpoint = open_checkpoint(path)
    tensors = checkpoint.tensors
    twins = aliases(tensors)
    once = [array for name, array in tensors.items() if name not in twins]
    file = os.fsdecode(path)
    index = NameIndex(tensors)
    model, training = _own_model(checkpoint, file), _training(checkpoint.metadata)
    is_known = training is not None or (model is not None and "error" not in model)
    layers = [_recurrent(tensors, index, prefix, file) for prefix in index.recurrent]
    return {
        "file": file,
        "format": checkpoint.format,
        "parameters": sum(array.size for array in once),
        "bytes": sum(array.nbytes for array in once),
        "tensors": [_describe(name, array) for name, array in tensors.items()],
        "model": model,
        "training": training,
        "recurrent": layers + _stacks(tensors, index, file),
        "language_model": "" if model else _language_model(tensors, file),
        "remarks": [] if is_known else list(filter(None, starmap(_remark, tensors.items()))),
        "skipped": checkpoint.skipped,
        "notes": list(checkpoint.notes),
        "metadata": checkpoint.metadata,
    }


def _describe(name: str, array: Array) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "bytes": array.nbytes,
    }


def _own_model(checkpoint: Checkpoint, file: str) -> dict[str, Any] | None:
    """The model that `fastrnn.save` described; None without a description."""
    metadata = checkpoint.metadata
    if KEY not in metadata:
        return None
    try:
        described = read_json(metadata[KEY])
        kind, config = described["kind"], dict(described["config"])
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f"its description is damaged ({safe(error)})"}
    load = f'fastrnn.load("{_quoted(file)}")'
    found = {"kind": safe(kind), "architecture": _architecture(config), "parts": [], "load": load}
    if kind not in KINDS:  # fastrnn.models has not been imported, or a newer fastrnn wrote it
        return found
    try:
        module, _ = described_module(metadata, checkpoint.tensors, checkpoint.format)
    except DAMAGE as error:
        return {"error": f"fastrnn.load cannot make it ({safe(error, 500)})"}
    parts = {name: getattr(module, name) for name in module._modules if name in config}
    plain = {n for n, p in parts.items() if isinstance(p, Module) and not isinstance(p, Composite)}
    inside = set(module._modules) - plain  # made of modules, or made to the sizes that are said
    leaves = [leaf for leaf in _leaves(module) if leaf[0].partition(".")[0] not in plain]
    return {
        **found,
        "architecture": _architecture({k: v for k, v in config.items() if k not in inside}),
        "parts": [safe(f"{name}: {part!r}", 500) for name, part in leaves],
    }


def _architecture(config: Mapping[str, Any]) -> list[str]:
    return [_part(name, value) for name, value in config.items()]


def _leaves(module: Module, name: str = "") -> Iterator[tuple[str, Module]]:
    """Modules that are made of no others, by their whole names."""
    if isinstance(module, Composite):
        for key, part in module._parts.items():
            yield from _leaves(part, f"{name}.{key}" if name else key)
    elif name:
        yield name, module


def _training(metadata: dict[str, str]) -> dict[str, Any] | None:
    """The training whose checkpoint the file is; None if it is none that can be read."""
    try:
        about = read_json(metadata[TRAINING_KEY])
        belongs, steps = about["belongs"], as_int(about["steps"], "steps")
        kind, config = belongs["model"], dict(belongs["architecture"])
    except (ValueError, KeyError, TypeError):
        return None
    return {"kind": safe(kind), "architecture": _architecture(config), "steps": steps}


def _part(name: str, value: Any) -> str:
    """A part, as in `rnn: LSTM(input_size=3, hidden_size=4)`, or an option, as in `dropout=0.0`."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict):
        arguments = ", ".join(f"{key}={entry!r}" for key, entry in value[1].items())
        return safe(f"{name}: {value[0]}({arguments})", 500)
    return safe(f"{name}={value!r}", 500)


def _recurrent(
    tensors: dict[str, Array], index: NameIndex, prefix: str, file: str
) -> dict[str, Any]:
    try:
        layer = find_layer(tensors, index, prefix)
        _check_real({name: tensors[name] for name in layer.sources.values() if name is not None})
    except ValueError as error:
        return {"prefix": prefix, "error": str(error)}
    found = layer.architecture
    name = f"{found.cell}Cell" if found.single_step else found.cell
    return {
        "prefix": prefix,
        **dataclasses.asdict(found),
        "constructor": found.constructor(),
        "load": _load_line(name, prefix, file),
        "remark": _doubt(layer),
    }


def _check_real(parameters: dict[str, Array]) -> None:
    """ValueError for types that no layer takes, as names and shapes do not tell."""
    for name, array in parameters.items():
        if not is_real(array.dtype):
            raise ValueError(f"{safe(name)} has dtype {array.dtype}, expected real numbers")


def _stacks(tensors: dict[str, Array], index: NameIndex, file: str) -> list[dict[str, Any]]:
    """Lists of cells or of single layers that fit on top of each other."""
    found = []
    for prefix in index.recurrent:
        owner = list_owner(prefix)
        if owner is None:
            continue
        layer = _recurrent(tensors, index, owner, file)
        if layer.get("num_layers", 1) > 1:
            layer["remark"] = f"as a stack, if each layer feeds the next; {layer['remark']}"
            found.append(layer)
    return found


def _language_model(tensors: dict[str, Array], file: str) -> str:
    """The line that loads embedding, recurrent layers and head together, if they are all there."""
    prefix = find_model(tensors)
    if prefix is None:
        return ""
    try:
        _check_real({name: array for name, array in tensors.items() if name.startswith(prefix)})
    except ValueError:
        return ""
    return _load_line("models.LanguageModel", prefix, file)


def _load_line(name: str, prefix: str, file: str) -> str:
    path, where = (f'"{_quoted(text)}"' for text in (file, prefix))
    argument = f", prefix={where}" if prefix else ""
    return f"fastrnn.{name}.from_state_dict(fastrnn.read_checkpoint({path}){argument})"


def _quoted(text: str) -> str:
    return safe(text.replace("\\", "\\\\").replace('"', '\\"'), 500)


def _doubt(layer: FoundLayer) -> str:
    """Remark on options that names and shapes do not tell, and on parameters that are made up."""
    found: Architecture = layer.architecture
    doubts = []
    if not found.single_step:
        doubts.append("batch_first (pass True if x is (N, T, I))")
    if found.cell == "RNN":
        doubts.append("which nonlinearity (tanh is the default, else pass it)")
    if found.cell == "GRU":
        doubts.append('where the reset gate acts (PyTorch\'s is reset="after")')
    remark = "the file does not say " + " or ".join(doubts) if doubts else ""
    zeros = [key for key, name in layer.sources.items() if name is None]
    if zeros:
        also = f"it has one bias, {zeros[0].partition('_l')[0]} is zero"
        return f"{remark}; {also}" if remark else also
    return remark


def _remark(name: str, array: Array) -> str:
    """A guess at the part that a weight around the recurrent layer belongs to."""
    owner, _, last = name.rpartition(".")
    if array.ndim != 2 or last != "weight":
        return ""
    rows, columns = array.shape
    word = owner.lower()
    if any(part in word for part in _EMBEDDING_WORDS):
        return f"{name} looks like Embedding({rows}, {columns})"
    if any(part in word for part in _LINEAR_WORDS):
        return f"{name} looks like Linear({columns}, {rows})"
    return ""


def format_inspection(info: dict[str, Any]) -> str:
    """The result of `inspect_checkpoint` as lines of text."""
    hidden = {KEY} if info["training"] is None else {KEY, TRAINING_KEY}
    lines = [
        f"{safe(info['file'], 500)}: {info['format']}, {len(info['tensors'])} tensors, "
        f"{info['parameters']} elements, {info['bytes']} bytes",
        "",
        *_table(info["tensors"]),
        *_model_lines(info["model"], info["parameters"]),
        *_training_lines(info["training"]),
    ]
    for layer in () if _is_own(info) else info["recurrent"]:
        lines += ["", *_layer_lines(layer)]
    if not info["recurrent"]:
        lines += ["", "no recurrent layer found"]
    if info["language_model"]:
        lines += ["", "The whole file as one model:", f"  {info['language_model']}"]
    for title, entries in (
        ("Also", info["remarks"]),
        ("Skipped", [f"{name}: {why}" for name, why in info["skipped"].items()]),
        ("Notes", info["notes"]),
        ("Metadata", [f"{k}: {value}" for k, value in info["metadata"].items() if k not in hidden]),
    ):
        if entries:
            lines += ["", f"{title}:", *(f"  {safe(entry, 200)}" for entry in entries)]
    return "\n".join(lines)


def _is_own(info: dict[str, Any]) -> bool:
    """True for a model that `fastrnn.load` makes, whose layers need no lines of their own."""
    return info["model"] is not None and "error" not in info["model"]


def _model_lines(model: dict[str, Any] | None, parameters: int) -> list[str]:
    if model is None:
        return []
    if "error" in model:
        return ["", f"A model of fastrnn, but {model['error']}"]
    title = f"A model of fastrnn: {model['kind']}, {parameters:,} parameters"
    said = [*model["architecture"], *model["parts"], model["load"]]
    return ["", title, *(f"  {line}" for line in said)]


def _training_lines(training: dict[str, Any] | None) -> list[str]:
    if training is None:
        return []
    title = (
        f"A training of fastrnn: {training['kind']} after {counted(training['steps'], 'step')}; "
        f"resume=True (fastrnn train --resume) goes on with it"
    )
    return ["", title, *(f"  {part}" for part in training["architecture"])]


def _table(tensors: list[dict[str, Any]]) -> list[str]:
    rows = [
        (safe(t["name"], 100), str(tuple(t["shape"])), t["dtype"], str(t["bytes"])) for t in tensors
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    return [
        f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}} bytes"
        for a, b, c, d in rows
    ]


def _layer_lines(layer: dict[str, Any]) -> list[str]:
    where = safe(layer["prefix"]) or "(no prefix)"
    if "error" in layer:
        return [f"{where}: recurrent weights, but {layer['error']}"]
    lines = [f"{where}: {layer['constructor']}", f"  {layer['load']}"]
    return [*lines, f"  {layer['remark']}"] if layer["remark"] else lines
