"""What every layer and model shares: named parameters in one flat buffer, and their mapping."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import ReferenceType

import numpy as np

from fastrnn._arrays import (
    AnyArray,
    ArrayLike,
    FloatArray,
    aligned_zeros,
    as_array,
    as_flag,
    as_float32,
    as_prefix,
    as_seed,
    with_article,
)
from fastrnn._names import listed, other_prefix
from fastrnn.nn.declared import Declared
from fastrnn.nn.making import is_unfilled, take

if TYPE_CHECKING:
    from typing_extensions import Self

TensorSpec = tuple[str, tuple[int, ...], int]  # name, shape, offset in the flat buffer in floats


_versions = count(1)  # of all modules: no two threads get the same one

_forks = [0]  # how many forks lie between this process and the one that imported fastrnn


def _count_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Unseeded(np.random.Generator):
    """A generator that starts from the system's randomness; a forked child takes another one.

    A copy of it goes on from where it is.
    """

    def __init__(self) -> None:
        super().__init__(np.random.PCG64())
        self.forks = _forks[0]


class LoadReport(NamedTuple):
    """What `load_state_dict(strict=False)` left out, as in PyTorch."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def one_after_another(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> list[TensorSpec]:
    """Tensor specifications without gaps, in the order given."""
    specs, offset = [], 0
    for name, shape in shapes:
        specs.append((name, shape, offset))
        offset += int(np.prod(shape))
    return specs


def fill_uniform(array: FloatArray, bound: float, seed: int | None = None) -> None:
    """Fill with draws from [-bound, bound)."""
    np.random.default_rng(as_seed(seed)).random(dtype=np.float32, out=array)
    array *= 2 * bound
    array -= bound


def with_shapes(mapping: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The mapping with lists and other shapeless values made into arrays."""
    if not isinstance(mapping, Mapping):
        kind = with_article(type(mapping).__name__)
        raise TypeError(f"mapping is {kind}, expected names to arrays")
    return {str(k): v if hasattr(v, "shape") else as_array(v, str(k)) for k, v in mapping.items()}


def aliases(parameters: Mapping[str, AnyArray]) -> dict[str, str]:
    """For each name whose tensor has an earlier name as well, as tied weights have: that name."""
    first: dict[tuple[Any, ...], str] = {}
    found: dict[str, str] = {}
    for name, tensor in parameters.items():
        place = tensor.ctypes.data, tensor.dtype, tensor.shape, tensor.strides
        known = first.setdefault(place, name)
        if known != name and tensor.size:
            found[name] = known
    return found


class Module(Declared):
    """Named float32 parameters, which live in one buffer.

    `parameters`: names and shapes as in `state_dict()`, but views to read and write, not copies.
    `flat`: the buffer (num_parameters + padding,) they are views of, 64-byte aligned.
    `grads` and `flat_grad`: the same for the gradients, which pullbacks add to.
    `repack()`: the kernels read a packed copy; after writing into a view or `flat`, call it.

    Threads: any number may call one module, run streams of their own, and train it with `vjp` and
    pullbacks, all at once; pullbacks add to `grads` one after another, in any order, and no
    gradient is lost. `repack` and `trim` may run meanwhile: who computes keeps the weights it began
    with. What writes parameters or gradients (`load_state_dict`, `reset_parameters`, `zero_grad`,
    an optimiser's step, a trainer) is for one thread while no other uses the module.
    Copies and pickles have all that was set, the generator's position too, and share nothing.
    """

    _is_packed_whole: ClassVar[bool] = False  # whether kernels read `flat`, not tensors
    _keeps_shape: ClassVar[bool] = False  # whether a step's value has the shape of what it reads
    # What a step reads, where the module tells: channels, (length, channels), or "tokens".
    _reads: Any = None

    flat: FloatArray
    flat_grad: FloatArray
    parameters: dict[str, FloatArray]
    grads: dict[str, FloatArray]
    _version: int = 0
    # Attributes that are made anew from the others, and from the tensors, in a copy.
    _derived: ClassVar[frozenset[str]] = frozenset(
        ("flat", "flat_grad", "parameters", "grads", "_version", "_fingerprint", "_home")
    )
    # By the name of a parameter that is another module's: that module, and the name there.
    _tied: Mapping[str, tuple[Module, str]] = MappingProxyType({})
    _home: ReferenceType[Module] | None = None  # the module in whose buffer this one lives
    _generator: np.random.Generator | None = None
    _seed: int | None = None  # what the generator began with, if that was said
    _fingerprint: tuple[tuple[int, ...], bytes] | None = None

    def _allocate(self, specs: list[TensorSpec]) -> None:
        """Own zeroed buffers with the given tensors in them; gradients cost memory once used."""
        take(type(self).__name__, specs)
        self._specs = specs
        size = sum(int(np.prod(shape)) for _, shape, _ in specs)
        self._live_in(aligned_zeros(size), aligned_zeros(size))

    def _move_to(self, flat: FloatArray, flat_grad: FloatArray) -> None:
        """Live in `flat`, part of a larger model's buffer, from now on; the values come along.

        Names have their tensors again after `_bind`.
        """
        flat[...] = self.flat
        if self.flat_grad.any():  # else nothing is touched, and takes no memory
            flat_grad[...] = self.flat_grad
        self._place(flat, flat_grad)

    def _live_in(self, flat: FloatArray, flat_grad: FloatArray) -> None:
        self._place(flat, flat_grad)
        self._bind()

    def _place(self, flat: FloatArray, flat_grad: FloatArray) -> None:
        self.flat, self.flat_grad = flat, flat_grad

    def _bind(self) -> None:
        """Give every name its tensor: a view of the own buffer, or what it is tied to."""
        self._bind_own()
        self._bind_tied()

    def _bind_own(self) -> None:
        self.parameters, self.grads = self._views(self.flat), self._views(self.flat_grad)

    def _bind_tied(self) -> None:
        """Views of the tied parameters, once all modules that own them have theirs."""
        if self._tied:
            owners = {name: self._owner_of(name) for name in self._tied}
            tied = {name: owner.parameters[of] for name, (owner, of) in owners.items()}
            self.parameters = {**tied, **self._own(self.parameters)}
            tied = {name: owner.grads[of] for name, (owner, of) in owners.items()}
            self.grads = {**tied, **self._own(self.grads)}

    def _owner_of(self, name: str) -> tuple[Module, str]:
        """The module in whose buffer a parameter is, and its name there."""
        if name not in self._tied:
            return self, name
        owner, of = self._tied[name]
        return owner._owner_of(of)

    def tie(self, owner: Module, name: str = "weight", of: str | None = None) -> None:
        """Use the parameter `of` of `owner`, by default `name`: one tensor, one gradient.

        What writes it through either module, and calls `repack()` there, changes both; copies,
        pickles and files keep the tie. Tie modules before a model is made of them. ValueError for
        another shape, for a name that is not there, for modules that would own each other's, and
        for a recurrent layer, whose weights are packed together; it may be an owner.
        """
        of = name if of is None else of
        self._check_tie(owner, name, of)
        home = self._home and self._home()
        if home is not None:
            raise ValueError(
                f"this {type(self).__name__} is part of {with_article(type(home).__name__)} "
                f"already, expected a tie by the whole of it: model.tie(model, name, of)"
            )
        self._tie(owner, name, of)

    def _tie(self, owner: Module, name: str, of: str) -> None:
        kept = {key: (self.parameters[key], self.grads[key]) for key, _, _ in self._specs}
        del kept[name]
        self._tied = {**self._tied, name: owner._owner_of(of)}
        self._allocate(one_after_another((key, p.shape) for key, (p, _) in kept.items()))
        for key, (parameter, gradient) in kept.items():
            self.parameters[key][...], self.grads[key][...] = parameter, gradient
        self.repack()

    def _check_tie(self, owner: Module, name: str, of: str) -> None:
        kind = type(self).__name__
        if not isinstance(owner, Module):
            raise TypeError(f"owner is {with_article(type(owner).__name__)}, expected a module")
        if self._is_packed_whole:
            raise ValueError(f"the parameters of this {kind} are packed together, none can be tied")
        if name not in {key for key, _, _ in getattr(self, "_specs", ())}:
            raise ValueError(f"name is {name!r}, which is no parameter of this {kind}'s own")
        if of not in owner.parameters:
            raise ValueError(f"of is {of!r}, expected one of {listed(owner.parameters)}")
        if owner is self or any(one is self for one in owner._owners()):
            raise ValueError(f"owner is {kind}, which would own a parameter that is its own")
        shape, wanted = owner.parameters[of].shape, self.parameters[name].shape
        if shape != wanted:
            raise ValueError(f"owner has {of} of shape {shape}, this {kind} expects {wanted}")

    def _owners(self) -> Iterator[Module]:
        """The modules whose parameters this one uses, and those that they use."""
        for owner, _ in self._tied.values():
            yield owner
            yield from owner._owners()

    def _views(self, flat: FloatArray) -> dict[str, FloatArray]:
        return {
            name: flat[start : start + int(np.prod(shape))].reshape(shape)
            for name, shape, start in self._specs
        }

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self.flat_grad.fill(0.0)

    @property
    def generator(self) -> np.random.Generator:
        """Where dropout takes its masks from; random until `seed` is called."""
        generator = self._generator
        if generator is None or (type(generator) is Unseeded and generator.forks != _forks[0]):
            generator = Unseeded()
            self._share_generator(generator)
        return generator

    def seed(self, seed: int | None) -> None:
        """Start the generator of dropout anew, the same for the same `seed` (an int from 0)."""
        self._seed = seed = as_seed(seed)
        self._share_generator(Unseeded() if seed is None else np.random.default_rng(seed))

    def _share_generator(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew, the same for the same `seed` (an int of 0 or more)."""
        raise NotImplementedError

    def _reset_tied(self, seed: int | None) -> None:
        """Draw the parameters that are tied, where they should start as this module's do."""

    def _fill(self) -> None:
        """The first values, unless others are about to come."""
        if not is_unfilled():
            self.reset_parameters()

    def _fill_tied(self) -> None:
        if not is_unfilled():
            self._reset_tied(None)

    @property
    def num_parameters(self) -> int:
        """How many numbers there are to learn; tied tensors count once."""
        twins = self._twins()
        return sum(p.size for name, p in self.parameters.items() if name not in twins)

    def repack(self) -> None:
        """Bring the kernels' copy up to date after writing into `parameters` or `flat`.

        Streams that were made before keep the old values.
        """
        for owner, _ in self._tied.values():
            owner.repack()
        self._version = next(_versions)

    def trim(self) -> None:
        """Let go of the memory that calls and pullbacks keep for the next ones; changes no result.

        Without it, a layer keeps up to 32 MiB of workspace and 32 MiB of tapes. Larger tapes are
        kept while training calls of about their size follow each other, until a call of the layer
        that is no training. A layer that was trained also keeps a block for its next weights.
        """

    def _versions(self) -> tuple[int, ...]:
        """Numbers that grow whenever the parameters change."""
        if not self._tied:
            return (self._version,)
        return (self._version, *(v for owner, _ in self._tied.values() for v in owner._versions()))

    def fingerprint(self) -> bytes:
        """16 bytes that differ between architectures and between parameter values."""
        cached = self._fingerprint
        if cached is None or cached[0] != self._versions():
            from hashlib import blake2b  # loads OpenSSL: not at import

            digest = blake2b(repr((type(self).__name__, self.config)).encode(), digest_size=16)
            for name, tensor in self.parameters.items():
                digest.update(f"{name}{tensor.shape}".encode())
                digest.update(tensor.data)
            cached = self._fingerprint = (self._versions(), digest.digest())
        return cached[1]

    def state_dict(self) -> dict[str, FloatArray]:
        """Copies of all parameters under PyTorch's names and shapes."""
        return {name: tensor.copy() for name, tensor in self.parameters.items()}

    def load_state_dict(
        self, mapping: Mapping[str, ArrayLike], prefix: str = "", strict: bool = True
    ) -> LoadReport:
        """Copy parameters from `mapping`, whose names start with `prefix`; all of them or none.

        With `strict`, a missing or an unexpected name under the prefix is a ValueError; a wrong
        shape always is. One name of a tied tensor is enough, and its names must not differ.
        Source: torch.nn.Module.load_state_dict.
        """
        strict = as_flag(strict, "strict")
        given = self._with_twins(_under_prefix(mapping, as_prefix(prefix)), prefix)
        found = {name: as_float32(given[name], name) for name in self.parameters if name in given}
        missing = [name for name in self.parameters if name not in given]
        unexpected = [name for name in given if name not in self.parameters]
        problems = self._misfits(found)
        if strict:
            problems = _quoted("missing", missing) + _quoted("unexpected", unexpected) + problems
        if problems:
            kind = type(self).__name__
            hint = other_prefix(mapping, self.parameters) if strict and missing else ""
            raise ValueError(
                f"these parameters do not fit this {kind}: {'; '.join(problems)}{hint}"
            )
        for name, tensor in _apart_from(self.flat, found).items():
            self.parameters[name][...] = tensor
        self.repack()
        return LoadReport(missing, unexpected)

    def _is_tied(self) -> bool:
        """True if a parameter of this module, or of a part of it, is another module's."""
        return next(self._owners(), None) is not None

    def _twins(self) -> dict[str, str]:
        """The second names of tensors that are tied within this module."""
        return aliases(self.parameters) if self._is_tied() else {}

    def _with_twins(self, given: dict[str, ArrayLike], prefix: str) -> dict[str, ArrayLike]:
        """With every name of a tied tensor of which one name is there."""
        for name, twin in self._twins().items():
            if name in given and twin in given:
                if not np.array_equal(as_float32(given[name], name), as_float32(given[twin], twin)):
                    raise ValueError(
                        f"{prefix}{twin} and {prefix}{name} differ, but this model ties them"
                    )
            elif name in given or twin in given:
                value = given.get(twin, given.get(name))
                given = {**given, name: value, twin: value}
        return given

    def _misfits(self, found: Mapping[str, FloatArray]) -> list[str]:
        return [
            f"{name} has shape {tensor.shape}, expected {self.parameters[name].shape}"
            for name, tensor in found.items()
            if tensor.shape != self.parameters[name].shape
        ]

    def __getstate__(self) -> dict[str, Any]:
        """All that a copy has: attributes, values, gradients where there are any.

        So the constructor of a subclass is not called, and what it sets comes along.
        """
        state = {name: value for name, value in vars(self).items() if name not in self._derived}
        gradients = {name: grad for name, grad in self._own(self.grads).items() if grad.any()}
        return {**state, "parameters": self._own(self.parameters), "grads": gradients}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        parameters, gradients = state.pop("parameters"), state.pop("grads")
        if "_owner" in state:  # of fastrnn 0.1, where only a linear map's weight could be tied
            state["_tied"] = {"weight": (state.pop("_owner"), "weight")}
        vars(self).update(state)
        self._restore(parameters, gradients)

    def _own(self, tensors: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Those of the tensors that are not another module's, which has a state of its own."""
        return {name: tensors[name] for name, _, _ in self._specs}

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        """Become what the module was that had these attributes and tensors."""
        self._allocate(self._specs)
        for name, tensor in parameters.items():
            self.parameters[name][...] = tensor
        for name, tensor in gradients.items():
            self.grads[name][...] = tensor
        self.repack()

    def __copy__(self) -> Self:
        """Shares nothing with the original: two modules over one buffer would train each other."""
        return deepcopy(self)


def _under_prefix(mapping: Mapping[str, ArrayLike], prefix: str) -> dict[str, ArrayLike]:
    mapping = with_shapes(mapping)
    return {k[len(prefix) :]: v for k, v in mapping.items() if k.startswith(prefix)}


def _quoted(what: str, names: list[str]) -> list[str]:
    return [f"{what} {listed(names)}"] if names else []


def _apart_from(flat: FloatArray, found: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Copies of those arrays that are views of the buffer about to be written."""
    return {n: t.copy() if np.may_share_memory(t, flat) else t for n, t in found.items()}
