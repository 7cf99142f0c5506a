"""The identity of a training, which must be the same when it goes on.

The rule: all that the saved state depends on must be the same, or a ResumeError names it: the
model, its architecture with its dropout and its loss; the optimiser's kind, and options that decide
which vectors it keeps; batches, their data and their order, training's and validation's; how
batches become steps; and every seed that is given. All else is used as it is given: the optimiser's
other options, the schedule, limits, ends, and what is written when.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastrnn._arrays import shown
from fastrnn.nn.module import aliases

from .protocols import Model, Source
from .step import Stepper

# Settings of a model that act on training alone; the others decide what its loss means.
USED_SETTINGS = {"weight_drop", "locked_dropout", "sampling_probability", "sampling_temperature"}


def belongings(stepper: Stepper, source: Source, validation: Source | None) -> dict[str, Any]:
    """The identity as JSON holds it."""
    model = stepper.model
    settings = [name for name in getattr(model, "_settings", ()) if name not in USED_SETTINGS]
    found = {
        "model": type(model).__name__,
        "architecture": getattr(model, "config", {}),
        "loss": {name: getattr(model, name) for name in settings},
        "parameters": {name: list(p.shape) for name, p in model.parameters.items()},
        "optimizer": type(stepper.optimizer).__name__,
        "truncation": stepper.truncation is not None,  # which checks the rest itself
        "accumulate": stepper.accumulate,
        "source": _described(source),
        "validation": None if validation is None else _described(validation),
        "seed": _seeds(stepper, source),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def differences(saved: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """A short text for everything that is not as it was, with both values."""
    for what, own in ours.items():
        theirs = saved.get(what)
        if what == "validation" and (own is None or theirs is None):
            continue  # validation may begin or end
        if what == "parameters" and saved.get("architecture") != ours["architecture"]:
            continue  # that says it better
        if what == "seed":  # one that is not given is not asked for
            own = {name: seed for name, seed in own.items() if seed is not None}
            theirs = {name: (theirs or {}).get(name) for name in own}
        yield from _between(what, theirs, own)


def _between(what: str, theirs: Any, own: Any) -> Iterator[str]:
    if theirs == own:
        return
    if isinstance(own, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*theirs, *own]):
            yield from _between(f"{what} {key!r}", theirs.get(key), own.get(key))
    elif _is_part(own) and _is_part(theirs) and own[0] == theirs[0]:
        yield from _between(what, theirs[1], own[1])
    else:
        yield f"{what} is {shown(own)}, there {shown(theirs)}"


def _is_part(value: Any) -> bool:
    """A part of an architecture: its kind and its config."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict)


def _described(source: Source) -> dict[str, Any]:
    """The kind of a source, and its sizes and settings if it tells them."""
    about = source.state_dict().get("source")
    return {"type": type(source).__name__, **(about if isinstance(about, dict) else {})}


def _seeds(stepper: Stepper, source: Source) -> dict[str, int | None]:
    """Seeds that the generators began with, None where none was given."""
    found = {
        "model": getattr(stepper.model, "_seed", None),  # its `seed` is a method
        "source": getattr(source, "seed", None),
        "truncation": getattr(stepper.truncation, "seed", None),
    }
    return {name: seed if isinstance(seed, int) else None for name, seed in found.items()}


def parameters_of(model: Model) -> dict[str, Any]:
    """Parameters by name; tied ones, which are the same memory, once."""
    twins = aliases(model.parameters)
    return {name: p for name, p in model.parameters.items() if name not in twins}
