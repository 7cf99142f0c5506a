"""The one error of this package, and how values from a file are shown to a person."""

from __future__ import annotations

import os

from fastrnn._arrays import cut

__all__ = ["CheckpointError", "outline", "safe"]

MAX_PARTS = 4  # entries of a container that are shown


class CheckpointError(ValueError):
    """A file that is no readable checkpoint: truncated, corrupt, hostile or of another format."""


def safe(value: object, limit: int = 120) -> str:
    """A value from an untrusted file, safe to print: no control characters, at most `limit` long.

    The text of a container is never made: it may be longer than any memory.
    """
    plain = value if isinstance(value, str) else _plain(value)
    plain = cut(plain, limit)
    if not plain.isprintable():
        plain = ascii(plain)[1:-1][:limit]
    return plain


def _plain(value: object) -> str:
    if isinstance(value, BaseException):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    return outline(value, 0)


def outline(value: object, depth: int = 1) -> str:
    """A few words on any value of a pickle: containers by kind and size, deeper than `depth`."""
    if value is None or isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        wide = value.bit_length()
        return str(value) if wide <= 256 else f"an integer of {wide} bits"
    if isinstance(value, str):
        return repr(cut(value, 40))
    if isinstance(value, (list, tuple)) and depth > 0:
        return "(" + ", ".join(outline_parts(value, depth - 1)) + ")"
    if isinstance(value, (list, tuple, dict, bytes)):
        return f"{type(value).__name__} of {len(value)}"
    described = getattr(value, "outline", None)
    return str(described(depth)) if callable(described) else f"object ({type(value).__name__})"


def outline_parts(values: list[object] | tuple[object, ...], depth: int) -> list[str]:
    """The first few values, each in a few words, and how many there are besides."""
    parts = [outline(value, depth) for value in values[:MAX_PARTS]]
    return [*parts, f"and {len(values) - MAX_PARTS} more"] if len(values) > MAX_PARTS else parts
