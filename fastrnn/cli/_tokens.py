"""Texts as a language model's token ids and back, wherever its vocabulary comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastrnn._arrays import shown
from fastrnn.cli._parsing import parse_json
from fastrnn.data import Vocabulary, read_text
from fastrnn.decode import Automaton, Trie, regex
from fastrnn.formats.language_model import find_model
from fastrnn.models import LanguageModel

# Names of reserved tokens in vocabularies.
_RESERVED = {
    "pad": ("<pad>",),
    "bos": ("<bos>", "<s>"),
    "eos": ("<eos>", "</s>"),
    "unk": ("<unk>",),
}
_ESCAPES = {"\\n": "\n", "\\t": "\t"}


class Tokens:
    """The text of every id; words stand apart by a space, characters do not."""

    def __init__(self, texts: Sequence[str], level: str | None = None) -> None:
        ids = {text: i for i, text in enumerate(texts)}
        if len(ids) < len(texts):
            raise ValueError("the vocabulary has a token twice")
        names = {
            kind: next((n for n in known if n in ids), None) for kind, known in _RESERVED.items()
        }
        self.pad, self.bos, self.eos, self.unk = (ids[n] if n else None for n in names.values())
        self.reserved = {ids.pop(name) for name in names.values() if name}
        self.ids, self.texts = ids, list(texts)
        are_characters = all(len(text) == 1 for text in ids)
        self.level = level or ("characters" if are_characters else "words")
        self.space = "" if self.level == "characters" else " "

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Tokens:
        """The tokens of a vocabulary with its specials."""
        names = [f"<{name}>" for name in vocabulary.specials]
        return cls([*names, *vocabulary.tokens], vocabulary.level)

    def __len__(self) -> int:
        return len(self.texts)

    def encode(self, text: str, name: str) -> list[int]:
        """Ids; ValueError names a token that is unknown, if there is no id for the unknown."""
        return self._ids(text, name, self.unk)

    def exactly(self, text: str, name: str) -> list[int]:
        """Ids of a text to be written, in which the id of the unknown must not occur."""
        return self._ids(text, name, None)

    def _ids(self, text: str, name: str, unknown_id: int | None) -> list[int]:
        parts = self._parts(text)
        found = [self.ids.get(part, unknown_id) for part in parts]
        if None in found:
            unknown = parts[found.index(None)]
            raise ValueError(
                f"{name} has {shown(unknown)}, which is none of the {len(self.ids)} {self.level} "
                f"that the model knows"
            )
        return [token for token in found if token is not None]

    def written(self, text: str, name: str) -> list[int | None]:
        """Ids, None for tokens that the model cannot write; ValueError if there are no tokens."""
        parts = self._parts(text)
        if not parts:
            raise ValueError(f"{name} is empty, expected some {self.level}")
        return [self.ids.get(part) for part in parts]

    def _parts(self, text: str) -> list[str]:
        return list(text) if self.level == "characters" else text.split()

    def decode(self, ids: Iterable[int]) -> str:
        """The text; reserved tokens give nothing."""
        return self.space.join(self.texts[i] for i in ids if i not in self.reserved)

    @property
    def unwanted(self) -> list[int]:
        """Ids that no text holds: padding, the start, the unknown."""
        return [token for token in (self.pad, self.bos, self.unk) if token is not None]

    def matching(self, pattern: str) -> Automaton:
        """All texts that match; characters only, as words have no text between them."""
        if self.level != "characters":
            raise ValueError("--regex needs a model of characters, this one writes words")
        try:
            return regex(pattern, self._spelled())
        except ValueError as error:
            raise ValueError(f"--regex: {error}") from error

    def words(self, words: Sequence[str]) -> Automaton:
        """These texts and no others."""
        return Trie([self.exactly(word, "--words") for word in words])

    def _spelled(self) -> list[str]:
        return ["" if i in self.reserved else text for i, text in enumerate(self.texts)]


def load_language_model(path: str, vocabulary: str | None) -> tuple[LanguageModel, Tokens]:
    """A model of `fastrnn.save`, or a checkpoint of embedding, layers and head."""
    import fastrnn
    from fastrnn.formats import open_checkpoint

    found = open_checkpoint(path)
    if "fastrnn" in found.metadata:
        model = fastrnn.load(path)
        described = getattr(model, "vocabulary", None)
    else:
        model = _from_tensors(found.tensors, path)
        described = found.values.get("vocabulary")
    if not isinstance(model, LanguageModel):
        kind = type(model).__name__
        raise ValueError(f"{path} holds a {kind}, expected a language model")
    tokens = _read_vocabulary(vocabulary) if vocabulary else _as_tokens(described, path)
    if len(tokens) != model.vocab_size:
        raise ValueError(
            f"the model has {model.vocab_size} tokens, its vocabulary {len(tokens)}: they do not "
            f"belong together"
        )
    return model, tokens


def _from_tensors(tensors: Mapping[str, Any], path: str) -> LanguageModel:
    """The model wherever it is among the names, as `fastrnn inspect` finds it."""
    try:
        return LanguageModel.from_state_dict(tensors, prefix=find_model(tensors) or "")
    except (TypeError, ValueError) as error:  # a wrong shape, or weights that are no real numbers
        raise ValueError(f"{path} is no language model: {error}") from error


def _read_vocabulary(path: str) -> Tokens:
    """JSON, or a token in each line."""
    text = read_text(path)
    if text.lstrip()[:1] in ("[", "{") and not path.endswith(".txt"):
        try:
            described = parse_json(text, path)
        except ValueError as error:
            raise ValueError(f"{error}; expected JSON or a token in each line") from error
        return _as_tokens(described, path)
    lines = text.removesuffix("\n").split("\n")
    if "" in lines:
        raise ValueError(f"{path}: line {lines.index('') + 1} is empty, expected a token")
    return Tokens([_ESCAPES.get(line, line) for line in lines])


def _as_tokens(described: Any, path: str) -> Tokens:
    """A list of texts, a text of characters, ids by their texts, or what a Vocabulary describes."""
    if described is None:
        raise ValueError(f"{path} has no vocabulary: give one by --vocab FILE")
    if isinstance(described, Mapping) and set(described) == {"level", "specials", "tokens"}:
        return Tokens.of(Vocabulary.from_dict(described))
    if isinstance(described, Mapping):
        ids = sorted(described.values()) if _are(int, described.values()) else []
        if not ids or ids != list(range(len(ids))):
            raise ValueError(f"{path}: the ids of a vocabulary are 0, 1, 2, ..., each once")
        described = sorted(described, key=described.__getitem__)
    if not isinstance(described, (str, list)) or not described or not _are(str, described):
        raise ValueError(f"{path}: a vocabulary is a list of texts, or has an id for each text")
    texts = list(described)
    if "" in texts:
        raise ValueError(f"{path}: the vocabulary has an empty token")
    return Tokens(texts)


def _are(kind: type, values: Iterable[Any]) -> bool:
    return all(type(value) is kind for value in values)
