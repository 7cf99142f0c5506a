"""The one error of this package."""

from __future__ import annotations

__all__ = ["CheckpointError"]


class CheckpointError(ValueError):
    """A file that is no readable checkpoint: truncated, corrupt, hostile or of another format."""
