"""Fine-tune a PyTorch checkpoint without PyTorch, and hand the weights back to PyTorch.

The checkpoint is a .pt file with an embedding, LSTM, GRU or RNN layers and a head under any of the
usual names, as `torch.save(model.state_dict(), path)` writes it. Character ids follow the
"vocabulary" in the file if it has one, and printable ASCII otherwise. Without a checkpoint PyTorch
makes one, and where it is not installed the one that `fastrnn demo` uses is taken.

    python examples/fine_tune_pytorch.py model.pt --text letters.txt --out tuned.pt

Prints the perplexity of held-out text before and after some steps of Adam, and writes a .pt file
under the names that the checkpoint had. Where PyTorch is installed it opens that file
(weights_only=True), takes the weights (strict=True) and gives the same logits but for rounding:
expect a difference of about 1e-5. The default run takes a few seconds.
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
from fastrnn.formats import open_checkpoint
from fastrnn.models import LanguageModel
from fastrnn.optim import Adam
from fastrnn.train import Trainer

try:
    import torch
except ImportError:
    torch = None

ASCII = "\n" + "".join(map(chr, range(32, 127)))
DEMO = Path(fastrnn.__file__).parent / "data" / "demo.pt"


def make_checkpoint(path: Path, hidden: int) -> None:
    """A checkpoint as any PyTorch program writes it, with names of its own; untrained."""
    parts = {
        "encoder": torch.nn.Embedding(len(ASCII), 32),
        "lstm": torch.nn.LSTM(32, hidden, num_layers=2),
        "decoder": torch.nn.Linear(hidden, len(ASCII)),
    }
    torch.save(torch.nn.ModuleDict(parts).state_dict(), path)


def fine_tune(model: LanguageModel, ids: np.ndarray, options: Namespace) -> None:
    cut = len(ids) * 9 // 10
    train, held = TextStream(ids[:cut], 32, 64), TextStream(ids[cut:], 8, 64)
    trainer = Trainer(model, Adam(model, lr=options.lr), clip_norm=1.0)
    before = math.exp(trainer.evaluate(held).loss)
    result = trainer.fit(train, max_steps=options.max_steps)
    after = math.exp(trainer.evaluate(held).loss)
    print(f"{result.steps} steps in {result.seconds:.1f} s")
    print(f"perplexity of held-out text: {before:.3f} before, {after:.3f} after", flush=True)


def own_name(name: str) -> str:
    """The name that fastrnn gives to the parameter `name` of a checkpoint: lstm.bias_hh_l0 ..."""
    owner, _, kind = f".{name}".rpartition(".")
    if "_l" in kind:
        return f"rnn.{kind}"
    is_table = owner.rpartition(".")[2] in ("embedding", "encoder", "embed", "emb")
    return f"{'embedding' if is_table else 'head'}.{kind}"


def torch_logits(path: Path, model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    """Logits (T, V) of tokens (T,) by PyTorch, with the weights in the file."""
    state = {own_name(n): tensor for n, tensor in torch.load(path, weights_only=True).items()}
    state.setdefault("head.weight", state["embedding.weight"])  # tied ones may be there once
    rnn, kind = model.rnn, getattr(torch.nn, type(model.rnn).__name__)
    vocabulary, width = state["embedding.weight"].shape
    parts = {
        "embedding": torch.nn.Embedding(vocabulary, width),
        "rnn": kind(rnn.input_size, rnn.hidden_size, rnn.num_layers, bias=rnn.bias),
        "head": torch.nn.Linear(rnn.output_size, vocabulary, bias="head.bias" in state),
    }
    torch.nn.ModuleDict(parts).load_state_dict(state, strict=True)
    with torch.inference_mode():
        y, _ = parts["rnn"](parts["embedding"](torch.from_numpy(ids)))
        return np.asarray(parts["head"](y))


class Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """The text above as it stands, and defaults."""


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("checkpoint", nargs="?", type=Path, help="a .pt file with a language model's parameters")
    add("--text", type=Path, help="text to tune on; by default Python's own documentation")
    add("--out", type=Path, default=Path("tuned.pt"), help="file to write")
    add("--max-steps", type=int, default=200, help="optimiser steps")
    add("--lr", type=float, default=1e-3, help="learning rate of Adam")
    add("--hidden", type=int, default=128, help="units of the model that PyTorch makes")
    options = parser.parse_args()

    source = options.checkpoint or DEMO
    if options.checkpoint is None and torch is not None:
        source = options.out.with_suffix(".untrained.pt")
        make_checkpoint(source, options.hidden)
    checkpoint = open_checkpoint(source)
    model = LanguageModel.from_state_dict(checkpoint.tensors)
    print(f"{source}: {model.rnn}, {model.num_parameters:,} parameters, read without PyTorch")

    vocabulary = Vocabulary(str(checkpoint.values.get("vocabulary", ASCII)))
    if len(vocabulary) != model.vocab_size:
        parser.error(f"{source} has {model.vocab_size} tokens, expected {len(vocabulary)}")
    text = standard_library_text() if options.text is None else read_text(options.text)
    known = set(vocabulary.tokens)
    ids = vocabulary.encode("".join(c if c in known else "?" for c in text))
    fine_tune(model, ids, options)

    tuned = {name: model.parameters[own_name(name)] for name in checkpoint.tensors}
    fastrnn.save_pytorch(tuned, options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, written without PyTorch")
    if torch is None:
        print("PyTorch is not installed: nobody to hand the weights to")
        return
    tokens = ids[-200:].astype(np.int64)
    ours, _ = model(tokens)
    difference = float(np.abs(ours - torch_logits(options.out, model, tokens)).max())
    print(f"PyTorch {torch.__version__} opens it; largest difference of logits {difference:.1e}")
    if not difference < 1e-4:
        raise SystemExit("the logits differ by more than rounding")


if __name__ == "__main__":
    main()
