"""PyTorch's two containers: the zip archive (since 1.6) and the legacy run of pickles.

Zip: `NAME/data.pkl` is the pickle, `NAME/data/KEY` the bytes of each storage, stored without
compression, `NAME/byteorder` is "little" or "big". Legacy: pickles of a magic number, a protocol
number, facts about the system, the data and the list of storage keys, then for each key an int64
count and the elements, which PyTorch writes little-endian on every machine.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from io import BufferedReader

import numpy as np
from numpy.typing import NDArray

from ._errors import CheckpointError, shown
from ._objects import Storage
from ._pickle import load_pickle
from ._reader import Reader
from ._tensors import Tensors, item_size

__all__ = ["ZIP_ERRORS", "open_archive", "read_legacy", "read_zip"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

# What `zipfile` raises on damaged or unusual archives.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OverflowError, OSError,
)  # fmt: skip


def open_archive(file: BufferedReader) -> zipfile.ZipFile:
    """The zip archive in `file`; CheckpointError if its directory is damaged or ambiguous."""
    try:
        archive = zipfile.ZipFile(file)
    except ZIP_ERRORS as error:
        raise CheckpointError(f"truncated or corrupt zip archive ({shown(error)})") from error
    seen: set[str] = set()
    for name in archive.namelist():
        if name in seen:
            raise CheckpointError(f"the zip archive holds {shown(name)!r} more than once")
        seen.add(name)
    return archive


def read_zip(file: BufferedReader, size: int, archive: zipfile.ZipFile) -> tuple[object, Tensors]:
    """The object in a PyTorch zip file of `size` bytes, and the reader of its tensors."""
    entries = {info.filename: info for info in archive.infolist()}
    root = _root_folder(entries)
    if sum(info.file_size for info in entries.values()) > size:
        raise CheckpointError(f"the zip archive's entries claim more than the file's {size} bytes")

    def fetch(name: str) -> NDArray[np.uint8]:
        info = entries.get(f"{root}{name}")
        if info is None:
            raise CheckpointError(f"the zip archive has no entry {shown(root + name)!r}")
        return _stored_bytes(file, size, info)

    def storage(key: str, nbytes: int) -> NDArray[np.uint8]:
        info = entries.get(f"{root}data/{key}")
        if info is not None and info.file_size != nbytes:
            raise CheckpointError(
                f"storage {shown(key)} has {info.file_size} bytes, expected {nbytes}"
            )
        return fetch(f"data/{key}")

    byteorder = "little"
    if f"{root}byteorder" in entries:
        byteorder = fetch("byteorder").tobytes()[:16].decode("latin-1")
    if byteorder not in ("little", "big"):
        raise CheckpointError(f"byte order {shown(byteorder)!r}, expected 'little' or 'big'")
    pickle = fetch("data.pkl").tobytes()
    found = load_pickle(Reader(io.BytesIO(pickle), len(pickle)))
    return found, Tensors(storage, byteorder)


def _root_folder(entries: dict[str, zipfile.ZipInfo]) -> str:
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
    if "data.pkl" in entries:
        roots.append("")
    if len(roots) != 1:
        raise CheckpointError(f"the zip archive has {len(roots)} entries data.pkl, expected one")
    root = roots[0]
    if f"{root}constants.pkl" in entries or any(n.startswith(f"{root}code/") for n in entries):
        raise CheckpointError(
            "a TorchScript archive, which holds code; load it in PyTorch and save "
            "model.state_dict() instead"
        )
    return root


def _stored_bytes(file: BufferedReader, size: int, info: zipfile.ZipInfo) -> NDArray[np.uint8]:
    """The bytes of an uncompressed entry, in memory of their own."""
    name = shown(info.filename)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(f"zip entry {name!r} is compressed or encrypted, expected it stored")
    if info.compress_size != info.file_size or not 0 <= info.header_offset <= size - 30:
        raise CheckpointError(f"zip entry {name!r} has a corrupt directory record")
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04" or len(header) != 30:
        raise CheckpointError(f"zip entry {name!r} has no local header")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    start = info.header_offset + 30 + name_length + extra_length
    if start + info.file_size > size:
        raise CheckpointError(f"truncated: zip entry {name!r} ends past the end of the file")
    file.seek(start)
    data = _read_array(file, info.file_size)
    # PyTorch can be told not to compute checksums; it then writes zero.
    if info.CRC and zlib.crc32(data.data) != info.CRC:
        raise CheckpointError(f"zip entry {name!r} is corrupt (its checksum does not match)")
    return data


def _read_array(file: BufferedReader, nbytes: int) -> NDArray[np.uint8]:
    data = np.empty(nbytes, np.uint8)
    view = data.data
    done = 0
    while done < nbytes:
        got = file.readinto(view[done:])
        if not got:
            raise CheckpointError(f"truncated: {nbytes - done} bytes of a storage are missing")
        done += got
    return data


def read_legacy(file: BufferedReader, size: int) -> tuple[object, Tensors]:
    """The object in a legacy PyTorch file of `size` bytes, and the reader of its tensors."""
    reader = Reader(file, size)
    if load_pickle(reader) != LEGACY_MAGIC:
        raise CheckpointError(
            "a plain pickle, expected one written by torch.save (save model.state_dict())"
        )
    protocol = load_pickle(reader)
    if protocol != LEGACY_PROTOCOL:
        raise CheckpointError(f"legacy protocol {shown(protocol)}, expected {LEGACY_PROTOCOL}")
    if not isinstance(load_pickle(reader), dict):
        raise CheckpointError("the legacy file's facts about the system are no dictionary")
    storages: dict[str, Storage] = {}
    found = load_pickle(reader, storages)
    keys = load_pickle(reader)
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise CheckpointError("the legacy file's list of storages is no list of keys")
    sizes = {key: item_size(storage.dtype) for key, storage in storages.items()}
    places = _places(file, size, reader.position, keys, sizes)

    def fetch(key: str, nbytes: int) -> NDArray[np.uint8]:
        if key not in places:
            raise CheckpointError(f"storage {shown(key)} is missing from the file")
        start, stored = places[key]
        if stored != nbytes:
            raise CheckpointError(f"storage {shown(key)} has {stored} bytes, expected {nbytes}")
        file.seek(start)
        return _read_array(file, nbytes)

    return found, Tensors(fetch, "little")


def _places(
    file: BufferedReader, size: int, position: int, keys: list[object], sizes: dict[str, int]
) -> dict[str, tuple[int, int]]:
    """Start and length in bytes of each storage, listed from `position` on."""
    places: dict[str, tuple[int, int]] = {}
    for key in map(str, keys):
        if key not in sizes or key in places:
            raise CheckpointError(f"storage {shown(key)} belongs to no tensor, or comes twice")
        if position + 8 > size:
            raise CheckpointError(f"truncated: storage {shown(key)} is missing")
        file.seek(position)
        count = int.from_bytes(file.read(8), "little", signed=True)
        nbytes = count * sizes[key]
        if count < 0 or position + 8 + nbytes > size:
            raise CheckpointError(
                f"truncated: storage {shown(key)} claims {count} elements at byte {position} "
                f"of {size}"
            )
        places[key] = position + 8, nbytes
        position += 8 + nbytes
    return places
