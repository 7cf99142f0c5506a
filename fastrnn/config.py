"""Settings of the whole process: instruction set and threads, and a report of what is in use.

Nothing is read at import. The first call that computes, and every function here, reads the
environment: FASTRNN_ISA, FASTRNN_NUM_THREADS, OMP_NUM_THREADS, the processors that the process may
use. While a variable is wrong each of them raises the same ValueError; afterwards nothing is read
again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastrnn import _core
from fastrnn._arrays import as_size
from fastrnn._cgroups import processor_limit

_MAX_THREADS = 256


def set_num_threads(n: int) -> None:
    """Let a call use up to `n` threads (1 to 256); results do not depend on it, bit for bit.

    ValueError if the environment is wrong, which is read first.
    """
    _core.set_num_threads(as_size(n, "n"))


def get_num_threads() -> int:
    """Threads that a call may use; by default the environment's, or as many as processors."""
    return _core.get_num_threads()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """`with num_threads(n):` sets the number of threads and puts the old one back at the end."""
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def show_config() -> dict[str, Any]:
    """What was found and chosen: version, instruction set, threads, environment variables."""
    from fastrnn import __version__

    names = ("FASTRNN_ISA", "FASTRNN_NUM_THREADS", "OMP_NUM_THREADS")
    return {
        "version": __version__,
        "isa": _core.get_isa(),
        "num_threads": get_num_threads(),
        "threads_available": _core.threads_available(),
        "environment": {name: os.environ[name] for name in names if name in os.environ},
    }


def _from_environment(name: str) -> int | None:
    """A number of threads from the environment; OpenMP's variable may be a list by level."""
    text = os.environ.get(name, "").split(",")[0].strip()
    if not text:
        return None
    digits = text.lstrip("0")
    if not text.isdecimal() or not digits:
        raise ValueError(f"{name} is {text!r}, expected a number of threads, at least 1")
    return min(int(digits[:9]), _MAX_THREADS)


def _from_openmp() -> int | None:
    """The number in OpenMP's variable, which is not ours to complain about."""
    try:
        return _from_environment("OMP_NUM_THREADS")
    except ValueError:
        return None


def _default_threads() -> int:
    chosen = _from_environment("FASTRNN_NUM_THREADS") or _from_openmp()
    if chosen:
        return chosen
    has_affinity = hasattr(os, "sched_getaffinity")
    processors = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(processors, processor_limit() or processors, _MAX_THREADS)


def _read_environment() -> None:
    """Choose kernels and threads as the variables say; ValueError names a wrong one."""
    isa = os.environ.get("FASTRNN_ISA") or None
    if not _core.choose(isa, _default_threads()):
        raise ValueError(f'FASTRNN_ISA is {isa!r}: this CPU or build has no "{isa}" kernels')


_core.on_first_use(_read_environment)
