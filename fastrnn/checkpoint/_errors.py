"""The one error of this package, and how text from a file is shown to a person."""

from __future__ import annotations

__all__ = ["CheckpointError", "shown"]


class CheckpointError(ValueError):
    """A file that is no readable checkpoint: truncated, corrupt, hostile or of another format."""


def shown(text: object, limit: int = 120) -> str:
    """Text from an untrusted file, safe to print: no control characters, at most `limit` long."""
    plain = str(text)
    if len(plain) > limit:
        plain = plain[: limit - 3] + "..."
    return plain if plain.isprintable() else ascii(plain)[1:-1]
