"""Saving and loading: one safetensors file for a model or a layer, and files for PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastrnn import models as models  # so that `load` knows their classes
from fastrnn._arrays import ArrayLike
from fastrnn._atomic import FilePath
from fastrnn._errors import safe, with_article
from fastrnn.formats import CheckpointError, open_checkpoint
from fastrnn.formats.own import DAMAGE, read_module, save
from fastrnn.formats.torch.writer import write_pytorch
from fastrnn.nn.module import Module

__all__ = ["load", "save", "save_pytorch"]


def load(path: FilePath) -> Any:
    """The model or layer that `save` wrote, of the class it had.

    A file that is damaged, that no fastrnn model is in, or that a newer fastrnn wrote is a
    CheckpointError (a ValueError) that says so; no code of the file is ever run.
    """
    found = open_checkpoint(path)
    try:
        return read_module(found.metadata, found.tensors, found.format)
    except DAMAGE as error:
        raise CheckpointError(f"{safe(path, 500)}: {safe(error, 500)}") from error


def save_pytorch(model: Module | Mapping[str, ArrayLike], path: FilePath) -> None:
    """Write a .pt file with a plain state dict, which `torch.load(path)` opens; without PyTorch.

    `model`: a model or a layer, or a mapping of names to arrays of any type that PyTorch has.
    Tied weights stay tied. The file appears whole or not at all.
    """
    if not isinstance(model, (Module, Mapping)):
        kind = with_article(type(model).__name__)
        raise TypeError(f"model is {kind}, expected a model, a layer or names to arrays")
    write_pytorch(model.parameters if isinstance(model, Module) else model, path)
