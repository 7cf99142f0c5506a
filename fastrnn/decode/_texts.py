"""From automata over characters to automata over the tokens of a vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastrnn._arrays import as_int, with_article


def token_texts(vocabulary: Any) -> dict[int, str]:
    """The text of every id that has one."""
    if hasattr(vocabulary, "specials") and hasattr(vocabulary, "tokens"):
        if vocabulary.level != "characters":
            raise ValueError(f"vocabulary is over {vocabulary.level}, expected one of characters")
        return dict(enumerate(vocabulary.tokens, len(vocabulary.specials)))
    if isinstance(vocabulary, Mapping):
        texts = {as_int(token, "vocabulary"): text for text, token in vocabulary.items()}
    elif isinstance(vocabulary, Iterable):
        texts = dict(enumerate(vocabulary))
    else:
        kind = with_article(type(vocabulary).__name__)
        raise TypeError(f"vocabulary is {kind}, expected the texts of the tokens")
    for text in texts.values():
        if not isinstance(text, str):
            kind = with_article(type(text).__name__)
            raise TypeError(f"vocabulary holds {kind}, expected texts")
    return {token: text for token, text in texts.items() if text}


def over_tokens(characters: list[dict[str, int]], texts: Mapping[int, str]) -> list[dict[int, int]]:
    """The same states, reached by whole tokens instead of single characters."""
    return [
        {
            token: target
            for token, text in texts.items()
            if (target := _walk(characters, i, text)) >= 0
        }
        for i in range(len(characters))
    ]


def _walk(characters: list[dict[str, int]], state: int, text: str) -> int:
    for character in text:
        following = characters[state].get(character)
        if following is None:
            return -1
        state = following
    return state
