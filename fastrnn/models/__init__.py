"""Whole models made of layers.

Each has the call (inference), `vjp` and `loss_vjp` (training), `loss`, `save`, PyTorch's names in
`state_dict`, and `stream` where a step makes sense.
"""

from fastrnn.models._base import Model
from fastrnn.models.autoregression import AutoRegression
from fastrnn.models.bidirectional_lm import BidirectionalLanguageModel
from fastrnn.models.classifier import SequenceClassifier
from fastrnn.models.features import FeaturesToSequence
from fastrnn.models.forecaster import Forecaster
from fastrnn.models.language import LanguageModel
from fastrnn.models.seq2seq import Seq2Seq
from fastrnn.models.tagger import SequenceTagger

__all__ = [
    "AutoRegression",
    "BidirectionalLanguageModel",
    "FeaturesToSequence",
    "Forecaster",
    "LanguageModel",
    "Model",
    "Seq2Seq",
    "SequenceClassifier",
    "SequenceTagger",
]
