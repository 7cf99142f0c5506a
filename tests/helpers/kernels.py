"""Which kernels this CPU can run, and results that must not depend on which of them runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from families import FAMILIES, make
from processes import run_python

from fastrnn import _core

FUSED = ["avx2", "avx512", "neon"]  # kernels with the same bits as each other


def kernels() -> list[str]:
    """What this CPU can run, found by asking for each; the choice is put back."""
    before, found = _core.get_isa(), []
    for name in ("base", *FUSED):
        try:
            _core.select_isa(name)
        except ValueError:
            continue
        found.append(name)
    _core.select_isa(before)
    return found


def layers() -> Iterator[Any]:
    """Every family in sizes below, at and above the kernels' blocks, two layers both ways."""
    for family in FAMILIES:
        for inputs, hidden in [(3, 5), (16, 17), (40, 130)]:
            yield make(family, inputs, hidden, 2, bidirectional=True)


def tell(results: Iterable[Any]) -> None:
    """Print the kernels in use and a hash of all arrays; None stands for one that is not there."""
    digest = hashlib.sha256()
    for array in results:
        if array is not None:
            digest.update(array.tobytes())
    print(_core.get_isa(), digest.hexdigest())


def assert_fused_kernels_agree(code: str) -> None:
    """`code` runs in a process for each kind of kernels, and `tell`s what it found."""
    hashes = set()
    for name in kernels():
        done = run_python(code, FASTRNN_ISA=name)
        assert done.returncode == 0, done.stderr
        isa, digest = done.stdout.split()
        assert isa == name
        if name in FUSED:
            hashes.add(digest)
    assert len(hashes) <= 1
