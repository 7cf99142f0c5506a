"""Reads PyTorch, pickle, safetensors and npz files with NumPy alone, and never runs their code.

`read_checkpoint` gives the tensors by name; `open_checkpoint` also what was skipped and changed;
`inspect_checkpoint` describes a file; `infer_recurrent` tells a layer by its tensors.
"""

from fastrnn.formats.checkpoint import Checkpoint, open_checkpoint, read_checkpoint
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.inspection import format_inspection, inspect_checkpoint
from fastrnn.nn.architecture import Architecture, infer_recurrent
from fastrnn.nn.layer_names import find_recurrent

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
