"""One beginning, several ways to go on: greedy, drawn and searched, side by side.

Uses the character model that comes with fastrnn, which has read Python's documentation, or a model
of `fastrnn train lm`. Takes a second.

    python examples/text_continuation.py "The following example " --length 60

The number in front is the mean log-probability of a token in nats: greedy takes the likeliest token
each time, beams find text that is likelier as a whole and duller, and what is drawn is less likely
and more alive. The last way ends at the end of a sentence.
"""

import time
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, RawDescriptionHelpFormatter
from importlib.resources import as_file, files
from typing import Any

import numpy as np

import fastrnn
from fastrnn import generate
from fastrnn.data import Vocabulary
from fastrnn.formats import open_checkpoint
from fastrnn.models import LanguageModel


def read_model(path: str | None) -> tuple[LanguageModel, Vocabulary]:
    """A model that was saved with its vocabulary, or the one that comes with fastrnn."""
    if path is not None:
        model = fastrnn.load(path)
        if not isinstance(model, LanguageModel) or model.vocabulary is None:
            raise ValueError(f"{path} holds no language model with its vocabulary")
        return model, Vocabulary.from_dict(model.vocabulary)
    with as_file(files("fastrnn") / "data" / "demo.pt") as demo:
        checkpoint = open_checkpoint(demo)
    model = LanguageModel.from_state_dict(checkpoint.tensors)
    return model, Vocabulary(str(checkpoint.values["vocabulary"]))


def ways(vocabulary: Vocabulary, beams: int, seed: int) -> dict[str, dict[str, Any]]:
    """Arguments of `generate` for each way of going on."""
    found: dict[str, dict[str, Any]] = {
        "greedy": {},
        "greedy, no repeats": {"no_repeat_ngram_size": 12},
        "drawn, T = 0.5": {"do_sample": True, "temperature": 0.5, "seed": seed},
        "drawn, T = 1": {"do_sample": True, "seed": seed},
        "drawn, top_p = 0.8": {"do_sample": True, "top_p": 0.8, "seed": seed},
        f"{beams} beams": {"num_beams": beams},
    }
    if "." in vocabulary.tokens:
        stop = [vocabulary.encode(".").tolist()]
        found["to a full stop"] = {"do_sample": True, "temperature": 0.5, "seed": seed}
        found["to a full stop"]["stop"] = stop
    return found


class Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """The text above as it stands, and defaults."""


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("prompt", nargs="?", default="The following example ", help="how the text begins")
    add("--model", help="what fastrnn train lm wrote (the one that comes with fastrnn)")
    add("--length", type=int, default=60, help="tokens to write")
    add("--beams", type=int, default=5, help="of the search")
    add("--seed", type=int, default=0, help="of the draws")
    options = parser.parse_args()

    try:
        model, vocabulary = read_model(options.model)
        prompt = vocabulary.encode(options.prompt)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    start, count = time.perf_counter(), 0
    print(f"{options.prompt!r} goes on")
    for name, how in ways(vocabulary, options.beams, options.seed).items():
        found = generate(model, prompt, max_new_tokens=options.length, **how)[0]
        count += len(found.tokens)
        text = vocabulary.decode(found.tokens)
        print(f"{name:<20}{np.mean(found.logprobs):6.2f}  {text!r}")
    print(f"{count / (time.perf_counter() - start):,.0f} tokens per second, all ways together")


if __name__ == "__main__":
    main()
