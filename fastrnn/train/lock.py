"""A lock, so that one training at a time writes to one place."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakSet

from .errors import ResumeError

_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK}
_held: WeakSet[RunLock] = WeakSet()


class RunLock:
    """Inside `with`, no other training writes where this one does; ResumeError if one does already.

    The lock is the operating system's, on a file beside `path`, and ends with the process however
    that ends: a file that a killed process left behind is no lock. None: nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._place = None if path is None else path.with_name(f".{path.name}.lock")
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        if self._place is not None:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            while not self._take(self._place):
                pass
            _held.add(self)
        return self

    def _take(self, place: Path) -> bool:
        """True if the locked file is still the one that others find under its name."""
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _lock(descriptor)
            found = os.stat(place)
        except FileNotFoundError:  # taken away by the one that had it before
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _BUSY:
                raise
            raise ResumeError(
                f"{self._path} is being written by another training: wait for its end, or write "
                f"to another place"
            ) from None
        if not os.path.samestat(found, os.fstat(descriptor)):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def __exit__(self, *_: object) -> None:
        if self._descriptor is None or self._place is None:
            return
        with suppress(OSError):  # Windows keeps a file that is open
            os.unlink(self._place)
        self._let_go()
        with suppress(OSError):
            if os.name == "nt":
                os.unlink(self._place)

    def _let_go(self) -> None:
        _held.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> None:
    """Lock the file for this process; OSError if another has it, nothing where no lock can be."""
    try:
        fcntl: Any = import_module("fcntl")
    except ImportError:
        _lock_on_windows(descriptor)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            raise
        # A file system without locks, as some network ones are: better no lock than no training.


def _lock_on_windows(descriptor: int) -> None:
    msvcrt: Any = import_module("msvcrt")
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)


def _forget_after_fork() -> None:
    """Close the parent's lock in a child, which may live longer."""
    for lock in list(_held):
        lock._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
