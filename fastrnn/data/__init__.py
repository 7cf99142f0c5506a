"""Data for recurrent networks: vocabularies, batches that can be resumed, series, files."""

from fastrnn.data._batch import Batch, Source
from fastrnn.data.arrays import read_numpy
from fastrnn.data.buckets import Buckets
from fastrnn.data.examples import (
    IGNORE_INDEX,
    Examples,
    LabelledSequences,
    TaggedSequences,
    encode_labels,
)
from fastrnn.data.pairs import Pairs, ShiftedSequences, shift
from fastrnn.data.readers import (
    Labelled,
    Tagged,
    read_classes,
    read_labelled,
    read_tagged,
    read_text,
    standard_library_text,
)
from fastrnn.data.scaling import Scaler
from fastrnn.data.sequences import Sequences
from fastrnn.data.series import Split, Windows, split
from fastrnn.data.streams import TextStream
from fastrnn.data.subsets import Subset, hold_out
from fastrnn.data.tables import Table, read_csv
from fastrnn.data.vocabulary import Vocabulary

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "Buckets",
    "Examples",
    "Labelled",
    "LabelledSequences",
    "Pairs",
    "Scaler",
    "Sequences",
    "ShiftedSequences",
    "Source",
    "Split",
    "Subset",
    "Table",
    "Tagged",
    "TaggedSequences",
    "TextStream",
    "Vocabulary",
    "Windows",
    "encode_labels",
    "hold_out",
    "read_classes",
    "read_csv",
    "read_labelled",
    "read_numpy",
    "read_tagged",
    "read_text",
    "shift",
    "split",
    "standard_library_text",
]
