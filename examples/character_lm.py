"""Train a character-level language model, stop and resume it at will, and let it write.

Two LSTM layers of 256 units read the text in windows of 64 characters and carry their state on
(truncated backpropagation through time). Give any text, for example tinyshakespeare; without one
it learns the prose of Python's own documentation. The last tenth of the text is held out.

    python examples/character_lm.py tinyshakespeare.txt --out shakespeare/
    python examples/character_lm.py tinyshakespeare.txt --out shakespeare/ --resume

The default run is about 2900 steps. A quarter of that (700 steps without dropout, by
learning_curves.py) takes the validation perplexity on tinyshakespeare from 65, that of a guess, to
5.4. Ctrl-C saves; --resume goes on with the same bits as if nothing had happened.
"""

import math
from argparse import (
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn.data import TextStream, Vocabulary, read_text, standard_library_text
from fastrnn.models import LanguageModel
from fastrnn.optim import Adam
from fastrnn.optim.schedules import Cosine, Warmup
from fastrnn.train import Trainer


def make_sources(ids: np.ndarray, options: Namespace) -> tuple[TextStream, TextStream]:
    """Nine tenths to learn from and the rest to validate on, as batches of windows."""
    cut = len(ids) * 9 // 10
    train = TextStream(ids[:cut], options.batch, options.bptt)
    return train, TextStream(ids[cut:], min(options.batch, 16), options.bptt)


def make_model(vocabulary: Vocabulary, options: Namespace) -> LanguageModel:
    model = LanguageModel(
        len(vocabulary),
        embedding_dim=min(options.hidden, 64),
        hidden_size=options.hidden,
        num_layers=options.layers,
        cell=options.cell,
        dropout=options.dropout,
    )
    model.reset_parameters(options.seed)
    model.seed(options.seed)  # of dropout
    model.vocabulary = vocabulary.to_dict()  # travels with the saved model
    return model


def sample(model: LanguageModel, prompt: str, length: int, temperature: float, seed: int) -> str:
    """Text that goes on after `prompt`, one character at a time."""
    vocabulary = Vocabulary.from_dict(model.vocabulary)
    generator, stream = np.random.default_rng(seed), model.stream()
    ids = vocabulary.encode(prompt).tolist()
    for token in ids[:-1]:
        stream.step(token)
    for _ in range(length):
        logits = stream.step(ids[-1])
        # The largest of logits / temperature plus Gumbel noise is an exact draw of the softmax.
        noise = generator.gumbel(size=len(logits))
        ids.append(int((logits / temperature + noise).argmax()))
    return vocabulary.decode(ids)


class Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """The text above as it stands, and defaults."""


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("text", nargs="?", type=Path, help="a text file or a folder of them")
    add("--out", help="folder/ for checkpoints and history; without it nothing is saved")
    add("--resume", action="store_true", help="go on with the training in --out")
    add("--epochs", type=int, default=6, help="times that the text is read")
    add("--max-steps", type=int, help="stop earlier")
    add("--cell", choices=["lstm", "gru", "rnn"], default="lstm", help="kind of layer")
    add("--hidden", type=int, default=256, help="units of a layer")
    add("--layers", type=int, default=2, help="layers")
    add("--batch", type=int, default=32, help="streams read in parallel")
    add("--bptt", type=int, default=64, help="steps per backward pass; the state is carried on")
    add("--dropout", type=float, default=0.1, help="between layers, before and after them")
    add("--lr", type=float, default=2e-3, help="highest learning rate")
    add("--seed", type=int, default=0, help="of weights, dropout and sample")
    add("--sample", type=int, default=400, help="characters to write at the end")
    add("--temperature", type=float, default=0.7, help="of the sample, above 0")
    options = parser.parse_args()
    if options.resume and options.out is None:
        parser.error("--resume needs --out, the folder of the training to go on with")

    text = standard_library_text() if options.text is None else read_text(options.text)
    vocabulary = Vocabulary.build(text)
    train, validation = make_sources(vocabulary.encode(text), options)
    model = make_model(vocabulary, options)
    print(f"{len(text):,} characters, {len(vocabulary)} different; {model.rnn}")
    print(f"{model.num_parameters:,} parameters, {train.num_batches} steps per epoch", flush=True)

    steps = options.max_steps or options.epochs * train.num_batches
    schedule = Warmup(Cosine(options.lr, steps, low=options.lr / 20), max(1, steps // 50))
    trainer = Trainer(model, Adam(model), clip_norm=1.0, schedule=schedule)
    result = trainer.fit(
        train,
        validation=validation,
        epochs=options.epochs,
        max_steps=options.max_steps,
        out=options.out,
        resume=options.resume,
    )
    print(f"{result.steps} steps in {result.seconds:.0f} s, stopped by {result.stopped}")
    if result.best_loss is not None:
        perplexity = math.exp(result.best_loss)
        print(f"validation perplexity {perplexity:.3f} (loss {result.best_loss:.4f})")
    if result.best is not None:
        model = fastrnn.load(result.best)
        print(f"the best model is in {result.best}, `fastrnn.load` makes it again")
    print(f"\n{sample(model, text[:1], options.sample, options.temperature, options.seed)}")


if __name__ == "__main__":
    main()
