"""Checkpoints: the whole state of a training in one .safetensors file, written and read.

Parameters have their own names, so that whatever reads weights can read this file; the other
arrays are called training/...; everything else is JSON in the metadata, which begins with a
checksum of the whole file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fastrnn._arrays import AnyArray, as_int
from fastrnn.formats.own import TRAINING_KEY

from .errors import ResumeError
from .fingerprint import change_of
from .identity import belongings, differences, parameters_of
from .protocols import Model, Source
from .settings import RunState
from .step import Stepper
from .tree import join, split

_VERSION = 2

# Errors of reading a file that was changed together with its checksum.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)


def save_training(
    path: Path, stepper: Stepper, source: Source, validation: Source | None, run: RunState
) -> None:
    """Write the checkpoint; the file at `path` is the old one or the new one at any moment."""
    arrays = parameters_of(stepper.model)
    about = {
        "version": _VERSION,
        "belongs": belongings(stepper, source, validation),
        "states": split(_states(stepper, source), "training", arrays),
        "schedule": _described(stepper.schedule),
        "run": split(_plain(run), "training/run", arrays),
        "generator": split(_generator_state(stepper.model), "training/generator", arrays),
        "steps": stepper.steps,
        "first_loss": stepper.first_loss,
        "lr": stepper.next_lr(),
    }
    _write(path, arrays, about)


def save_best(path: Path, model: Model, about: dict[str, Any]) -> None:
    """Write the model alone, by its own `save`, which must be atomic, if it has one."""
    save = getattr(model, "save", None)
    if save is None:
        _write(path, parameters_of(model), about)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)


def _write(path: Path, arrays: dict[str, AnyArray], about: dict[str, Any]) -> None:
    from fastrnn.formats.safetensors import write_safetensors

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {TRAINING_KEY: json.dumps(about), "format": "np"}
    write_safetensors(arrays, metadata, path, checksum=True)


def load_training(
    path: Path,
    stepper: Stepper,
    source: Source,
    validation: Source | None,
    restore_best: bool,
) -> RunState:
    """Restore stepper, model and source from a checkpoint; options stay as given.

    ResumeError, and nothing changed, if the file is damaged, belongs to others, or lacks the best
    parameters and they are to be restored.
    """
    try:
        saved = _Saved(*_read(path), stepper.model)
        _check(saved, stepper, source, validation, restore_best, path)
    except ResumeError:
        raise
    except _UNREADABLE as error:
        raise ResumeError(f"{path} holds no training that can go on: {error!r:.300}") from error
    parts = _stateful(stepper, source)
    if _described(stepper.schedule) != saved.schedule:
        parts.pop("schedule", None)  # another one, or with other arguments: it begins with them
    _load_parts(parts, saved.states, path)
    for name, tensor in parameters_of(stepper.model).items():
        tensor[...] = saved.parameters[name]
    stepper.model.repack()
    _restore_generator(stepper.model, saved.generator)
    stepper.steps, stepper.first_loss = saved.steps, saved.first_loss
    stepper.optimizer.lr = stepper.next_lr()
    return saved.run


class _Saved:
    """Content of a checkpoint; KeyError and others where it is not what was written."""

    def __init__(self, arrays: dict[str, AnyArray], about: dict[str, Any], model: Model) -> None:
        self.belongs: dict[str, Any] = about["belongs"]
        self.schedule = about["schedule"]
        self.states: dict[str, Any] = join(about["states"], arrays)
        self.run = RunState(**join(about["run"], arrays))
        self.generator = _checked_generator(model, join(about["generator"], arrays))
        self.steps = as_int(about["steps"], "steps")
        loss = about["first_loss"]
        self.first_loss = None if loss is None else float(loss)
        self.parameters = {name: arrays[name] for name in parameters_of(model) if name in arrays}


def _check(
    saved: _Saved,
    stepper: Stepper,
    source: Source,
    validation: Source | None,
    restore_best: bool,
    path: Path,
) -> None:
    """ResumeError if this training is not the one that was saved, or its data is other data."""
    problems = list(differences(saved.belongs, belongings(stepper, source, validation)))
    problems += _clashes(stepper, saved.states)
    for what, given in {"source": source, "validation": validation}.items():
        began = saved.run.data[what]
        if given is None or began is None or any(p.startswith(what) for p in problems):
            continue  # none to compare, or said already
        change = change_of(began, given, what)
        problems += [] if change is None else [change]
    if problems:
        raise ResumeError(
            f"{path} is of another training: {'; '.join(problems)}", differences=problems
        )
    for name, tensor in parameters_of(stepper.model).items():
        if saved.parameters[name].shape != tensor.shape:
            raise ValueError(f"{name} has shape {saved.parameters[name].shape}")
    if restore_best and saved.run.best_loss is not None and saved.run.best_flat is None:
        raise ResumeError(
            f"{path} has no best parameters to restore: restore_best was not asked for before"
        )


def _load_parts(parts: dict[str, Any], states: dict[str, Any], path: Path) -> None:
    """Load the states of all parts, or change none of them."""
    before: dict[str, Any] = {}
    for name, part in parts.items():
        before[name] = part.state_dict()
        try:
            _load_part(part, states[name])
        except _UNREADABLE as error:
            for done, state in before.items():
                parts[done].load_state_dict(state)
            raise ResumeError(f"{path} does not fit this {name}: {error}") from error


def _load_part(part: Any, state: Any) -> None:
    """Load one state; the optimiser keeps the options that were given for this training."""
    if hasattr(part, "resume"):
        part.resume(state)
    elif hasattr(part, "lr") and not callable(part.lr):
        lr = part.lr
        part.load_state_dict(state)
        part.lr = lr
    else:
        part.load_state_dict(state)


def _clashes(stepper: Stepper, states: Mapping[str, Any]) -> list[str]:
    """Options of the optimiser that the saved state cannot go on with."""
    clashes = getattr(stepper.optimizer, "clashes", None)
    saved = states.get("optimizer", {})
    if clashes is None or saved.get("kind") != type(stepper.optimizer).__name__:
        return []
    return [
        f"{name} of the optimizer is {own!r}, there {theirs!r}"
        for name, (own, theirs) in clashes(saved).items()
    ]


def _stateful(stepper: Stepper, source: Source) -> dict[str, Any]:
    parts = {"source": source, "optimizer": stepper.optimizer, "truncation": stepper.truncation}
    if hasattr(stepper.schedule, "state_dict"):
        parts["schedule"] = stepper.schedule
    return {name: part for name, part in parts.items() if part is not None}


def _states(stepper: Stepper, source: Source) -> dict[str, Any]:
    """States of all parts, in which the optimiser's learning rate is that of the next step.

    So is the rate that PyTorch's optimisers hold after `scheduler.step()`. It follows from the
    schedule and the number of steps alone, so that a run that had ended saves the same again.
    """
    states = {name: part.state_dict() for name, part in _stateful(stepper, source).items()}
    if "lr" in states["optimizer"]:
        states["optimizer"] = {**states["optimizer"], "lr": stepper.next_lr()}
    return states


def _described(schedule: Any) -> Any:
    """The kind of a schedule, with its arguments if it tells them; None without one."""
    if schedule is None:
        return None
    describe = getattr(schedule, "describe", None)
    return {"kind": type(schedule).__name__} if describe is None else describe()


def _plain(run: RunState) -> dict[str, Any]:
    return {field.name: getattr(run, field.name) for field in fields(run)}


def _generator_state(model: Model) -> Any:
    generator = getattr(model, "generator", None)
    return None if generator is None else generator.bit_generator.state


def _checked_generator(model: Model, state: Any) -> Any:
    """The state, if a generator like the model's takes it."""
    generator = getattr(model, "generator", None)
    if generator is not None and state is not None:
        type(generator.bit_generator)().state = state
    return state


def _restore_generator(model: Model, state: Any) -> None:
    generator = getattr(model, "generator", None)
    if generator is not None and state is not None:
        generator.bit_generator.state = state


def _read(path: Path) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    """The arrays and the rest of a file that is whole and that `save_training` wrote."""
    from safetensors import SafetensorError, safe_open

    from fastrnn.formats.safetensors import is_whole

    whole = is_whole(path)  # first, as damaged metadata may be anything
    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {}).get(TRAINING_KEY, "{}"))
            problem = _problem(whole, about.get("version"))
            if problem is not None:
                raise ResumeError(f"{path} {problem}")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except ResumeError:
        raise
    except (SafetensorError, *_UNREADABLE, RecursionError, MemoryError) as error:
        raise ResumeError(f"{path} is truncated or corrupt: {error!s:.300}") from error


def _problem(whole: bool | None, version: Any) -> str | None:
    """Reason why a file is no training that can go on; None if it is one."""
    if whole is False:
        return "is damaged: its checksum is not that of its content"
    if version == 1:
        return (
            "is a training of an earlier fastrnn, which this one cannot go on with: "
            "fastrnn.read_checkpoint reads its parameters"
        )
    if version != _VERSION or not whole:
        return "holds no training to go on with, expected one of fit"
    return None
