"""From features to a sentence and back: captions of generated scenes.

A scene is a set of things, each a vector as a vision network might give it. Three parts of one
toolbox: a set becomes a sentence with attention over the set (captioning); a sentence becomes a
vector, which is what a Forecaster's or classifier's encoder does (sequence to vector); and that
vector becomes the sentence again (vector to sequence). Takes half a minute.

    python examples/captioning.py
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import numpy as np

import fastrnn
from fastrnn.data import ShiftedSequences, Vocabulary
from fastrnn.models import FeaturesToSequence, Seq2Seq
from fastrnn.optim import Adam
from fastrnn.optim.schedules import Cosine
from fastrnn.train import Trainer

COLOURS = ["red", "green", "blue", "yellow", "black"]
SHAPES = ["circle", "square", "triangle", "star"]
MOST = 3  # things in a scene
NOISE = 0.2

Scene = list[tuple[int, int]]  # colour and shape, from left to right
Batch = tuple[Any, ...]  # source, inputs, targets, lengths of both


def sentence(scene: Scene) -> str:
    """Things from left to right."""
    words = [f"a {COLOURS[colour]} {SHAPES[shape]}" for colour, shape in scene]
    return " left of ".join(words)


def look_at(scenes: list[Scene], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features (S, N, F) in any order, with noise, and how many things there are (N,)."""
    size = len(COLOURS) + len(SHAPES) + 1
    features = np.zeros((MOST, len(scenes), size), np.float32)
    for n, scene in enumerate(scenes):
        places = generator.permutation(len(scene))  # positions in the set, which has no order
        for x, (colour, shape) in enumerate(scene):
            features[places[x], n, colour] = 1
            features[places[x], n, len(COLOURS) + shape] = 1
            features[places[x], n, -1] = 2 * x - 2  # positions from left to right
    features += NOISE * generator.standard_normal(features.shape, np.float32)
    return features, np.array([len(scene) for scene in scenes])


def generate(count: int, generator: np.random.Generator) -> list[Scene]:
    return [
        [
            (int(generator.integers(len(COLOURS))), int(generator.integers(len(SHAPES))))
            for _ in range(generator.integers(1, MOST + 1))
        ]
        for _ in range(count)
    ]


def fit(model: FeaturesToSequence | Seq2Seq, batches: list[Batch], lr: float, name: str) -> None:
    """One pass over batches."""
    schedule = Cosine(lr, len(batches))
    trainer = Trainer(model, Adam(model), clip_norm=1.0, schedule=schedule)
    start, losses = time.perf_counter(), []
    for source, inputs, targets, lengths in batches:
        losses.append(trainer.step((source, inputs), targets, lengths=lengths)[0])
    seconds = time.perf_counter() - start
    print(
        f"{name}: loss {losses[0]:.2f} -> {np.mean(losses[-50:]):.3f}, {seconds:.0f} s", flush=True
    )


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=2500, help="batches to learn from (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of data and weights (default: %(default)s)"
    )
    options = parser.parse_args()

    fastrnn.set_num_threads(1)  # the model is small
    generator = np.random.default_rng(options.seed)
    words = Vocabulary(
        ["a", "left", "of", *COLOURS, *SHAPES], level="words", specials=("pad", "bos", "eos")
    )

    def target_of(scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        texts = words.encode_many([sentence(scene) for scene in scenes])
        batch = ShiftedSequences(texts, bos=words.bos, eos=words.eos).gather(np.arange(len(scenes)))
        return batch.inputs, batch.targets, batch.lengths

    # A set of vectors to a sequence, with attention over the set.
    captioner = FeaturesToSequence(
        len(COLOURS) + len(SHAPES) + 1, len(words), 64, attention="scaled_dot", cell="gru"
    )
    captioner.reset_parameters(options.seed)
    batches: list[Batch] = []
    for _ in range(options.steps):
        scenes = generate(32, generator)
        features, counts = look_at(scenes, generator)
        inputs, targets, lengths = target_of(scenes)
        batches.append((features, inputs, targets, (counts, lengths)))
    fit(captioner, batches, 1e-2, "captioning")

    unseen = generate(500, generator)
    features, counts = look_at(unseen, generator)
    found = captioner.translate(features, counts, bos=words.bos, eos=words.eos, max_new_tokens=20)
    captions = [words.decode(ids) for ids in found]
    right = sum(a == sentence(b) for a, b in zip(captions, unseen, strict=True))
    print(f"  {right / len(unseen):.1%} of {len(unseen)} unseen scenes are described exactly")
    print(f"  {captions[0]!r} for {sentence(unseen[0])!r}")
    inputs = np.concatenate(([words.bos], words.encode(captions[0])))[:, None]
    weights = captioner.attention(features[:, :1], inputs, (counts[:1], None))[:, :, 0]
    looks = [
        f"{word} {row.argmax()}" for word, row in zip(captions[0].split(), weights, strict=False)
    ]
    print(f"  which thing of the set each word looks at: {', '.join(looks)}")

    # A sequence to a vector: an encoder's last state; and from that vector the sequence again.
    autoencoder = Seq2Seq(len(words), len(words), 64, cell="gru", embedding_dim=32)
    autoencoder.reset_parameters(options.seed)
    batches = [
        (inputs, inputs, targets, (lengths[1], lengths[1]))
        for _, inputs, targets, lengths in batches
    ]
    fit(autoencoder, batches, 5e-3, "sequence to vector to sequence")
    inputs, _, lengths = target_of(unseen)
    vectors = autoencoder.encode(inputs, lengths).state[-1]  # (N, 64): one for each sentence
    found = autoencoder.translate(inputs, lengths, bos=words.bos, eos=words.eos, max_new_tokens=20)
    right = sum(words.decode(a) == sentence(b) for a, b in zip(found, unseen, strict=True))
    print(f"  {right / len(unseen):.1%} of {len(unseen)} sentences come back from their vector")

    # Such vectors are features like any other: another network can write from them.
    writer = FeaturesToSequence(vectors.shape[1], len(words), 64, cell="gru")
    writer.reset_parameters(options.seed)
    batches = [
        (autoencoder.encode(inputs, lengths[1]).state[-1], inputs, targets, (None, lengths[1]))
        for inputs, _, targets, lengths in batches
    ]
    fit(writer, batches, 1e-2, "vector to sequence")
    found = writer.translate(vectors, bos=words.bos, eos=words.eos, max_new_tokens=20)
    right = sum(words.decode(a) == sentence(b) for a, b in zip(found, unseen, strict=True))
    print(f"  {right / len(unseen):.1%} of {len(unseen)} vectors are read correctly")


if __name__ == "__main__":
    main()
