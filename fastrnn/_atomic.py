"""Writing a file so that there is always a whole one: the old until the new is on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

FilePath = str | os.PathLike[str]


@contextmanager
def replacing(path: FilePath) -> Iterator[BinaryIO]:
    """A new file beside `path` that takes its place when the block ends without an error.

    After an error, or a kill, what was at `path` before is still there, unchanged; what a killed
    process left behind is overwritten by the next save. OSError names `path`.
    """
    target = os.path.realpath(os.fsdecode(path))  # a link stays a link
    part = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.part")
    try:
        with suppress(FileNotFoundError):
            os.unlink(part)
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        reason = f"{error.strerror or error}, an earlier file is untouched"
        raise OSError(error.errno, reason, os.fsdecode(path)) from error
    finally:
        with suppress(OSError):
            os.unlink(part)
    _sync_folder(os.path.dirname(target))


def _sync_folder(folder: str) -> None:
    """Make the new name last; some file systems cannot, and then have no need to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
