"""Tasks that the command line can train: each owns its options, data, figures and output."""

from __future__ import annotations

from typing import Any

import fastrnn
from fastrnn.cli.tasks.base import Task
from fastrnn.cli.tasks.classify import Classification
from fastrnn.cli.tasks.forecast import Forecasting
from fastrnn.cli.tasks.lm import LanguageModelling
from fastrnn.cli.tasks.seq2seq import Translation
from fastrnn.cli.tasks.tag import Tagging

__all__ = ["TASKS", "Task", "load_model"]

# In the order of the help.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        LanguageModelling(),
        Classification(),
        Tagging(),
        Translation(),
        Forecasting(),
    )
}


def load_model(path: str, wanted: str | None = None) -> tuple[Any, Task]:
    """The model in a file and its task; ValueError for models of no task, or of none `wanted`."""
    model = fastrnn.load(path)
    for task in TASKS.values():
        if type(model) is task.model and wanted in (None, task.name):
            return model, task
    expected = f"one of fastrnn train {wanted}" if wanted else "a model that fastrnn train wrote"
    raise ValueError(f"{path} holds a {type(model).__name__}, expected {expected}")
