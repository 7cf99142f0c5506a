"""What every model shares: being made of parts, saved, loaded, and described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastrnn import _core
from fastrnn._atomic import FilePath
from fastrnn.nn import Embedding, registry
from fastrnn.nn.composite import Composite
from fastrnn.nn.module import Module
from fastrnn.nn.recurrent import GRU, LAYERS, LSTM, RNN, LiGRU
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.tape import as_budget

Rnn = RNN | LSTM | GRU | LiGRU
Folded = tuple[tuple[int, ...], _core.Table]  # versions of the parameters, and what they give

RNNS: dict[str, type[Rnn]] = LAYERS

# Tokens are looked up in a folded table (embedding times W_ih) up to this size, because a table
# that leaves the L2 cache would cost more to read than the product it saves.
_TABLE_BUDGET_BYTES = 4 << 20


def fits_table(rnn: Recurrent, vocab_size: int) -> bool:
    """Whether a folded embedding of V tokens for one direction stays within the budget."""
    return 4 * len(rnn.parameters["weight_ih_l0"]) * vocab_size <= _TABLE_BUDGET_BYTES


def folded(
    rnn: Recurrent, embedding: Embedding, versions: tuple[int, ...], found: Folded | None
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
    _notes = ("vocabulary", "extra")

    @property
    def recurrent(self) -> dict[str, Recurrent]:
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

    def save(self, path: FilePath) -> None:
        """Write the model to a .safetensors file, whole or not at all; `fastrnn.load` reads it."""
        registry.write(self, path)


class SizedModel(Model):
    """A model that says sizes as they were given, or else its parts, if any of them was given."""

    _are_sizes_said: bool = True

    def _argument(self, name: str) -> Any:
        unsaid = self._modules if self._are_sizes_said else self._shorthands
        return None if name in unsaid else getattr(self, name)


def _recurrent(module: Module, name: str) -> Iterator[tuple[str, Recurrent]]:
    if isinstance(module, Recurrent):
        yield name, module
    elif isinstance(module, Composite):
        for key, part in module._parts.items():
            key = key if module._names_parts else ""
            yield from _recurrent(part, ".".join(filter(None, (name, key))))
