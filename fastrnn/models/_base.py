"""What every model shares: being made of parts, saved, loaded, and described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from fastrnn import _core, io
from fastrnn._arrays import shown
from fastrnn._atomic import FilePath
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.composite import Composite
from fastrnn.nn.module import Module, made, unfilled
from fastrnn.nn.recurrent import GRU, LAYERS, LSTM, RNN
from fastrnn.nn.tape import as_budget

if TYPE_CHECKING:
    from typing_extensions import Self

Described = TypeVar("Described", bound="Model")
Folded = tuple[tuple[int, ...], _core.Table]  # versions of the parameters, and what they give

RNNS: dict[str, type[RNN | LSTM | GRU]] = LAYERS

_KINDS: dict[str, dict[str, type[Module]]] = {
    "embedding": {"Embedding": Embedding},
    "rnn": {kind.__name__: kind for kind in RNNS.values()},
    "head": {"Linear": Linear},
}


# Tokens are looked up in a folded table (embedding times W_ih) up to this size, because a table
# that leaves the L2 cache would cost more to read than the product it saves.
_TABLE_BUDGET_BYTES = 4 << 20


def fits_table(rnn: RNN | LSTM | GRU, vocab_size: int) -> bool:
    """Whether a folded embedding of V tokens for one direction stays within the budget."""
    return 4 * len(rnn.parameters["weight_ih_l0"]) * vocab_size <= _TABLE_BUDGET_BYTES


def folded(
    rnn: RNN | LSTM | GRU, embedding: Embedding, versions: tuple[int, ...], found: Folded | None
) -> Folded:
    """The embedding multiplied with the first layer's weights, and the versions it is made of.

    `found`, what an earlier call gave, serves as long as the versions are the same.
    """
    if found is None or found[0] != versions:
        found = versions, _core.Table(rnn._shared_stack(), embedding.weight)
    return found


class Model(Composite):
    """Parts under fixed names, options that shape the network, and settings that only train it.

    `vocabulary` and `extra`: anything that JSON can hold; saved and loaded with the model.
    """

    vocabulary: Any = None
    extra: Any = None
    _options: ClassVar[tuple[str, ...]] = ()  # attributes that belong to the architecture
    _settings: ClassVar[tuple[str, ...]] = ()  # attributes that belong to the loss

    @property
    def recurrent(self) -> dict[str, RNN | LSTM | GRU]:
        """The recurrent layers by the names that their parameters begin with."""
        return dict(_recurrent(self, ""))

    def limit_memory(self, budget: int | None) -> None:
        """Share `budget` bytes among the recurrent layers as their `memory_budget`; None: no limit.

        The shares are as their units over all layers and directions, as is what a step keeps.
        """
        budget = as_budget(budget)
        layers = list(self.recurrent.values())
        units = [rnn.num_layers * rnn.num_directions * rnn.hidden_size for rnn in layers]
        for rnn, size in zip(layers, units, strict=True):
            rnn.memory_budget = None if budget is None else max(1, budget * size // sum(units))

    # Takes parts, options and settings as they are, after checking that they fit together.
    _compose: Callable[..., None]

    @property
    def config(self) -> dict[str, Any]:
        parts = {name: (type(p).__name__, p.config) for name, p in self._parts.items()}
        return {**parts, **{name: getattr(self, name) for name in self._options}}

    def save(self, path: FilePath) -> None:
        """Write the model to a .safetensors file, whole or not at all; `fastrnn.load` reads it."""
        io.save(self, path)

    def _described(self) -> dict[str, Any]:
        """All but the parameters, for JSON."""
        settings = {name: getattr(self, name) for name in self._settings}
        own = {"vocabulary": self.vocabulary, "extra": self.extra}
        return {"config": self.config, "settings": settings, **own}

    @classmethod
    def _from_description(cls, description: Mapping[str, Any]) -> Self:
        """The model that `_described` this, with zeros as parameters."""
        config, settings = dict(description["config"]), _settings_of(description)
        with unfilled():
            parts = {name: _part(name, config.pop(name)) for name in _KINDS if name in config}
            model = cls.__new__(cls)
            made(model._compose, {**config, **settings, **parts}, "config")
        model.vocabulary, model.extra = description["vocabulary"], description["extra"]
        return model


def _recurrent(module: Module, name: str) -> Iterator[tuple[str, RNN | LSTM | GRU]]:
    if isinstance(module, (RNN, LSTM, GRU)):
        yield name, module
    elif isinstance(module, Composite):
        for key, part in module._parts.items():
            yield from _recurrent(part, f"{name}.{key}" if name else key)


def from_arguments(cls: type[Described], description: Mapping[str, Any]) -> Described:
    """A model whose config and settings are its constructor's arguments, with zeros inside."""
    arguments = {**description["config"], **_settings_of(description)}
    with unfilled():
        model = made(cls, arguments, "config")
    model.vocabulary, model.extra = description["vocabulary"], description["extra"]
    return model


def _settings_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """The settings; ValueError for a field that is missing, or twice."""
    for field in ("settings", "vocabulary", "extra"):
        if field not in description:
            raise ValueError(f"damaged: no {field!r} in it")
    settings: dict[str, Any] = description["settings"]
    for name in settings:
        if name in description["config"]:
            raise ValueError(f"damaged: config and settings both have {shown(name)}")
    return settings


def _part(name: str, description: Any) -> Module:
    if not isinstance(description, (list, tuple)) or len(description) != 2:
        raise ValueError(f"config: {name} is no pair of a kind and its arguments")
    kind, config = description
    if not isinstance(kind, str) or kind not in _KINDS[name]:
        expected = ", ".join(_KINDS[name])
        raise ValueError(f"config: {name} is a {shown(kind)}, expected one of {expected}")
    if not isinstance(config, dict):
        raise ValueError(f"config: {name} has no mapping of names to arguments")
    return made(_KINDS[name][kind], config, f"config: {name}")
