"""A character model that knows nothing writes valid dates, because nothing else is allowed.

The model has random weights. A regular expression makes it write ISO dates but for the 31st of
short months; a trie of all days of some years leaves real dates only. Takes a second.

    python examples/dates_constrained.py --count 5
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import date

from fastrnn import generate
from fastrnn.decode import Automaton, Trie, regex
from fastrnn.models import LanguageModel

CHARACTERS = "0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ "
PATTERN = r"(19|20)\d{2}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"


def valid_dates(first_year: int, last_year: int) -> Automaton:
    """All days of these years, as a trie of their texts."""
    first, last = date(first_year, 1, 1).toordinal(), date(last_year, 12, 31).toordinal()
    days = range(first, last + 1)
    return Trie((date.fromordinal(day).isoformat() for day in days), CHARACTERS)


def write(model: LanguageModel, constraint: Automaton, count: int, seed: int) -> list[str]:
    """So many dates, drawn from what the model finds likely among the allowed characters."""
    found = generate(
        model,
        [CHARACTERS.index(" ")],
        max_new_tokens=10,
        do_sample=True,
        num_return_sequences=count,
        constraint=constraint,
        seed=seed,
    )
    return ["".join(CHARACTERS[token] for token in g.tokens) for g in found]


def is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5, help="dates of each kind (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    options = parser.parse_args()
    model = LanguageModel(len(CHARACTERS), 16, 64)
    model.reset_parameters(1)
    for name, constraint in (
        ("as the pattern says", regex(PATTERN, CHARACTERS)),
        ("real days of 2020 to 2024", valid_dates(2020, 2024)),
    ):
        texts = write(model, constraint, options.count, options.seed)
        print(f"{name}: {' '.join(texts)}; {sum(map(is_date, texts))} of {len(texts)} are dates")


if __name__ == "__main__":
    main()
