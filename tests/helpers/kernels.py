"""Kernels that this CPU can run, and results that must not depend on which of them runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from families import FAMILIES, make

from fastrnn import _core

FUSED = ["avx2", "avx512", "neon"]  # kernels with the same bits as each other


@contextmanager
def selected(name: str) -> Iterator[None]:
    """These kernels for a while; a ValueError if this CPU has none of them."""
    before = _core.get_isa()
    _core.select_isa(name)
    try:
        yield
    finally:
        _core.select_isa(before)


def kernels() -> list[str]:
    """Names of the kernels that this CPU can run, found by asking for each."""
    found = []
    for name in ("base", *FUSED):
        try:
            with selected(name):
                found.append(name)
        except ValueError:
            continue
    return found


def layers() -> Iterator[Any]:
    """Every family in sizes below, at and above the kernels' blocks, two layers both ways."""
    for family in FAMILIES:
        for inputs, hidden in [(3, 5), (16, 17), (40, 130)]:
            yield make(family, inputs, hidden, 2, bidirectional=True)


def digest(results: Iterable[Any]) -> str:
    """A hash of all arrays; None stands for one that is not there."""
    found = hashlib.sha256()
    for array in results:
        if array is not None:
            found.update(array.tobytes())
    return found.hexdigest()


def assert_fused_kernels_agree(results: Callable[[], Iterable[Any]]) -> None:
    """`results` runs with every kind of kernels: those that fuse give the same bits."""
    hashes = set()
    for name in kernels():
        with selected(name):
            found = digest(results())
        if name in FUSED:
            hashes.add(found)
    assert len(hashes) <= 1
