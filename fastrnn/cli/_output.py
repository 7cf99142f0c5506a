"""Streams that take whatever a command prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast


@contextmanager
def lenient_output(goes_on: bool) -> Iterator[None]:
    """While a command runs, nothing that it prints makes it fail.

    Characters that a stream's encoding lacks appear as escapes, \\u2713 for a tick; a stream that
    is closed or missing shows nothing. `goes_on`: so do streams without a reader (`| head`) and
    full disks, which are OSErrors otherwise; for standard error they never are.
    """
    with ExitStack() as stack:
        out = stack.enter_context(_replaced(sys.stdout, goes_on))
        stack.enter_context(redirect_stdout(cast(TextIO, out)))
        error = stack.enter_context(_replaced(sys.stderr, True))
        stack.enter_context(redirect_stderr(cast(TextIO, error)))
        yield


@contextmanager
def _replaced(stream: TextIO | None, goes_on: bool) -> Iterator[_Lenient]:
    """A stream inside a `_Lenient`; text that cannot be written at the end is discarded."""
    with ExitStack() as stack:
        if stream is None or getattr(stream, "closed", False):
            stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        lenient = _Lenient(stream, goes_on)
        try:
            yield lenient
        finally:
            lenient.goes_on = True
            lenient.flush()


class _Lenient:
    """A text stream; all but writing is its own."""

    def __init__(self, stream: TextIO, goes_on: bool) -> None:
        self.stream, self.goes_on = stream, goes_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            self._do(self.stream.write, text)
        except UnicodeEncodeError:
            encoding = getattr(self.stream, "encoding", None) or "ascii"
            escaped = text.encode(encoding, "backslashreplace").decode(encoding)
            self._do(self.stream.write, escaped)
        return len(text)

    def flush(self) -> None:
        self._do(self.stream.flush)

    def _do(self, way: Any, *text: str) -> None:
        try:
            way(*text)
        except OSError:
            if not self.goes_on:
                raise
            self._let_go()

    def _let_go(self) -> None:
        """Discard the buffered text and all that follows, also when the process ends."""
        try:
            place = self.stream.fileno()
        except (OSError, ValueError, AttributeError):
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, place)
        os.close(nowhere)
