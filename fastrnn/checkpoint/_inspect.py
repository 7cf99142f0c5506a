"""Describes a checkpoint for a person or as JSON: tensors, skipped entries, recurrent layers."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ._architecture import Architecture, find_recurrent, infer_recurrent
from ._errors import shown
from ._open import FilePath, open_checkpoint
from ._tensors import Array

__all__ = ["format_inspection", "inspect_checkpoint"]

_EMBEDDING_WORDS = ("embed", "encoder", "emb")
_LINEAR_WORDS = ("linear", "decoder", "head", "fc", "proj", "out", "dense", "classifier")


def inspect_checkpoint(path: FilePath) -> dict[str, Any]:
    """What a checkpoint holds, as plain lists, strings and numbers that JSON can carry.

    Keys: `file`, `format`, `bytes` (of all tensors), `parameters` (number of elements), `tensors`
    (name, shape, dtype, bytes), `recurrent` (per layer: prefix, the fields of Architecture,
    `constructor`, `load`, `remark`, or `error`), `language_model` (the line that loads the whole
    file as one, or ""), `remarks`, `skipped`, `notes`, `metadata`.
    Raises what `read_checkpoint` raises.
    """
    checkpoint = open_checkpoint(path)
    tensors = checkpoint.tensors
    file = os.fsdecode(path)
    recurrent = find_recurrent(tensors)
    return {
        "file": file,
        "format": checkpoint.format,
        "parameters": sum(array.size for array in tensors.values()),
        "bytes": sum(array.nbytes for array in tensors.values()),
        "tensors": [_describe(name, array) for name, array in tensors.items()],
        "recurrent": [_recurrent(tensors, prefix, file) for prefix in recurrent],
        "language_model": _language_model(tensors, recurrent, file),
        "remarks": [r for name, array in tensors.items() if (r := _remark(name, array))],
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


def _recurrent(tensors: dict[str, Array], prefix: str, file: str) -> dict[str, Any]:
    try:
        found = infer_recurrent(tensors, prefix)
    except ValueError as error:
        return {"prefix": prefix, "error": str(error)}
    name = f"{found.cell}Cell" if found.single_step else found.cell
    return {
        "prefix": prefix,
        **dataclasses.asdict(found),
        "constructor": found.constructor(),
        "load": _load_line(name, prefix, file),
        "remark": _doubt(found),
    }


def _language_model(tensors: dict[str, Array], recurrent: list[str], file: str) -> str:
    """The line that loads embedding, recurrent layers and head together, if they are all there."""
    from fastrnn._names import find_parts

    if len(recurrent) != 1:
        return ""
    owners = recurrent[0].split(".")
    for depth in range(len(owners)):
        prefix = "".join(f"{owner}." for owner in owners[:depth])
        try:
            find_parts(tensors, prefix)
        except ValueError:
            continue
        return _load_line("models.LanguageModel", prefix, file)
    return ""


def _load_line(name: str, prefix: str, file: str) -> str:
    path, where = (f'"{_quoted(text)}"' for text in (file, prefix))
    argument = f", prefix={where}" if prefix else ""
    return f"fastrnn.{name}.from_state_dict(fastrnn.read_checkpoint({path}){argument})"


def _quoted(text: str) -> str:
    return shown(text.replace("\\", "\\\\").replace('"', '\\"'), 500)


def _doubt(found: Architecture) -> str:
    """What names and shapes cannot tell."""
    doubts = []
    if not found.single_step:
        doubts.append("batch_first (pass True if x is (N, T, I))")
    if found.cell == "RNN":
        doubts.append("which nonlinearity (tanh is the default, else pass it)")
    if found.cell == "GRU":
        doubts.append('where the reset gate acts (PyTorch\'s is reset="after")')
    return "the file does not say " + " or ".join(doubts) if doubts else ""


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
    lines = [
        f"{shown(info['file'], 500)}: {info['format']}, {len(info['tensors'])} tensors, "
        f"{info['parameters']} elements, {info['bytes']} bytes",
        "",
        *_table(info["tensors"]),
    ]
    for layer in info["recurrent"]:
        lines += ["", *_layer_lines(layer)]
    if not info["recurrent"]:
        lines += ["", "no recurrent layer found"]
    if info["language_model"]:
        lines += ["", "The whole file as one model:", f"  {info['language_model']}"]
    for title, entries in (
        ("Also", info["remarks"]),
        ("Skipped", [f"{name}: {why}" for name, why in info["skipped"].items()]),
        ("Notes", info["notes"]),
        ("Metadata", [f"{key}: {value}" for key, value in info["metadata"].items()]),
    ):
        if entries:
            lines += ["", f"{title}:", *(f"  {shown(entry, 200)}" for entry in entries)]
    return "\n".join(lines)


def _table(tensors: list[dict[str, Any]]) -> list[str]:
    rows = [
        (shown(t["name"], 100), str(tuple(t["shape"])), t["dtype"], str(t["bytes"]))
        for t in tensors
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    return [
        f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}} bytes"
        for a, b, c, d in rows
    ]


def _layer_lines(layer: dict[str, Any]) -> list[str]:
    where = shown(layer["prefix"]) or "(no prefix)"
    if "error" in layer:
        return [f"{where}: recurrent weights, but {layer['error']}"]
    lines = [f"{where}: {layer['constructor']}", f"  {layer['load']}"]
    return [*lines, f"  {layer['remark']}"] if layer["remark"] else lines
