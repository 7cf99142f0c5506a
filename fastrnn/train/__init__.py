"""Training: one step at a time, or whole runs that survive whatever interrupts them."""

from fastrnn.nn.gradient_flow import GradientFlow

from .errors import ResumeError, TrainingDiverged
from .flow import heat_map, show_flow
from .history import read_history
from .settings import FitResult
from .step import StepReport
from .trainer import Trainer
from .truncation import RandomTruncation

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
