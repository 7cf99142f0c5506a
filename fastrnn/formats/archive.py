"""Zip archives, read within bounds: every size is compared with the file before it is believed.

Entries are stored or deflated. The directory is read by `zipfile`; the bytes are read here, so
that an entry costs no more memory than it says, and says no more than its bytes can hold.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BufferedReader

import numpy as np
from numpy.typing import NDArray

from fastrnn._errors import safe
from fastrnn.formats.errors import CheckpointError

__all__ = ["Archive", "read_array"]

MAX_UNPACKED = 1 << 30  # bytes; all entries together may also be MAX_RATIO times the file
MAX_RATIO = 100
MAX_DEFLATE = 1032  # bytes that a deflated byte can stand for, by the format's definition
CHUNK = 1 << 20

# Errors of `zipfile` on damaged or unusual archives.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OverflowError, OSError,
)  # fmt: skip


class Archive:
    """The entries of a zip file of `size` bytes, by name."""

    def __init__(self, file: BufferedReader, size: int) -> None:
        """CheckpointError if the directory is damaged or ambiguous, or claims too much."""
        self.file, self.size = file, size
        self.entries: dict[str, zipfile.ZipInfo] = {}
        try:
            with zipfile.ZipFile(file) as archive:
                listed = archive.infolist()
        except ZIP_ERRORS as error:
            raise CheckpointError(f"truncated or corrupt zip archive ({safe(error)})") from error
        for info in listed:
            if info.filename in self.entries:
                name = safe(info.filename)
                raise CheckpointError(f"the zip archive holds {name!r} more than once")
            self.entries[info.filename] = info
        self._check_claims()

    def _check_claims(self) -> None:
        packed = sum(info.compress_size for info in self.entries.values())
        if packed > self.size:
            raise CheckpointError(
                f"the zip archive's entries claim more than the file's {self.size} bytes"
            )
        unpacked = sum(info.file_size for info in self.entries.values())
        limit = max(MAX_UNPACKED, MAX_RATIO * self.size)
        if unpacked > limit:
            raise CheckpointError(
                f"{self.size} bytes that claim to unpack to {unpacked}, expected at most {limit}"
            )
        for name, info in self.entries.items():
            if info.file_size > MAX_DEFLATE * info.compress_size + CHUNK // 1024:
                raise CheckpointError(
                    f"zip entry {safe(name)!r} claims to unpack {info.compress_size} bytes to "
                    f"{info.file_size}"
                )

    def read(self, name: str, limit: int | None = None) -> NDArray[np.uint8]:
        """The bytes of an entry, at most `limit`, in memory of their own."""
        if name not in self.entries:
            raise CheckpointError(f"the zip archive has no entry {safe(name)!r}")
        info = self.entries[name]
        if limit is not None and info.file_size > limit:
            raise CheckpointError(
                f"zip entry {safe(name)!r} claims to unpack to {info.file_size} bytes, expected "
                f"at most {limit}"
            )
        self._seek(info)
        if info.compress_type == zipfile.ZIP_STORED:
            if info.compress_size != info.file_size:
                raise CheckpointError(f"zip entry {safe(name)!r} has a corrupt directory record")
            data = read_array(self.file, info.file_size)
        else:
            data = self._inflated(info)
        # PyTorch can be told not to compute checksums; it then writes zero.
        if info.CRC and zlib.crc32(data.data) != info.CRC:
            raise CheckpointError(
                f"zip entry {safe(name)!r} is corrupt (its checksum does not match)"
            )
        return data

    def _seek(self, info: zipfile.ZipInfo) -> None:
        """Go to the first byte of an entry, once it is known to end inside the file."""
        name = safe(info.filename)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"zip entry {name!r} is compressed by method {info.compress_type}, expected it "
                f"stored or deflated"
            )
        if info.flag_bits & 1:
            raise CheckpointError(f"zip entry {name!r} is encrypted")
        if not 0 <= info.header_offset <= self.size - 30:
            raise CheckpointError(f"zip entry {name!r} has a corrupt directory record")
        self.file.seek(info.header_offset)
        header = self.file.read(30)
        if header[:4] != b"PK\x03\x04" or len(header) != 30:
            raise CheckpointError(f"zip entry {name!r} has no local header")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        start = info.header_offset + 30 + name_length + extra_length
        if start + info.compress_size > self.size:
            raise CheckpointError(f"truncated: zip entry {name!r} ends past the end of the file")
        self.file.seek(start)

    def _inflated(self, info: zipfile.ZipInfo) -> NDArray[np.uint8]:
        """The deflated bytes from the file's position on, as many as the entry says."""
        data = np.empty(info.file_size, np.uint8)
        stream, left, done = zlib.decompressobj(-zlib.MAX_WBITS), info.compress_size, 0
        pending = b""
        try:
            while not stream.eof and (left or pending):
                if not pending:
                    pending = self.file.read(min(left, CHUNK))
                    left = left - len(pending) if pending else 0
                part = stream.decompress(pending, CHUNK)
                if done + len(part) > len(data):
                    break
                data[done : done + len(part)] = np.frombuffer(part, np.uint8)
                done, pending = done + len(part), stream.unconsumed_tail
            is_whole = stream.eof and done == len(data)
        except zlib.error as error:
            raise CheckpointError(
                f"zip entry {safe(info.filename)!r} is corrupt ({safe(error)})"
            ) from error
        if not is_whole:
            raise CheckpointError(
                f"zip entry {safe(info.filename)!r} does not unpack to the {info.file_size} "
                f"bytes that it claims"
            )
        return data


def read_array(file: BufferedReader, nbytes: int) -> NDArray[np.uint8]:
    """The next `nbytes` bytes; the caller knows that the file has them."""
    data = np.empty(nbytes, np.uint8)
    view = data.data
    done = 0
    while done < nbytes:
        got = file.readinto(view[done:])
        if not got:
            raise CheckpointError(f"truncated: {nbytes - done} bytes of a storage are missing")
        done += got
    return data
