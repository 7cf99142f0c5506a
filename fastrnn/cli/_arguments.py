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
        if self.many is None:
            return options, rest
        unknown = [word for word in rest if word.startswith("-")]
        if not unknown and rest:
            setattr(options, self.many, [*getattr(options, self.many), *rest])
            rest = []
        return options, rest
