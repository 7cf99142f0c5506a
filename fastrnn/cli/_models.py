"""Which task a model in a file is for."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import fastrnn
from fastrnn.models import Forecaster, LanguageModel, Seq2Seq, SequenceClassifier, SequenceTagger

_TASKS: dict[type, str] = {
    LanguageModel: "lm",
    SequenceClassifier: "classify",
    SequenceTagger: "tag",
    Forecaster: "forecast",
    Seq2Seq: "seq2seq",
}


def load_model(path: str) -> tuple[Any, str, ModuleType]:
    """The model, its task and the task's module; ValueError for other kinds."""
    model = fastrnn.load(path)
    task = _TASKS.get(type(model))
    if task is None:
        kind = type(model).__name__
        raise ValueError(f"{path} holds a {kind}, expected a model that fastrnn train wrote")
    return model, task, import_module(f"fastrnn.cli._{task}")
