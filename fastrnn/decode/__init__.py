"""Decoding: from a model that predicts the next token to whole sequences.

`generate` and `stream_generate` search or sample; `Automaton`, `Trie` and `regex` make constraints
for them; `Decodable` and `TokenStream` say what a model must offer.
"""

from fastrnn.decode._checks import DecodingError
from fastrnn.decode._generate import generate, stream_generate
from fastrnn.decode._generation import Generation
from fastrnn.decode._regex import regex
from fastrnn.decode._stepper import Decodable, TokenStream
from fastrnn.decode.automaton import Automaton, Trie

__all__ = [
    "Automaton",
    "Decodable",
    "DecodingError",
    "Generation",
    "TokenStream",
    "Trie",
    "generate",
    "regex",
    "stream_generate",
]
