"""Read dates as people write them: "the 3rd of May, 1998" -> 1998-05-03, with attention.

Dates are generated, so nothing is downloaded. The default run takes about half a minute on one
core; the picture of the attention needs matplotlib.

    python examples/dates.py --picture attention.png
"""

import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from datetime import date, timedelta

import numpy as np

import fastrnn
from fastrnn.data import Buckets, Pairs, Vocabulary
from fastrnn.models import Seq2Seq
from fastrnn.optim import Adam
from fastrnn.optim.schedules import Cosine
from fastrnn.train import Trainer

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
FORMS = [
    "{month} {day}, {year}",
    "{mon} {day} {year}",
    "{day} {month} {year}",
    "{day}. {mon} {year}",
    "{weekday}, {day} {month} {year}",
    "{weekday} {month} {nth} {year}",
    "the {nth} of {month}, {year}",
    "{nth} {mon} '{short}",
    "{m}/{day}/{year}",
    "{year}/{mm}/{dd}",
    "{dd}.{mm}.{short}",
    "{month} {nth}, {short}",
]


def ordinal(n: int) -> str:
    special = {1: "st", 2: "nd", 3: "rd"}
    return f"{n}{'th' if 10 < n % 100 < 20 else special.get(n % 10, 'th')}"


def write(day: date, form: str) -> str:
    """The date in one of the forms; two digits of a year mean 1970 to 2069."""
    month = MONTHS[day.month - 1]
    return form.format(
        day=day.day,
        dd=f"{day.day:02}",
        nth=ordinal(day.day),
        month=month,
        mon=month[:3],
        m=day.month,
        mm=f"{day.month:02}",
        year=day.year,
        short=f"{day.year % 100:02}",
        weekday=DAYS[day.weekday()],
    )


def generate(count: int, generator: np.random.Generator) -> tuple[list[str], list[str]]:
    """Dates as people write them, in various cases, and in ISO 8601."""
    first, span = date(1970, 1, 1), (date(2070, 1, 1) - date(1970, 1, 1)).days
    written, iso = [], []
    for _ in range(count):
        day = first + timedelta(days=int(generator.integers(span)))
        text = write(day, FORMS[generator.integers(len(FORMS))])
        cases = (text, text, text.lower(), text.upper())
        written.append(cases[generator.integers(len(cases))])
        iso.append(day.isoformat())
    return written, iso


def padded(texts: list[str], vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """ids (S, N) and lengths (N,)."""
    return vocabulary.encode_many(texts).padded(np.arange(len(texts)), 0)


def read(model: Seq2Seq, texts: list[str], source: Vocabulary, target: Vocabulary) -> list[str]:
    """Dates that the model reads in the texts."""
    ids, lengths = padded(texts, source)
    found = model.translate(ids, lengths, bos=target.bos, eos=target.eos, max_new_tokens=12)
    return [target.decode(tokens) for tokens in found]


def train(model: Seq2Seq, data: Buckets, options: Namespace) -> None:
    schedule = Cosine(options.lr, options.epochs * data.num_batches)
    trainer = Trainer(model, Adam(model, lr=options.lr), clip_norm=1.0, schedule=schedule)
    start = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        losses = [
            trainer.step(batch.inputs, batch.targets, lengths=batch.lengths)[0]
            for batch in data.batches()
        ]
        seconds = time.perf_counter() - start
        print(f"epoch {epoch}: loss {np.mean(losses):.4f}, {seconds:.0f} s", flush=True)


def draw(model: Seq2Seq, text: str, source: Vocabulary, target: Vocabulary, path: str) -> None:
    """The picture of where the model looks while it writes."""
    ids, lengths = padded([text], source)
    answer = read(model, [text], source, target)[0]
    inputs = np.concatenate(([target.bos], target.encode(answer)))[:, None]
    weights = model.attention(ids, inputs, (lengths, None))[:, :, 0]
    for letter, row in zip(answer, weights, strict=False):
        print(
            f"  {letter}: looks at {text[row.argmax()]!r} ({row.max():.2f}), place {row.argmax()}"
        )
    try:
        fastrnn.plot.attention(weights, list(text), list(answer), path, title=text)
        print(f"{path}: the attention as a picture")
    except (ImportError, OSError) as error:  # no matplotlib, or no such folder
        print(error)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--examples", type=int, default=20000, help="dates to learn from (default: %(default)s)")
    add("--epochs", type=int, default=4, help="passes over them (default: %(default)s)")
    add("--hidden", type=int, default=64, help="units (default: %(default)s)")
    add("--batch", type=int, default=64, help="dates per step (default: %(default)s)")
    add("--lr", type=float, default=5e-3, help="highest learning rate (default: %(default)s)")
    add(
        "--attention",
        choices=("additive", "multiplicative", "scaled_dot", "none"),
        default="additive",
        help="how the decoder looks at the source (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of data and weights (default: %(default)s)")
    add("--threads", type=int, default=1, help="of fastrnn (default: %(default)s)")
    add("--picture", default="attention.png", help="file for the attention (default: %(default)s)")
    options = parser.parse_args()

    fastrnn.set_num_threads(options.threads)
    written, iso = generate(options.examples, np.random.default_rng(options.seed))
    source = Vocabulary.build(written, specials=("pad", "unk"))
    target = Vocabulary.build(iso, specials=("pad", "bos", "eos"))
    pairs = Pairs(
        source.encode_many(written), target.encode_many(iso), bos=target.bos, eos=target.eos
    )
    model = Seq2Seq(
        len(source), len(target), options.hidden, embedding_dim=32, cell="gru",
        attention=options.attention, bidirectional=True,
    )  # fmt: skip
    model.reset_parameters(options.seed)
    train(model, Buckets(pairs, options.batch, seed=options.seed), options)

    texts, wanted = generate(2000, np.random.default_rng(options.seed + 1))
    found = read(model, texts, source, target)
    right = sum(a == b for a, b in zip(found, wanted, strict=True))
    print(f"{right / len(wanted):.2%} of {len(wanted)} unseen dates are exactly right")
    for text, answer in list(zip(texts, found, strict=True))[:6]:
        print(f"  {text:>32} -> {answer}")
    if options.attention != "none":
        draw(model, "the 3rd of May, 1998", source, target, options.picture)


if __name__ == "__main__":
    main()
