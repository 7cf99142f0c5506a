"""What the command line can train: each task owns its options, data, figures and output."""

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


def load_model(path: str) -> tuple[Any, Task]:
    """The model in a file and its task; ValueError for models of no task."""
    model = fastrnn.load(path)
    for task in TASKS.values():
        if type(model) is task.model:
            return model, task
    kind = type(model).__name__
    raise ValueError(f"{path} holds a {kind}, expected a model that fastrnn train wrote")
