"""Write spelled-out numbers in digits: "forty two thousand and seven" -> 42007.

Words in, digits out, trained with scheduled sampling: as training goes on, more and more of the
decoder's inputs are its own guesses. Numbers are generated; the default run takes a quarter of a
minute and writes spelled_numbers.safetensors to the current folder.

    python examples/spelled_numbers.py
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter

import numpy as np

import fastrnn
from fastrnn.data import Buckets, Pairs, Vocabulary
from fastrnn.models import Seq2Seq
from fastrnn.optim import Adam
from fastrnn.optim.schedules import Cosine
from fastrnn.train import Trainer

ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spell(n: int) -> str:
    """The number in words, 0 to 999999."""
    if n >= 1000:
        rest = n % 1000
        joint = " and " if 0 < rest < 100 else " "
        return f"{spell(n // 1000)} thousand{joint + spell(rest) if rest else ''}"
    if n >= 100:
        return f"{ONES[n // 100]} hundred{' and ' + spell(n % 100) if n % 100 else ''}"
    if n >= 20:
        return f"{TENS[n // 10 - 2]}{' ' + ONES[n % 10] if n % 10 else ''}"
    return ONES[n]


def generate(count: int, generator: np.random.Generator) -> list[int]:
    """Numbers of every length about equally often."""
    digits = generator.integers(1, 7, count)
    return [int(generator.integers(10**d)) for d in digits]


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--examples", type=int, default=12000, help="numbers to learn from (default: %(default)s)")
    add("--epochs", type=int, default=8, help="passes over them (default: %(default)s)")
    add("--hidden", type=int, default=64, help="units (default: %(default)s)")
    add(
        "--sampling",
        type=float,
        default=0.25,
        help="share of own guesses at the end (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of data and weights (default: %(default)s)")
    options = parser.parse_args()

    fastrnn.set_num_threads(1)  # the model is small
    numbers = generate(options.examples, np.random.default_rng(options.seed))
    words, digits = [spell(n) for n in numbers], [str(n) for n in numbers]
    source = Vocabulary.build(words, level="words", specials=("pad", "unk"))
    target = Vocabulary.build(digits, specials=("pad", "bos", "eos"))
    pairs = Pairs(
        source.encode_many(words), target.encode_many(digits), bos=target.bos, eos=target.eos
    )
    model = Seq2Seq(
        len(source), len(target), options.hidden, embedding_dim=32, attention="scaled_dot",
        bidirectional=True,
    )  # fmt: skip
    model.reset_parameters(options.seed)
    model.seed(options.seed)
    data = Buckets(pairs, 64, seed=options.seed)
    schedule = Cosine(8e-3, options.epochs * data.num_batches)
    trainer = Trainer(model, Adam(model), clip_norm=1.0, schedule=schedule)
    start = time.perf_counter()
    for epoch in range(options.epochs):
        model.sampling_probability = options.sampling * epoch / max(1, options.epochs - 1)
        losses = [
            trainer.step(batch.inputs, batch.targets, lengths=batch.lengths)[0]
            for batch in data.batches()
        ]
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {seconds:.0f} s", flush=True)

    unseen = sorted(set(generate(2000, np.random.default_rng(options.seed + 1))) - set(numbers))
    texts = [spell(n) for n in unseen]
    ids, lengths = source.encode_many(texts).padded(np.arange(len(texts)), 0)
    found = model.translate(ids, lengths, bos=target.bos, eos=target.eos, max_new_tokens=8)
    answers = [target.decode(tokens) for tokens in found]
    right = sum(answer == str(n) for answer, n in zip(answers, unseen, strict=True))
    print(f"{right / len(unseen):.2%} of {len(unseen)} unseen numbers are exactly right")
    for text, answer in list(zip(texts, answers, strict=True))[:: len(texts) // 5]:
        print(f"  {text} -> {answer}")
    path = "spelled_numbers.safetensors"
    model.vocabulary = [source.to_dict(), target.to_dict()]
    model.save(path)
    print(f"{path}: {fastrnn.load(path).num_parameters} parameters")


if __name__ == "__main__":
    main()
