"""Short descriptions of the values of a pickle."""

from __future__ import annotations

from typing import TypeGuard

from fastrnn._arrays import cut
from fastrnn._errors import outline, safe
from fastrnn.formats.dtypes import item_size
from fastrnn.formats.torch.ndarrays import ArrayRecord
from fastrnn.formats.torch.objects import QUANTISED, OddKey, TensorRecord, is_quantised

__all__ = ["Record", "is_optimiser", "kind_of", "label_of", "problem_of"]

Record = TensorRecord | ArrayRecord


def kind_of(value: object, held: int = 0) -> str:
    """A short description of an inert object; looks into its arguments, not into containers.

    `held`: the tensors inside, which are mentioned if there are any.
    """
    within = f" with {held} tensors" if held else ""
    if value is None:
        return "None"
    if isinstance(value, (bool, int, float)):
        return f"{type(value).__name__} {safe(value, 40)}"
    if isinstance(value, str):
        return f"str {cut(value, 40)!r}"
    if isinstance(value, (list, tuple, dict, bytes)):
        return outline(value, 0) + within
    if isinstance(value, (TensorRecord, ArrayRecord)):
        return value.outline(0)
    advice = QUANTISED if is_quantised(value) else ""
    return f"object ({safe(outline(value), 200)}){within}{advice}"


def label_of(key: object) -> str:
    """The key of an entry as a part of its name."""
    if isinstance(key, str):
        return key
    return f"[{safe(key) if isinstance(key, OddKey) else kind_of(key)}]"


def problem_of(record: Record) -> str:
    """Reason why a tensor cannot become an array; empty if it can."""
    if record.problem:
        return record.problem
    if item_size(record.dtype):
        return ""
    return f"a tensor of type {safe(record.dtype)}, unknown to NumPy"


def is_optimiser(key: object, value: object) -> bool:
    """True for the state of an optimiser, told by its name or its `param_groups`."""
    named = isinstance(key, str) and ("optim" in key.lower() or key.lower() == "opt")
    return named or _has_groups(value)


def _has_groups(value: object) -> TypeGuard[dict[object, object]]:
    return isinstance(value, dict) and "param_groups" in value
