"""Models whose file says something impossible beside the parameters: a sentence, never a crash."""

from __future__ import annotations

import pytest

from fastrnn.cli import main
from fastrnn.data import Scaler, Vocabulary
from fastrnn.models import Forecaster, LanguageModel, Seq2Seq, SequenceClassifier, SequenceTagger

SOURCE = Vocabulary("abc", specials=("pad", "unk")).to_dict()
TARGET = Vocabulary("abc", specials=("pad", "bos", "eos")).to_dict()
SERIES = {"columns": ["a", "b"], "targets": ["a", "b"], "steps": 2}
LINEAR = {"order": 2, "parameters": [0.0] * 16}
JUNK = [None, 5, 10**400, "x", {}, [1, 2], ["x", "x"], True, [[1]]]

# how to make the model, its vocabulary, its extra fields, and commands (MODEL and files by name)
KINDS = {
    "lm": (
        lambda: LanguageModel(5, 4, 5), SOURCE, {"level": "characters"},
        ["eval MODEL text", "predict MODEL abc", "generate MODEL --prompt ab --max-new-tokens 2"],
    ),
    "classify": (
        lambda: SequenceClassifier(2, 4, vocab_size=5), SOURCE, {"classes": ["x", "y"]},
        ["eval MODEL labels", "predict MODEL ab"],
    ),
    "tag": (
        lambda: SequenceTagger(2, 4, vocab_size=5), SOURCE, {"classes": ["x", "y"]},
        ["eval MODEL tags", "predict MODEL ab"],
    ),
    "seq2seq": (
        lambda: Seq2Seq(5, 6, 4), {"source": SOURCE, "target": TARGET}, {},
        ["eval MODEL pairs", "predict MODEL ab", "translate MODEL ab --max-new-tokens 2"],
    ),
    "forecast": (
        lambda: Forecaster(2, 4, scaler=Scaler([0, 0], [1, 1])), None,
        {**SERIES, "baseline": LINEAR}, ["eval MODEL series", "predict MODEL series"],
    ),
}  # fmt: skip
FILES = {
    "text": "abcabc\n" * 9,
    "labels": "ab\tx\nba\ty\n",
    "tags": "a\tx\nb\ty\n",
    "pairs": "ab\tba\nba\tab\n",
    "series": "a,b\n" + "1,2\n3,4\n" * 9,
}


def damaged(value, depth=0):
    """A value with a part of it missing or replaced by something else; how deep that part is."""
    yield from ((junk, depth) for junk in JUNK[depth % 3 :: 3 if depth > 1 else 1])
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: kept for name, kept in value.items() if name != key}, depth + 1
            yield from (({**value, key: other}, at) for other, at in damaged(part, depth + 1))
    elif isinstance(value, list) and value:
        yield from (([other, *value[1:]], depth + 1) for other in JUNK[depth % 2 :: 2])


@pytest.mark.parametrize("field", ["vocabulary", "extra"])
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_fields_of_a_model_are_said_in_a_sentence(kind, field, tmp_path, capsys):
    make, vocabulary, extra, commands = KINDS[kind]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    names = {name: str(tmp_path / name) for name in (*FILES, "MODEL")}
    whole, failed = {"vocabulary": vocabulary, "extra": extra}, 0
    for i, (value, depth) in enumerate(((whole[field], 0), *damaged(whole[field]))):
        model = make()
        model.vocabulary, model.extra = ({**whole, field: value}[key] for key in whole)
        model.save(tmp_path / "MODEL")
        # What is inside meets the commands in turn.
        for command in commands if depth == 0 else commands[i % len(commands) :][:1]:
            code = main([names.get(word, word) for word in command.split()])
            out, error = capsys.readouterr()
            assert code in (0, 1)
            assert (error.count("\n") == 1 and error.startswith("fastrnn ")) if code else out
            assert code == 0 or i > 0
            failed += code
    assert failed or (kind, field) in (
        ("lm", "extra"),
        ("seq2seq", "extra"),
        ("forecast", "vocabulary"),
    )
