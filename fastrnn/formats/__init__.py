"""Reads PyTorch, pickle, safetensors and npz files with NumPy alone, and never runs their code.

`read_checkpoint` gives the tensors by name; `open_checkpoint` also what was skipped and changed;
`inspect_checkpoint` describes a file; `infer_recurrent` tells a layer by its tensors.
"""

from ._architecture import Architecture, infer_recurrent
from ._errors import CheckpointError
from ._inspect import format_inspection, inspect_checkpoint
from ._layer_names import find_recurrent
from ._open import Checkpoint, open_checkpoint, read_checkpoint

__all__ = [
    "Architecture",
    "Checkpoint",
    "CheckpointError",
    "find_recurrent",
    "format_inspection",
    "infer_recurrent",
    "inspect_checkpoint",
    "open_checkpoint",
    "read_checkpoint",
]
