"""Brings the names of tensors to plain PyTorch names, and folds weight norm into plain weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from fastrnn._errors import safe
from fastrnn.formats.dtypes import Array
from fastrnn.formats.errors import CheckpointError

__all__ = ["clean_names", "fold_weight_norm", "take_raw_weights"]

T = TypeVar("T")

_RAW = re.compile(r"(weight_(?:ih|hh|hr)_l[0-9]+(?:_reverse)?)_raw")
_PARALLEL = "module."  # DataParallel's prefix, and that of fastai's weight dropout


def clean_names(tensors: dict[str, T], notes: list[str]) -> dict[str, T]:
    """The same tensors without `_orig_mod.` (torch.compile) and a `module.` shared by all.

    A renaming that would give two tensors one name is left out, and noted.
    """
    tensors = _renamed(tensors, _without_compile, notes)
    shared = min(map(_parallel_length, tensors), default=0)
    return {name[shared:]: tensor for name, tensor in tensors.items()} if shared else tensors


def _parallel_length(name: str) -> int:
    """Length of the `module.module....` that a name begins with, its last part excepted."""
    end, step = 0, len(_PARALLEL)
    while name.startswith(_PARALLEL, end) and len(name) > end + step:
        end += step
    return end


def _without_compile(name: str) -> str:
    parts = name.split(".")
    return ".".join([p for p in parts[:-1] if p != "_orig_mod"] + parts[-1:])


def _renamed(tensors: dict[str, T], rename: Callable[[str], str], notes: list[str]) -> dict[str, T]:
    new = {name: rename(name) for name in tensors}
    if len(set(new.values())) < len(new):
        notes.append("prefixes were kept: without them two tensors would have one name")
        return tensors
    return {new[name]: tensor for name, tensor in tensors.items()}


def fold_weight_norm(tensors: dict[str, Array], notes: list[str]) -> dict[str, Array]:
    """Replaces magnitude and direction by the weight g * v / ||v||, as torch's weight_norm.

    Reads the old names `weight_g`, `weight_v` and the parametrised `original0`, `original1`. The
    norm runs over all dimensions where g has size 1. Pairs that do not fit are kept, and noted.
    """
    result = dict(tensors)
    done: dict[tuple[object, ...], Array] = {}
    budget = _stored_elements(tensors)
    for name in tensors:
        pair = _norm_pair(name)
        if pair is None or pair[0] not in tensors:
            continue
        partner, plain = pair
        g, v = tensors[name], tensors[partner]
        if plain in result or not _norm_fits(g, v):
            notes.append(f"{safe(name)} and {safe(partner)} were kept: they are no weight norm")
            continue
        identity = (*_identity(g), *_identity(v))
        if identity not in done:
            budget -= v.size
            if budget < 0:
                raise CheckpointError("weight norm repeats more elements than the file stores")
            done[identity] = _normed(g, v)
        del result[name], result[partner]
        result[plain] = done[identity]
    if done:
        notes.append(f"weight norm was folded into {len(done)} plain weights")
    return result


def _norm_pair(name: str) -> tuple[str, str] | None:
    """For the name of a magnitude: the name of its direction and of the plain weight."""
    owner, dot, last = name.rpartition(".")
    if last.endswith("_g") and last.startswith("weight"):
        return f"{name[:-1]}v", name[:-2]
    if last != "original0":
        return None
    owner, _, plain = owner.rpartition(".")
    above, dot, form = owner.rpartition(".")
    if form != "parametrizations" or not plain:
        return None
    return f"{name[:-1]}1", f"{above}{dot}{plain}"


def _norm_fits(g: Array, v: Array) -> bool:
    if not all(a.dtype.kind == "f" for a in (g, v)):
        return False
    if g.ndim == 0:
        return True
    wide = [axis for axis in range(g.ndim) if g.shape[axis] != 1]
    return g.ndim == v.ndim and len(wide) <= 1 and all(g.shape[a] == v.shape[a] for a in wide)


def _normed(g: Array, v: Array) -> Array:
    axes = tuple(a for a in range(v.ndim) if g.ndim == 0 or g.shape[a] == 1)
    wide = v.astype(np.float64)
    with np.errstate(all="ignore"):  # a zero or overflowing direction gives what torch gives
        norm = np.sqrt(np.sum(wide * wide, axis=axes, keepdims=True))
        weight = g.astype(np.float64) * wide / norm
        return np.asarray(weight, dtype=v.dtype)


def _identity(array: Array) -> tuple[object, ...]:
    """Equal for two arrays that show the same memory in the same way."""
    return (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)


def _stored_elements(tensors: dict[str, Array]) -> int:
    stored: dict[int, int] = {}
    for array in tensors.values():
        base = array.base if isinstance(array.base, np.ndarray) else array
        stored[id(base)] = base.size
    return sum(stored.values())


def take_raw_weights(tensors: dict[str, Array], notes: list[str]) -> dict[str, Array]:
    """Uses fastai's undropped `weight_hh_l0_raw` for `weight_hh_l0`.

    The plain weight lies beside it or in `module.`; that inner prefix is then taken away from the
    tensors right inside it, so that all tensors of the layer share one prefix.
    """
    result = dict(tensors)
    owners: dict[str, None] = {}
    for name, tensor in tensors.items():
        owner, dot, last = name.rpartition(".")
        raw = _RAW.fullmatch(last)
        if raw is None:
            continue
        inner, plain = (f"{owner}{dot}{module}{raw[1]}" for module in (_PARALLEL, ""))
        target = inner if inner in result else plain
        if target in result and result[target].shape != tensor.shape:
            notes.append(f"{safe(name)} was kept: {safe(target)} has another shape")
            continue
        del result[name]
        result[target] = tensor
        owners[owner + dot] = None
        notes.append(f"{safe(target)} is taken from {safe(name)}, the weight before dropout")
    return _without_inner(result, owners, notes) if owners else result


def _without_inner(
    tensors: dict[str, Array], owners: dict[str, None], notes: list[str]
) -> dict[str, Array]:
    """The tensors `{owner}module.{last}` as `{owner}{last}`, unless two would have one name."""
    new: dict[str, str] = {}
    taken: dict[str, str] = {}  # new name -> owner
    clashing: set[str] = set()
    for name in tensors:
        inner, dot, last = name.rpartition(".")
        owner = (inner + dot).removesuffix(_PARALLEL)
        if owner != inner + dot and owner in owners:
            new[name] = owner + last
            taken[owner + last] = owner
    for name in tensors:
        if name in taken and name not in new:
            clashing.add(taken[name])
    for owner in clashing:
        notes.append(f"{safe(owner)}{_PARALLEL} was kept: without it two tensors share a name")
    return {
        new[name] if name in new and taken[new[name]] not in clashing else name: tensor
        for name, tensor in tensors.items()
    }
