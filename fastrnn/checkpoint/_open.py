"""Opens a checkpoint: tells the format by content, reads it, brings the names in order."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from io import BufferedReader

from ._arrayfiles import read_npz, read_safetensors
from ._errors import CheckpointError, shown
from ._names import clean_names, fold_weight_norm, take_raw_weights
from ._nested import PlainValue, select_tensors
from ._tensors import Array, Tensors
from ._torchfile import open_archive, read_legacy, read_zip

__all__ = ["Checkpoint", "open_checkpoint", "read_checkpoint"]

FilePath = str | os.PathLike[str]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    `tensors` by name, in the order of the file; `skipped`: what was not taken, and why; `format`:
    "pytorch-zip", "pytorch-legacy", "safetensors" or "npz"; `notes`: what was done to names and
    values, for a person to read; `metadata`: the strings a safetensors file carries; `values`: the
    numbers and strings among the skipped entries of a PyTorch file, e.g. a vocabulary.
    """

    tensors: dict[str, Array]
    skipped: dict[str, str]
    format: str
    notes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    values: dict[str, PlainValue] = field(default_factory=dict)


def read_checkpoint(path: FilePath) -> dict[str, Array]:
    """The tensors of a PyTorch (zip or legacy), safetensors or npz file, by name.

    The format is told by content. No code of the file is ever run and PyTorch is not needed.
    Arrays keep shape and NumPy type (bfloat16 becomes float32), belong to the caller and are
    writable; tensors that share a storage in a PyTorch file share memory. Names lose `module.` and
    `_orig_mod.`, weight norm is folded; `open_checkpoint` also tells what was skipped.
    Raises CheckpointError (a ValueError) for a file that is damaged, refused or of another format,
    FileNotFoundError for a missing one, TypeError for a `path` that is none.
    """
    return open_checkpoint(path).tensors


def open_checkpoint(path: FilePath) -> Checkpoint:
    """As `read_checkpoint`, with the report: format, skipped entries, notes and metadata."""
    name = _checked_path(path)
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise CheckpointError(f"{shown(name, 500)}: no regular file, expected a checkpoint file")
    with open(name, "rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size)
        except CheckpointError as error:
            raise CheckpointError(f"{shown(name, 500)}: {error}") from error
        except (MemoryError, RecursionError) as error:
            raise CheckpointError(
                f"{shown(name, 500)}: too large or too deeply nested for this machine"
            ) from error


def _checked_path(path: FilePath) -> str:
    try:
        name = os.fsdecode(path)
    except TypeError:
        kind = type(path).__name__
        raise TypeError(f"path has type {kind}, expected a str or a path") from None
    if "\0" in name:
        raise ValueError(f"path is {shown(repr(name), 500)}, expected no NUL character in it")
    return name


def _read(file: BufferedReader, size: int) -> Checkpoint:
    start = file.read(512)
    file.seek(0)
    if not start:
        raise CheckpointError("the file is empty")
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _read_archive(file, size)
    if start[8:9] == b"{":
        tensors, skipped, metadata, widened = read_safetensors(file, size)
        return _finished("safetensors", tensors, skipped, [], metadata, widened)
    if start[:1] == b"\x80":  # after safetensors, whose first byte may be any
        return _from_records("pytorch-legacy", *read_legacy(file, size))
    raise CheckpointError(_unknown(start))


def _unknown(start: bytes) -> str:
    """What a file is, if not a checkpoint."""
    if start[257:262] == b"ustar":
        return "PyTorch's old tar format, which is not supported; load it in PyTorch and save again"
    if start[:6] == b"\x93NUMPY":
        return "a single .npy array, expected an .npz archive of named arrays"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "an HDF5 file (Keras?), expected a PyTorch, safetensors or npz file"
    return "neither a PyTorch (zip or legacy), nor a safetensors, nor an npz file"


def _read_archive(file: BufferedReader, size: int) -> Checkpoint:
    with open_archive(file) as archive:
        names = archive.namelist()
        if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
            return _from_records("pytorch-zip", *read_zip(file, size, archive))
        if any("/code/" in name or name.endswith("constants.pkl") for name in names):
            raise CheckpointError("a TorchScript archive; save model.state_dict() instead")
        if names and not any(name.endswith(".npy") for name in names):
            raise CheckpointError("a zip archive with neither PyTorch data nor .npy arrays in it")
        arrays, skipped = read_npz(archive, size)
        return _finished("npz", arrays, skipped, [], {}, 0)


def _from_records(kind: str, root: object, reader: Tensors) -> Checkpoint:
    chosen = select_tensors(root)
    tensors: dict[str, Array] = {}
    for name, record in chosen.records.items():
        try:
            tensors[name] = reader.array(record)
        except CheckpointError as error:
            raise CheckpointError(f"tensor {shown(name)!r}: {error}") from error
    tensors = _folded(tensors, chosen.notes)
    notes = _with_widened(chosen.notes, reader.widened)
    return Checkpoint(tensors, chosen.skipped, kind, notes, values=chosen.values)


def _finished(
    kind: str,
    tensors: dict[str, Array],
    skipped: dict[str, str],
    notes: list[str],
    metadata: dict[str, str],
    widened: int,
) -> Checkpoint:
    tensors = _folded(clean_names(tensors, notes), notes)
    return Checkpoint(tensors, skipped, kind, _with_widened(notes, widened), metadata)


def _folded(tensors: dict[str, Array], notes: list[str]) -> dict[str, Array]:
    return take_raw_weights(fold_weight_norm(tensors, notes), notes)


def _with_widened(notes: list[str], widened: int) -> tuple[str, ...]:
    if widened:
        notes.append(f"{widened} bfloat16 tensors were widened to float32, which is exact")
    return tuple(notes)
