"""PyTorch's two containers: the zip archive (since 1.6) and the legacy run of pickles.

Zip: `NAME/data.pkl` is the pickle, `NAME/data/KEY` the bytes of each storage, `NAME/byteorder` is
"little" or "big"; TorchScript's archives hold `NAME/code/` too. Legacy: pickles of a magic
number, a protocol number, facts about the system, the data and the list of storage keys, then for
each key an int64 count and the elements, which PyTorch writes little-endian on every machine. A
pickle alone, without the magic number, is taken for what it holds.
"""

from __future__ import annotations

import io
from io import BufferedReader
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn._errors import safe
from fastrnn.formats.archive import Archive, read_array
from fastrnn.formats.dtypes import stored_size
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.torch.objects import Storage
from fastrnn.formats.torch.pickle import LEGACY_MAGIC, Pickle, load_pickle, read_pickle
from fastrnn.formats.torch.reader import Reader
from fastrnn.formats.torch.script import script_parameters
from fastrnn.formats.torch.tensors import Tensors

__all__ = ["LEGACY_STARTS", "Content", "find_pickle", "read_legacy", "read_zip"]

LEGACY_PROTOCOL = 1001

# The first bytes of a legacy file: the magic number in the pickle protocols from 2 and below it.
LEGACY_STARTS = (b"\x80", b"L119547037146038801333356L\n.")

# Bytes that the pickle of an archive, or a file of its code, may unpack to; or PICKLE_RATIO times
# the file, of which the pickle is a small part.
MAX_PICKLE = 1 << 20
PICKLE_RATIO = 64


class Content(NamedTuple):
    """Content of a PyTorch file: its format, its pickle, and the maker of its arrays.

    `parameters` has the names of the tensors that TorchScript's code declares, by class.
    """

    format: str
    pickle: Pickle
    tensors: Tensors
    parameters: dict[str, list[str]] | None = None
    rest: int = 0  # bytes of the file after its pickle


def read_zip(archive: Archive) -> Content:
    """The content of a PyTorch zip file, or of a TorchScript archive."""
    root, size = find_pickle(archive), archive.size
    limit = max(MAX_PICKLE, PICKLE_RATIO * size)

    def storage(key: str, nbytes: int) -> NDArray[np.uint8]:
        name = f"{root}data/{key}"
        info = archive.entries.get(name)
        if info is not None and info.file_size != nbytes:
            raise CheckpointError(
                f"storage {safe(key)} has {info.file_size} bytes, expected {nbytes}"
            )
        return archive.read(name)

    byteorder = "little"
    if f"{root}byteorder" in archive.entries:
        byteorder = archive.read(f"{root}byteorder", 16).tobytes().decode("latin-1")
    if byteorder not in ("little", "big"):
        raise CheckpointError(f"byte order {safe(byteorder)!r}, expected 'little' or 'big'")
    data = archive.read(f"{root}data.pkl", limit).data
    found = read_pickle(Reader(io.BytesIO(data), len(data)))
    tensors = Tensors(storage, byteorder)
    folder = f"{root}code/"
    if not any(name.startswith(folder) for name in archive.entries):
        return Content("pytorch-zip", found, tensors)
    return Content("torchscript", found, tensors, script_parameters(_code(archive, folder, limit)))


def _code(archive: Archive, folder: str, limit: int) -> dict[str, bytes]:
    """The source texts in the folder of a TorchScript archive, together at most `limit` bytes."""
    sources: dict[str, bytes] = {}
    for name in archive.entries:
        if name.startswith(folder) and name.endswith(".py"):
            sources[name[len(folder) :]] = archive.read(name, limit).tobytes()
            limit -= len(sources[name[len(folder) :]])
    return sources


def find_pickle(archive: Archive) -> str:
    """The folder of the archive's data.pkl; CheckpointError if there is none, or several."""
    roots = [name[: -len("data.pkl")] for name in archive.entries if name.endswith("/data.pkl")]
    if "data.pkl" in archive.entries:
        roots.append("")
    if len(roots) != 1:
        raise CheckpointError(f"the zip archive has {len(roots)} entries data.pkl, expected one")
    return roots[0]


def read_legacy(file: BufferedReader, size: int) -> Content:
    """The content of a legacy PyTorch file of `size` bytes, or of a pickle alone."""
    reader = Reader(file, size)
    first = read_pickle(reader)
    if first.root != LEGACY_MAGIC:
        return _from_pickle(first, size)
    protocol = load_pickle(reader)
    if protocol != LEGACY_PROTOCOL:
        raise CheckpointError(f"legacy protocol {safe(protocol)}, expected {LEGACY_PROTOCOL}")
    if not isinstance(load_pickle(reader), dict):
        raise CheckpointError("the legacy file's facts about the system are no dictionary")
    found = read_pickle(reader)
    keys = load_pickle(reader)
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise CheckpointError("the legacy file's list of storages is no list of keys")
    places = _places(file, size, reader.position, keys, found.storages)

    def fetch(key: str, nbytes: int) -> NDArray[np.uint8]:
        if key not in places:
            raise CheckpointError(f"storage {safe(key)} is missing from the file")
        start, stored = places[key]
        if stored != nbytes:
            raise CheckpointError(f"storage {safe(key)} has {stored} bytes, expected {nbytes}")
        file.seek(start)
        return read_array(file, nbytes)

    return Content("pytorch-legacy", found, Tensors(fetch, "little"))


def _from_pickle(found: Pickle, size: int) -> Content:
    """A pickle alone, whose arrays are inside it."""

    def missing(key: str, nbytes: int) -> NDArray[np.uint8]:
        raise CheckpointError(f"storage {safe(key)} is not in the pickle")

    return Content("pickle", found, Tensors(missing, "little"), rest=size - found.size)


def _places(
    file: BufferedReader, size: int, position: int, keys: list[object], storages: dict[str, Storage]
) -> dict[str, tuple[int, int]]:
    """Start and length in bytes of each storage, listed from `position` on."""
    places: dict[str, tuple[int, int]] = {}
    for key in map(str, keys):
        if key not in storages or key in places:
            raise CheckpointError(f"storage {safe(key)} belongs to no tensor, or comes twice")
        item = stored_size(storages[key].dtype)
        if not item:
            kind = safe(storages[key].dtype)
            raise CheckpointError(f"storage {safe(key)} is of the unknown type {kind}")
        if position + 8 > size:
            raise CheckpointError(f"truncated: storage {safe(key)} is missing")
        file.seek(position)
        count = int.from_bytes(file.read(8), "little", signed=True)
        nbytes = count * item
        if count < 0 or position + 8 + nbytes > size:
            raise CheckpointError(
                f"truncated: storage {safe(key)} claims {count} elements at byte {position} "
                f"of {size}"
            )
        places[key] = position + 8, nbytes
        position += 8 + nbytes
    return places
