"""Characters or words as ids, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from fastrnn._arrays import (
    AnyArray,
    ArrayLike,
    IntArray,
    as_array,
    as_choice,
    as_size,
    check_indices,
    shown,
    with_article,
)
from fastrnn._errors import ArgumentError
from fastrnn.data.sequences import Sequences, smallest_dtype

SPECIALS = ("pad", "bos", "eos", "unk")  # the order of their ids
LEVELS = ("characters", "words")

_BLOCK = 1 << 20  # characters that are looked up at a time: bounds what is held besides the ids
_UNKNOWN = "\ufffd"  # Unicode's own sign for a character that is not known


class Vocabulary:
    """Known characters or words: their ids are 0 to V - 1, reserved ones first.

    `tokens`: the characters (a str will do) or words in the order of their ids. `level`:
    "characters" or "words" (separated by white space). `specials`: any of "pad", "bos", "eos",
    "unk"; the attributes of these names are their ids, None where there is none. Words know the
    specials as <pad>, <bos>, <eos>, <unk>. `Vocabulary.build` takes the tokens from text.
    """

    # None where there is none; whoever asked for a special may take its id as an int.
    pad: int | Any
    bos: int | Any
    eos: int | Any
    unk: int | Any

    def __init__(
        self,
        tokens: Iterable[str],
        *,
        level: str = "characters",
        specials: Iterable[str] = (),
    ) -> None:
        self.level = as_choice(level, "level", LEVELS)
        chosen = [as_choice(name, "specials", SPECIALS) for name in specials]
        self.specials = tuple(name for name in SPECIALS if name in chosen)
        self.tokens = tuple(tokens)
        _check_tokens(self.tokens, self.level)
        ids = {name: i for i, name in enumerate(self.specials)}
        self.pad, self.bos, self.eos, self.unk = map(ids.get, SPECIALS)
        names = [f"<{name}>" for name in self.specials if self.level == "words"]
        clash = set(names) & set(self.tokens)
        if clash:
            raise ValueError(f"tokens has {min(clash)}, which the specials reserve")
        if not len(self):
            raise ValueError("tokens is empty, a vocabulary needs at least one token")
        self._dtype = smallest_dtype(len(self) - 1)
        if self.level == "words":
            self._numbers = _Numbers(zip((*names, *self.tokens), range(len(self)), strict=True))
            self._numbers.unknown = self.unk
        else:
            self._points = _code_points("".join(self.tokens)).copy()
            self._table = self._make_table()

    @classmethod
    def build(
        cls,
        text: str | Iterable[str],
        *,
        level: str = "characters",
        specials: Iterable[str] = (),
        max_size: int | None = None,
        min_count: int = 1,
    ) -> Vocabulary:
        """The tokens of a text, or of several, the most frequent first (ties by code point).

        Only those that occur `min_count` times or more, and so many that V is at most `max_size`.
        """
        level, chosen = as_choice(level, "level", LEVELS), tuple(dict.fromkeys(specials))
        least = as_size(min_count, "min_count")
        texts = (text,) if isinstance(text, str) else text
        counts = _count_characters(texts) if level == "characters" else _count_words(texts)
        for name in SPECIALS if level == "words" else ():
            if name in chosen:
                counts.pop(f"<{name}>", None)
        tokens = [t for t in sorted(counts, key=lambda t: (-counts[t], t)) if counts[t] >= least]
        if not tokens:
            raise ValueError(
                f"text has no {level} that occur {least} times or more"
                if counts
                else f"text is empty: it has no {level}"
            )
        if max_size is not None:
            room = as_size(max_size, "max_size") - len(chosen)
            if room < 1:
                text = f"max_size is {max_size}, specials alone are {len(chosen)}"
                raise ArgumentError("max_size", max_size, f"more than {len(chosen)}", text)
            tokens = tokens[:room]
        return cls(tokens, level=level, specials=chosen)

    def __len__(self) -> int:
        return len(self.specials) + len(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.level, self.specials, self.tokens))

    def __repr__(self) -> str:
        specials = f", specials {' '.join(self.specials)}" if self.specials else ""
        return f"Vocabulary({len(self)} ids, {self.level}{specials})"

    def encode(self, text: str | Sequence[str]) -> AnyArray:
        """Text, or a list of tokens -> ids (S,) of the smallest type that holds V - 1.

        Unknown tokens become `unk`; without an `unk` a ValueError names the first of them.
        """
        if self.level == "words":
            return self._encode_words(text.split() if isinstance(text, str) else text)
        joined = text if isinstance(text, str) else "".join(text)
        ids = np.empty(len(joined), self._dtype)
        for start in range(0, len(joined), _BLOCK):
            block = slice(start, start + _BLOCK)
            ids[block] = self._look_up(joined[block], start)
        return ids

    def encode_many(self, texts: Iterable[str | Sequence[str]]) -> Sequences:
        """Texts, or lists of tokens -> their ids as one Sequences object."""
        if self.level == "words":
            parts = [part.split() if isinstance(part, str) else part for part in texts]
            words = list(chain.from_iterable(parts))
            return Sequences(self._encode_words(words), [len(part) for part in parts])
        joined = [part if isinstance(part, str) else "".join(part) for part in texts]
        return Sequences(self.encode("".join(joined)), [len(part) for part in joined])

    def decode(self, ids: ArrayLike) -> str:
        """Ids -> text: characters as they were, words joined by spaces.

        `pad`, `bos` and `eos` give nothing; `unk` gives U+FFFD among characters, <unk> as a word.
        """
        known = as_array(ids, "ids").reshape(-1)
        if not known.size:
            return ""
        if known.dtype.kind not in "iu":
            raise TypeError(f"ids has dtype {known.dtype}, expected integers")
        check_indices(known, len(self), "ids")
        silent = [i for i in (self.pad, self.bos, self.eos) if i is not None]
        if silent:
            known = known[~np.isin(known, silent)]
        if self.level == "words":
            names = (*(f"<{name}>" for name in self.specials), *self.tokens)
            return " ".join(map(names.__getitem__, known.tolist()))
        special = np.full(len(self.specials), ord(_UNKNOWN), np.uint32)
        points = np.concatenate((special, self._points))[known]
        return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def to_dict(self) -> dict[str, Any]:
        """The vocabulary as plain JSON values for a model's file; `from_dict` reads them."""
        tokens = "".join(self.tokens) if self.level == "characters" else list(self.tokens)
        return {"level": self.level, "specials": list(self.specials), "tokens": tokens}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary that `to_dict` described."""
        if not isinstance(values, Mapping) or set(values) != {"level", "specials", "tokens"}:
            raise ValueError("a vocabulary has level, specials and tokens, and nothing else")
        tokens, specials = values["tokens"], values["specials"]
        for name, given in (("tokens", tokens), ("specials", specials)):
            if not isinstance(given, (str, list, tuple)) or any(type(t) is not str for t in given):
                raise ValueError(f"a vocabulary's {name} are {shown(given)}, expected texts")
        return cls(tokens, level=values["level"], specials=specials)

    def _make_table(self) -> IntArray:
        """Code point -> id; V marks the unknown, and the last entry stands for all beyond it."""
        unknown = len(self) if self.unk is None else self.unk
        size = int(self._points.max(initial=0)) + 2
        table = np.full(size, unknown, smallest_dtype(len(self)))
        table[self._points] = np.arange(len(self.specials), len(self))
        return table

    def _look_up(self, text: str, start: int) -> AnyArray:
        points = _code_points(text)
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        if self.unk is None and ids.size and ids.max() == len(self):
            at = int(ids.argmax())
            raise ValueError(
                f"text has {text[at]!r} at {start + at}, which is none of the {len(self)} known "
                f"characters, and there is no unk"
            )
        return ids

    def _encode_words(self, words: Sequence[str]) -> AnyArray:
        try:
            return np.fromiter(map(self._numbers.__getitem__, words), self._dtype, len(words))
        except KeyError as error:
            raise ValueError(
                f"text has {shown(error.args[0])} as word {list(words).index(error.args[0])}, "
                f"which is none of the {len(self)} known words, and there is no unk"
            ) from None


class _Numbers(dict[str, int]):
    """Word -> id, with an id for the unknown where there is one."""

    unknown: int | None

    def __missing__(self, word: str) -> int:
        if self.unknown is None:
            raise KeyError(word)
        return self.unknown


def _code_points(text: str) -> AnyArray:
    """(characters,) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _count_characters(texts: Iterable[str]) -> dict[str, int]:
    counts = np.zeros(1, np.int64)
    for text in texts:
        for start in range(0, len(text), _BLOCK):
            found = np.bincount(_code_points(text[start : start + _BLOCK]), minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
    return {chr(point): int(counts[point]) for point in np.flatnonzero(counts)}


def _count_words(texts: Iterable[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    return counts


def _check_tokens(tokens: tuple[str, ...], level: str) -> None:
    """Tokens are distinct, and each is one character or one word."""
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(f"tokens has {with_article(type(token).__name__)}, expected str")
        if len(token) != 1 if level == "characters" else token.split() != [token]:
            raise ValueError(f"tokens has {shown(token)}, expected single {level}")
    if len(set(tokens)) != len(tokens):
        twice = next(token for token, count in Counter(tokens).items() if count > 1)
        raise ValueError(f"tokens has {shown(twice)} twice")
