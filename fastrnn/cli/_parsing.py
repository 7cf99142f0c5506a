"""JSON and TOML from files: no key is lost, and an error is one sentence."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from fastrnn._json import DigitsError, NestingError, read_json


def parse_json(text: str, name: str) -> Any:
    """The value of a JSON text; ValueError for text that is none; errors call the file `name`.

    A key that comes twice is an error: the first of its values would be lost. For the other bounds
    see `fastrnn._json`.
    """
    return _parsed(lambda: read_json(text, finite=False), name, "JSON")


def parse_toml(text: str, name: str) -> Any:
    """The table of a TOML text, by the standard library since Python 3.11, by tomli before."""
    for module in ("tomllib", "tomli"):
        try:
            toml: Any = import_module(module)
            break
        except ImportError:
            continue
    else:
        raise ValueError(
            f"{name}: TOML needs Python 3.11, or: pip install tomli; JSON works as well"
        )

    def read() -> Any:
        try:
            return toml.loads(text)
        except toml.TOMLDecodeError:
            raise
        except ValueError as error:  # of Python's own reader of ints
            raise DigitsError(str(error)) from None

    return _parsed(read, name, "TOML")


def _parsed(read: Callable[[], Any], name: str, kind: str) -> Any:
    try:
        return read()
    except (RecursionError, NestingError):
        raise ValueError(f"{name} is no {kind} that can be read: it is nested too deeply") from None
    except DigitsError:
        raise ValueError(f"{name} holds an int of too many digits") from None
    except ValueError as error:
        raise ValueError(f"{name} is no {kind}: {error}") from error
