"""Training: one step at a time, or whole runs that survive whatever interrupts them."""

from fastrnn.nn.gradient_flow import GradientFlow

from ._errors import ResumeError, TrainingDiverged
from ._flow import heat_map, show_flow
from ._history import read_history
from ._run import FitResult
from ._trainer import StepReport, Trainer
from ._truncation import RandomTruncation

__all__ = [
    "FitResult",
    "GradientFlow",
    "RandomTruncation",
    "ResumeError",
    "StepReport",
    "Trainer",
    "TrainingDiverged",
    "heat_map",
    "read_history",
    "show_flow",
]
