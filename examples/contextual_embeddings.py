"""States of a bidirectional language model as features of a tagger that has few examples.

Sentences of a small made-up language, in which many words are a noun in one place and a verb in
another, are plentiful without tags, and scarce with them. A tagger over the states of a language
model learns from few sentences what one over bare words does not. Takes half a minute.

    python examples/contextual_embeddings.py
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter

import numpy as np

import fastrnn
from fastrnn.data import Buckets, Sequences, ShiftedSequences, Vocabulary
from fastrnn.models import BidirectionalLanguageModel, SequenceTagger
from fastrnn.optim import Adam
from fastrnn.train import Trainer

BOTH = [f"{a}{b}" for a in ("du", "ka", "mo", "ti", "ru") for b in ("sel", "pan", "rik", "tam")]
ADJECTIVES = ["gro", "lif", "nas", "pem", "vor", "zul"]
ADVERBS = ["ekly", "omly", "unly"]
TAGS = ["determiner", "adjective", "noun", "verb", "adverb", "end"]


def generate(count: int, generator: np.random.Generator) -> tuple[list[str], list[list[int]]]:
    """Sentences and a tag for every word: most words can be both noun and verb."""
    texts, tags = [], []
    for _ in range(count):
        words = noun_phrase(generator)
        words.append((str(generator.choice(BOTH)), 3))
        if generator.random() < 0.4:
            words.append((str(generator.choice(ADVERBS)), 4))
        if generator.random() < 0.6:
            words += noun_phrase(generator)
        words.append((".", 5))
        texts.append(" ".join(word for word, _ in words))
        tags.append([tag for _, tag in words])
    return texts, tags


def noun_phrase(generator: np.random.Generator) -> list[tuple[str, int]]:
    """Determiner (or none), adjectives, noun."""
    words = [("lo", 0)] if generator.random() < 0.5 else []
    words += [(str(generator.choice(ADJECTIVES)), 1) for _ in range(generator.integers(0, 3))]
    return [*words, (str(generator.choice(BOTH)), 2)]


def fit_tagger(
    tagger: SequenceTagger, inputs: np.ndarray, tags: np.ndarray, lengths: np.ndarray
) -> None:
    trainer = Trainer(tagger, Adam(tagger, lr=1e-2), clip_norm=1.0)
    for _ in range(150):
        trainer.step(inputs, tags, lengths=lengths)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sentences", type=int, default=6000, help="without tags (default: %(default)s)"
    )
    parser.add_argument("--tagged", type=int, default=10, help="with tags (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of data and weights (default: %(default)s)"
    )
    options = parser.parse_args()

    fastrnn.set_num_threads(1)  # the model is small
    generator = np.random.default_rng(options.seed)
    words = Vocabulary(
        [*BOTH, *ADJECTIVES, *ADVERBS, "lo", "."], level="words", specials=("pad", "bos", "eos")
    )

    texts, _ = generate(options.sentences, generator)
    model = BidirectionalLanguageModel(len(words), 24, 32, ignore_index=-100)
    model.reset_parameters(options.seed)
    examples = ShiftedSequences(words.encode_many(texts), bos=words.bos, eos=words.eos)
    data = Buckets(examples, 32, seed=options.seed)
    trainer = Trainer(model, Adam(model, lr=5e-3), clip_norm=1.0)
    start = time.perf_counter()
    for epoch in range(4):
        losses = [
            trainer.step(batch.inputs, batch.targets, lengths=batch.lengths)[0]
            for batch in data.batches()
        ]
        seconds = time.perf_counter() - start
        print(f"language model, epoch {epoch + 1}: loss {np.mean(losses):.3f}, {seconds:.0f} s")

    def padded(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        texts, tags = generate(count, generator)
        ids, lengths = words.encode_many(texts).padded(np.arange(count), 0)
        return ids, Sequences.of(tags).padded(np.arange(count), 0)[0], lengths

    few, unseen = padded(options.tagged), padded(500)
    over_words = SequenceTagger(len(TAGS), 32, vocab_size=len(words), bidirectional=True)
    over_states = SequenceTagger(len(TAGS), 32, input_size=2 * model.hidden_size)
    for name, tagger in (("words", over_words), ("states of the language model", over_states)):
        tagger.reset_parameters(options.seed)
        (ids, tags, lengths), (new, wanted, ends) = few, unseen
        inputs = ids if tagger is over_words else model.embed(ids, lengths)
        fit_tagger(tagger, inputs, tags, lengths)
        inputs = new if tagger is over_words else model.embed(new, ends)
        result = tagger.loss(inputs, wanted, lengths=ends)
        right = (result.correct or 0) / result.count
        print(
            f"tagger over {name}: {right:.1%} of {result.count} tags right "
            f"after {options.tagged} sentences"
        )


if __name__ == "__main__":
    main()
