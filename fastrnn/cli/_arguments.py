"""A parser whose last argument, of any number, may also stand behind options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """`predict MODEL --top 3 TEXT` works as `predict MODEL TEXT --top 3` does.

    `many`: the argument that takes what stands alone.
    """

    many: str | None = None

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        options, rest = super().parse_known_args(args, namespace)
        unknown = [word for word in rest if self.many is None or word.startswith("-")]
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        if rest and self.many is not None:
            setattr(options, self.many, [*getattr(options, self.many), *rest])
        return options, []
