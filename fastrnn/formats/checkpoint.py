"""Opens a checkpoint: tells the format by content, reads it, brings the names in order."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from io import BufferedReader

import numpy as np

from fastrnn._errors import safe
from fastrnn.formats.archive import Archive
from fastrnn.formats.dtypes import Array
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.names import clean_names, fold_weight_norm, take_raw_weights
from fastrnn.formats.npz import read_npz
from fastrnn.formats.safetensors import read_safetensors
from fastrnn.formats.torch.budget import Budget
from fastrnn.formats.torch.files import LEGACY_STARTS, Content, read_legacy, read_zip
from fastrnn.formats.torch.keys import Key, checked_key, find_key
from fastrnn.formats.torch.select import PlainValue, select_tensors
from fastrnn.formats.torch.strangers import name_strangers
from fastrnn.formats.torch.views import Views

__all__ = ["Checkpoint", "open_checkpoint", "read_checkpoint"]

FilePath = str | os.PathLike[str]


_OWN = "fastrnn"  # among the metadata of files that `save` wrote


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file.

    `tensors` by name, in the order of the file; `skipped`: entries that were not taken, and why,
    by their place (`callbacks.0`; keys that are no text are in brackets); `format`: "pytorch-zip",
    "pytorch-legacy", "torchscript", "pickle", "safetensors" or "npz"; `notes`: changes of names and
    values, for a person to read; `metadata`: the strings a safetensors file carries;
    `values`: the numbers and strings among the skipped entries of a PyTorch file, e.g. a
    vocabulary.
    """

    tensors: dict[str, Array]
    skipped: dict[str, str]
    format: str
    notes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    values: dict[str, PlainValue] = field(default_factory=dict)


def read_checkpoint(path: FilePath, key: Key | None = None) -> dict[str, Array]:
    """The tensors of a PyTorch, pickle, safetensors or npz file, by name.

    The format is told by content. No code of the file is ever run and PyTorch is not needed:
    pickled modules and TorchScript archives are data, whose tensors have the names of their
    state_dict; other objects are skipped. Arrays keep shape and NumPy type (bfloat16 becomes
    float32), belong to the caller and are writable; tensors that share a storage in a PyTorch
    file, or that the metadata of a safetensors file ties, share memory. Names lose `module.` and
    `_orig_mod.`, weight norm is folded; `open_checkpoint` also tells what was skipped.

    `key`: the part of the file to read, with names that begin there: "generator", or
    "models.generator" through several dictionaries; a tuple gives the keys one by one, and () is
    everything in the file. Without it, the model: the tensors under state_dict, model,
    model_state_dict or net if there are, and the state dicts beside, under their own names; else
    all that is no optimiser's.

    Raises CheckpointError (a ValueError) for a file that is damaged, holds no tensors, has no such
    key or is of another format, FileNotFoundError for a missing one, TypeError for a `path` or a
    `key` that is none.
    """
    return open_checkpoint(path, key).tensors


def open_checkpoint(path: FilePath, key: Key | None = None) -> Checkpoint:
    """As `read_checkpoint`, with the report: format, skipped entries, notes and metadata."""
    name, key = _checked_path(path), checked_key(key)
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise CheckpointError(f"{safe(name, 500)}: no regular file, expected a checkpoint file")
    with open(name, "rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size, key)
        except CheckpointError as error:
            raise CheckpointError(f"{safe(name, 500)}: {error}") from error
        except (MemoryError, RecursionError) as error:
            raise CheckpointError(
                f"{safe(name, 500)}: too large or too deeply nested for this machine"
            ) from error


def _checked_path(path: FilePath) -> str:
    try:
        name = os.fsdecode(path)
    except TypeError:
        kind = type(path).__name__
        raise TypeError(f"path has type {kind}, expected a str or a path") from None
    if "\0" in name:
        raise ValueError(f"path is {safe(repr(name), 500)}, expected no NUL character in it")
    return name


def _read(file: BufferedReader, size: int, key: Key | None) -> Checkpoint:
    start = file.read(512)
    file.seek(0)
    if not start:
        raise CheckpointError("the file is empty")
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _read_archive(Archive(file, size), key)
    if _is_safetensors(start, size):
        tensors, skipped, metadata, widened = read_safetensors(file, size)
        return _finished("safetensors", _at(tensors, key), skipped, metadata, widened)
    if start.startswith(LEGACY_STARTS):
        return _from_records(read_legacy(file, size), key)
    if start.startswith(_PICKLE_STARTS):
        try:
            content = read_legacy(file, size)
        except CheckpointError as error:
            raise CheckpointError(f"{_unknown(start)} (as a pickle: {error})") from error
        return _from_records(content, key)
    raise CheckpointError(_unknown(start))


def _is_safetensors(start: bytes, size: int) -> bool:
    """True if a JSON header follows its length, as far as a pickle that starts alike allows."""
    fits = int.from_bytes(start[:8], "little") <= size - 8
    is_pickle = start.startswith((*LEGACY_STARTS, *_PICKLE_STARTS))
    return start[8:9] == b"{" and (fits or not is_pickle)


# The first bytes of a dictionary, list or object in the pickle protocols 0 and 1, which have no
# magic number.
_PICKLE_STARTS = (b"(", b"}", b"]", b"c")


def _unknown(start: bytes) -> str:
    """Guess at the format of a file that is no checkpoint."""
    if start[257:262] == b"ustar":
        return "PyTorch's old tar format, which is not supported; load it in PyTorch and save again"
    if start[:6] == b"\x93NUMPY":
        return "a single .npy array, expected an .npz archive of named arrays"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "an HDF5 file (Keras?), expected a PyTorch, safetensors or npz file"
    return "neither a PyTorch (zip or legacy), nor a safetensors, nor an npz file"


def _read_archive(archive: Archive, key: Key | None) -> Checkpoint:
    names = list(archive.entries)
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return _from_records(read_zip(archive), key)
    if any(name.endswith("/archive_format") for name in names):
        raise CheckpointError(
            "a program of torch.export (.pt2), which is not supported; save model.state_dict() "
            "instead"
        )
    if any("/code/" in name or name.endswith(("constants.pkl", "model.json")) for name in names):
        raise CheckpointError(
            "a TorchScript archive from before PyTorch 1.4; load it in PyTorch and save "
            "model.state_dict() instead"
        )
    if names and not any(name.endswith(".npy") for name in names):
        raise CheckpointError("a zip archive with neither PyTorch data nor .npy arrays in it")
    arrays, skipped = read_npz(archive)
    return _finished("npz", _at(arrays, key), skipped, {}, 0)


def _at(tensors: dict[str, Array], key: Key | None) -> dict[str, Array]:
    """The tensors whose names begin with `key`, of a file that has no dictionaries."""
    if key is None:
        return tensors
    found, path = find_key(tensors, key, Views(Budget(0), None, ()))
    inner: dict[str, Array] = found if isinstance(found, dict) else {path: np.asarray(found)}
    return inner


def _from_records(content: Content, key: Key | None) -> Checkpoint:
    chosen = select_tensors(content, key)
    name_strangers(chosen, content.pickle.names)
    tensors: dict[str, Array] = {}
    for name, record in chosen.records.items():
        try:
            tensors[name] = content.tensors.array(record)
        except CheckpointError as error:
            raise CheckpointError(f"tensor {safe(name)!r}: {error}") from error
    tensors = _folded(tensors, chosen.notes)
    if content.rest:
        chosen.notes.append(f"{content.rest} bytes follow the pickle and were not read")
    notes = _with_widened(chosen.notes, content.tensors.widened)
    return Checkpoint(tensors, chosen.skipped, content.format, notes, values=chosen.values)


def _finished(
    kind: str,
    tensors: dict[str, Array],
    skipped: dict[str, str],
    metadata: dict[str, str],
    widened: int,
) -> Checkpoint:
    notes: list[str] = []
    if _OWN not in metadata:  # whose names may be anything, and are right
        tensors = _folded(clean_names(tensors, notes), notes)
    return Checkpoint(tensors, skipped, kind, _with_widened(notes, widened), metadata)


def _folded(tensors: dict[str, Array], notes: list[str]) -> dict[str, Array]:
    return take_raw_weights(fold_weight_norm(tensors, notes), notes)


def _with_widened(notes: list[str], widened: int) -> tuple[str, ...]:
    if widened:
        notes.append(f"{widened} bfloat16 tensors were widened to float32, which is exact")
    return tuple(dict.fromkeys(notes))
