"""The names of the tensors that TorchScript's code declares; the code is read as text.

A file `__torch__/torch/nn/modules/linear.py` of an archive has the classes of that module:
`class Linear(Module):`, then `__parameters__ = ["weight", "bias", ]` and `__buffers__ = []`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["script_parameters"]

MAX_PATH = 1000  # characters; a name that is longer is in no pickle that is read

_LINE = re.compile(
    rb"^(?:class (?P<name>\w+)\((?P<base>\w*)"
    rb"|  (?P<list>__parameters__|__buffers__) = (?P<of>.*)$)",
    re.MULTILINE,
)
_TEXT = re.compile(rb'"([^"\\]*)"')


def script_parameters(sources: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Per full name of a class that is a module: its parameters, then its buffers.

    `sources`: the text of each file by its path in the archive's folder `code`.
    """
    found: dict[str, list[str]] = {}
    for path, text in sources.items():
        if len(path) > MAX_PATH:
            continue
        module = path.removesuffix(".py").replace("/", ".")
        names: list[str] = []
        for line in _LINE.finditer(text):
            if line["list"]:
                names += [name.decode("utf-8", "replace") for name in _TEXT.findall(line["of"])]
            else:
                names = []
            if line["base"] == b"Module":
                found[f"{module}.{line['name'].decode()}"] = names
    return found
