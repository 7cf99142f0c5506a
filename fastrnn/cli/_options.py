"""Options of `fastrnn train` that tasks share, each with help for a person."""

from __future__ import annotations

from typing import Any

from fastrnn import optim
from fastrnn.cli._cells import LAYERS
from fastrnn.cli._model import Option
from fastrnn.cli._parser import Add, Parser
from fastrnn.cli._values import MAX_THREADS, number, whole

OPTIMIZERS: dict[str, Any] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}


def add_files(add: Add) -> None:
    """The model's file, and where the options come from."""
    add(
        "--out",
        "the model's file; beside it MODEL.last.safetensors and MODEL.best.safetensors (to go on), "
        "MODEL.history.jsonl (losses) and MODEL.options.json (these options)",
        required=True,
        metavar="MODEL",
    )
    add(
        "--config",
        "options from a .toml or .json file, named as here (hidden = 512); the command line wins",
        metavar="FILE",
    )
    add(
        "--resume",
        "go on with the training of --out where it stopped, with its options; the result has the "
        "same bits as without the interruption. Options given anew are used if they are about the "
        "learning rate and gradient (but --optimizer), the end, when to validate, this machine or "
        "the report; others that differ are refused",
        False,
        action="store_true",
    )


def add_encoding(add: Add) -> None:
    add("--encoding", "of the data, if it is text, as latin-1", "utf-8", metavar="NAME",
        may_change=True)  # fmt: skip


def add_validation(add: Add) -> None:
    add("--validation", "share of the data that is held out, between 0 and 1; the model with the "
        "lowest loss on it is kept", 0.1, argument="validation share",
        type=number(0, 0.9, above=True), metavar="SHARE")  # fmt: skip


def add_vocabulary(add: Add, level: str) -> None:
    """Options of a text's steps: characters or words, and the size of the vocabulary."""
    add("--level", "one step of a text: a character (small vocabulary, any word) or a word between "
        "white space", level, choices=("characters", "words"))  # fmt: skip
    add("--min-count", "rarer words become <unk>, which lets the model meet unknown ones (default: "
        "2 for words, 1 for characters)", type=whole(1), metavar="N")  # fmt: skip
    add("--max-vocabulary", "keep only so many tokens", argument="max_size", type=whole(3),
        metavar="N")  # fmt: skip


def layers(*, hidden: int, layers: int, dropout: float) -> dict[str, Option]:
    """The recurrent layers, by the names of a model's arguments."""
    return {
        "cell": Option(
            "lstm is the safe choice, gru is a quarter smaller and faster, rnn forgets soon",
            default="lstm",
            choices=tuple(LAYERS),
        ),
        "hidden_size": Option(
            "units of a layer; time and memory grow with its square. Larger for more data, smaller "
            "if validation gets worse while training gets better",
            flag="--hidden",
            default=hidden,
            also="embedding_dim",
            type=whole(1),
            metavar="H",
        ),
        "num_layers": Option(
            "recurrent layers on top of each other",
            flag="--layers",
            default=layers,
            type=whole(1, 1024),
            metavar="L",
        ),
        "dropout": Option(
            "share of values left out in training, 0 to 1; more against overfitting",
            default=dropout,
            type=number(0, 0.99),
            metavar="P",
        ),
    }


# Options of a model of tokens beside those of its layers.
TEXT_LAYERS = {
    "embedding_dim": Option(
        "numbers per token (default: as --hidden)", flag="--embedding", type=whole(1), metavar="E"
    ),
    "label_smoothing": Option(
        "share of each target that is spread over all others; 0.1 helps against models that are "
        "too certain",
        type=number(0, 0.99),
        metavar="P",
    ),
}


def add_training(add: Add, *, epochs: int, batch_size: int) -> None:
    """Options of a training's length and of its batches."""
    add("--epochs", "passes over the training data", epochs, type=whole(1), metavar="N",
        may_change=True)  # fmt: skip
    add("--max-steps", "end after so many optimiser steps", type=whole(1), metavar="N",
        may_change=True)  # fmt: skip
    add("--batch-size", "rows at a time: more is faster per token and needs more memory",
        batch_size, type=whole(1), metavar="N")  # fmt: skip
    add("--accumulate", "batches whose gradient is one optimiser step, as one batch of them all",
        1, type=whole(1), metavar="N")  # fmt: skip
    add("--validate-every", "steps between validations (default: once an epoch)", type=whole(1),
        metavar="N", may_change=True)  # fmt: skip
    add("--patience", "end after so many validations in a row without improvement (default: never)",
        type=whole(1), metavar="N", may_change=True)  # fmt: skip
    add("--seed", "of all that is random: the same seed gives the same bits", 0, type=whole(0),
        metavar="N")  # fmt: skip


def add_learning(add: Add, *, lr: float) -> None:
    """The learning rate and the gradient."""
    add("--lr", "learning rate: the first thing to change. Lower it by 3 if the loss jumps, raise "
        "it by 3 if it falls slowly", lr, type=number(0, above=True), metavar="RATE",
        may_change=True)  # fmt: skip
    add("--optimizer", "adam works without much tuning; sgd wants a rate near 1", "adam",
        choices=tuple(OPTIMIZERS))  # fmt: skip
    add("--momentum", "of sgd and rmsprop", 0.0, type=number(0, 0.999999), metavar="M",
        may_change=True)  # fmt: skip
    add("--weight-decay", "pulls parameters towards zero; try 0.01 with adamw", 0.0,
        type=number(0), metavar="W", may_change=True)  # fmt: skip
    add("--schedule", "how the rate changes: cosine falls to a twentieth at the end of the "
        "training, plateau halves it when validation no longer improves", "cosine",
        choices=("cosine", "plateau", "constant"), may_change=True)  # fmt: skip
    add("--warmup", "steps in which the rate rises from 0; against a bad start", 0, type=whole(0),
        metavar="N", may_change=True)  # fmt: skip
    add("--clip-norm", "the gradient's norm is cut to this; the remedy for exploding gradients, "
        "0 for none", 1.0, type=number(0), metavar="NORM", may_change=True)  # fmt: skip


def add_machine(add: Add, *, parts: tuple[str, ...] = ()) -> None:
    """Threads and memory; `parts`: the recurrent parts of a model that has several."""
    add("--threads", "threads (default: one per core, or FASTRNN_NUM_THREADS); no bit depends on "
        "it", type=whole(1, MAX_THREADS), metavar="N", may_change=True)  # fmt: skip
    shared = f", shared by {' and '.join(parts)}" if parts else ""
    add("--memory-budget", f"MiB that the recurrent layers may keep for the backward pass{shared}; "
        "parts are computed again where they must, with the same bits (default: no limit)",
        type=number(0, 1 << 42, above=True), metavar="MIB", may_change=True)  # fmt: skip


def add_report(add: Add, *, parts: tuple[str, ...] = ()) -> None:
    """Options of the report at the end; `parts` as of `add_machine`."""
    also = " and ".join(f"NAME-flow-{part}" for part in parts) or "NAME-flow"
    add("--flow", "at the end show how the gradient of a validation batch flowed back through "
        "layers and steps: does it vanish or explode?", False, action="store_true",
        may_change=True)  # fmt: skip
    add("--plot", f"write the loss curve to this .png, .pdf or .svg, with --flow also {also}; "
        "needs matplotlib (pip install fastrnn[plot])", metavar="FILE",
        may_change=True)  # fmt: skip
    add("--quiet", "no progress", False, action="store_true", may_change=True)


def add_shared(parser: Parser, defaults: dict[str, Any], parts: tuple[str, ...]) -> None:
    """All groups that come behind the network's, and are the same for every task."""
    add_training(
        parser.group("training"), epochs=defaults["epochs"], batch_size=defaults["batch_size"]
    )
    add_learning(parser.group("learning rate and gradient"), lr=defaults["lr"])
    add_machine(parser.group("machine"), parts=parts)
    add_report(parser.group("report"), parts=parts)
