"""Everything that a training is, in one .safetensors file, and back.

Parameters have their own names, so that whatever reads weights can read this file; the other
arrays are called training/...; all that is no array is JSON in the metadata.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrnn._arrays import AnyArray

from ._errors import ResumeError
from ._protocols import Model, Source
from ._run import RunState
from ._tree import arrays_of, join, split

if TYPE_CHECKING:
    from ._trainer import Trainer

_KEY = "fastrnn_training"
_VERSION = 1


def save_training(path: Path, trainer: Trainer, source: Source, run: RunState) -> None:
    """Write the checkpoint; the file at `path` is the old one or the new one at any moment."""
    arrays = parameters_of(trainer.model)
    states = {name: part.state_dict() for name, part in _stateful(trainer, source).items()}
    about = {
        "version": _VERSION,
        "belongs": _belongs(trainer, source),
        "states": split(states, "training", arrays),
        "run": split(_plain(run), "training/run", arrays),
        "generator": split(_generator_state(trainer.model), "training/generator", arrays),
        "steps": trainer.steps,
        "first_loss": trainer.first_loss,
        "lr": float(trainer.optimizer.lr),
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
    from fastrnn.checkpoint._write_safetensors import write_safetensors

    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(arrays, {_KEY: json.dumps(about), "format": "np"}, path)


def load_training(path: Path, trainer: Trainer, source: Source, restore_best: bool) -> RunState:
    """Bring trainer, model and source to where the checkpoint was made.

    ResumeError if it belongs to others, or lacks the best parameters and they are to be restored;
    whatever can be checked is checked before any change.
    """
    arrays, about = _read(path)
    _check(about["belongs"], _belongs(trainer, source), path)
    states, run = join(about["states"], arrays), RunState(**join(about["run"], arrays))
    if restore_best and run.best_loss is not None and run.best_flat is None:
        raise ResumeError(
            f"{path} has no best parameters to restore: restore_best was not asked for before"
        )
    _check_data(run.data, source, path)
    for name, part in _stateful(trainer, source).items():
        try:
            part.load_state_dict(states[name])
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(f"{path} does not fit this {name}: {error}") from error
    model = trainer.model
    for name, tensor in parameters_of(model).items():
        tensor[...] = arrays[name]
    model.repack()
    _restore_generator(model, join(about["generator"], arrays))
    trainer.steps, trainer.first_loss = about["steps"], about["first_loss"]
    trainer.optimizer.lr = about["lr"]
    return run


def beginning(source: Source) -> dict[str, Any]:
    """Where the source stands, and a digest of the batch that comes next."""
    from hashlib import blake2b  # loads OpenSSL: not at import

    place = source.state_dict()
    batch = next(iter(source.batches()), None)
    source.load_state_dict(place)
    digest = blake2b(digest_size=16)
    for array in () if batch is None else arrays_of((batch.inputs, batch.targets, batch.lengths)):
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return {"place": place, "digest": digest.hexdigest()}


def _check_data(data: dict[str, Any], source: Source, path: Path) -> None:
    """The source must give what it gave when the training began; it is then back there."""
    try:
        source.load_state_dict(data["place"])
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{path} does not fit this source: {error}") from error
    if beginning(source)["digest"] != data["digest"]:
        raise ResumeError(f"{path} is of another training: its source gave other batches")


def parameters_of(model: Model) -> dict[str, AnyArray]:
    """Parameters by name; tied ones, which are the same memory, once."""
    found: dict[tuple[int, int], str] = {}
    for name, tensor in model.parameters.items():
        found.setdefault((tensor.ctypes.data, tensor.size), name)
    return {name: model.parameters[name] for name in found.values()}


def _stateful(trainer: Trainer, source: Source) -> dict[str, Any]:
    parts = {"source": source, "optimizer": trainer.optimizer, "truncation": trainer.truncation}
    if hasattr(trainer.schedule, "state_dict"):
        parts["schedule"] = trainer.schedule
    return {name: part for name, part in parts.items() if part is not None}


def _plain(run: RunState) -> dict[str, Any]:
    return {field.name: getattr(run, field.name) for field in fields(run)}


def _belongs(trainer: Trainer, source: Source) -> dict[str, Any]:
    """What a resumed training must have in common with the saved one."""
    model, schedule = trainer.model, trainer.schedule
    names = {name: list(tensor.shape) for name, tensor in model.parameters.items()}
    config = getattr(model, "config", {})
    return {
        "model": type(model).__name__,
        "architecture": json.loads(json.dumps(config, default=str)),
        "parameters": names,
        "optimizer": type(trainer.optimizer).__name__,
        "schedule": None if schedule is None else type(schedule).__name__,
        "truncation": trainer.truncation is not None,
        "accumulate": trainer.accumulate,
        "source": type(source).__name__,
    }


def _check(saved: dict[str, Any], ours: dict[str, Any], path: Path) -> None:
    for what, own in ours.items():
        theirs = saved.get(what)
        if theirs == own:
            continue
        if isinstance(own, dict) and isinstance(theirs, dict):
            key = next(k for k in [*theirs, *own] if theirs.get(k) != own.get(k))
            what, theirs, own = f"{what} {key!r}", theirs.get(key), own.get(key)
        raise ResumeError(f"{path} is of another training: {what} is {own!r}, there {theirs!r}")


def _generator_state(model: Model) -> Any:
    generator = getattr(model, "generator", None)
    return None if generator is None else generator.bit_generator.state


def _restore_generator(model: Model, state: Any) -> None:
    generator = getattr(model, "generator", None)
    if generator is not None and state is not None:
        generator.bit_generator.state = state


def _read(path: Path) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            if about.get("version") != _VERSION:
                raise ResumeError(f"{path} holds no training to go on with, expected one of fit")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except SafetensorError as error:
        raise ResumeError(f"{path} is truncated or corrupt: {error}") from error
