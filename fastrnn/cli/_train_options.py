"""The options of `fastrnn train`, task by task, with what a person should know about each."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Callable
from typing import Any

from fastrnn.cli._floor import GATES
from fastrnn.cli._values import MAX_THREADS, names, number, whole

# What differs between tasks. All are made for minutes on the CPU of a laptop.
DEFAULTS: dict[str, dict[str, Any]] = {
    "lm": {"hidden": 256, "layers": 2, "batch_size": 32, "epochs": 10, "lr": 2e-3, "dropout": 0.2},
    "classify": {
        "hidden": 128, "layers": 1, "batch_size": 64, "epochs": 10, "lr": 2e-3, "dropout": 0.2,
    },
    "tag": {
        "hidden": 128, "layers": 1, "batch_size": 32, "epochs": 10, "lr": 2e-3, "dropout": 0.3,
    },
    "seq2seq": {
        "hidden": 128, "layers": 1, "batch_size": 64, "epochs": 10, "lr": 3e-3, "dropout": 0.1,
    },
    "forecast": {
        "hidden": 64, "layers": 1, "batch_size": 32, "epochs": 40, "lr": 3e-3, "dropout": 0.0,
    },
}  # fmt: skip

_Add = Callable[..., None]


def add_train_options(parser: ArgumentParser, task: str) -> None:
    """Every option of a task, in groups."""
    chosen = DEFAULTS[task]
    _files(_adder(parser, "files"))
    _data(_adder(parser, "data"), task)
    _network(_adder(parser, "network"), task, chosen)
    _training(_adder(parser, "training"), chosen)
    _learning(_adder(parser, "learning rate and gradient"), chosen)
    _machine(_adder(parser, "machine"), task)
    _report(_adder(parser, "report"), task)


def _adder(parser: ArgumentParser, title: str) -> _Add:
    """Adds options to a group; their help ends with the default."""
    group = parser.add_argument_group(title)

    def add(flag: str, help: str, default: Any = None, **more: Any) -> None:
        if default is not None and default is not False:
            help += f" (default: {'yes' if default is True else default})"
        group.add_argument(flag, help=help, default=default, **more)

    return add


def _files(add: _Add) -> None:
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


def _data(add: _Add, task: str) -> None:
    add("--encoding", "of the data, if it is text, as latin-1", "utf-8", metavar="NAME")
    if task == "forecast":
        _series(add)
    else:
        _text(add, task)
    add(
        "--validation",
        "share of the data that is held out, 0 to 1; the model with the lowest loss on it is kept",
        0.1,
        type=number(0, 0.9, above=True),
        metavar="SHARE",
    )


def _text(add: _Add, task: str) -> None:
    add(
        "--level",
        "what one step is: a character (small vocabulary, any word) or a word between white space",
        "words" if task == "tag" else "characters",
        choices=("characters", "words"),
    )
    add(
        "--min-count",
        "rarer words become <unk>, which lets the model meet unknown ones (default: 2 for words, "
        "1 for characters)",
        type=whole(1),
        metavar="N",
    )
    add("--max-vocabulary", "keep only so many tokens", type=whole(3), metavar="N")
    if task == "classify":
        add("--text-column", "which column of a CSV or TSV file is the text", metavar="NAME")
        add("--label-column", "which one is the class", metavar="NAME")
    if task == "lm":
        add(
            "--steps",
            "steps of a window: how far back gradients go; the state is carried further. More "
            "sees longer dependencies and needs more memory",
            64,
            type=whole(1),
            metavar="T",
        )
        add(
            "--random-truncation",
            "cut windows apart with this probability only and weight the gradient, which then has "
            "no bias (Tallec and Ollivier 2017)",
            type=number(0, 1, above=True),
            metavar="P",
        )


def _series(add: _Add) -> None:
    add("--columns", "which columns of a CSV file go in, with commas between (default: all "
        "that hold numbers)",
        type=names, metavar="NAMES")  # fmt: skip
    add("--targets", "which of them are forecast (default: all; needed to look beyond --horizon)",
        type=names, metavar="NAMES")  # fmt: skip
    add("--steps", "steps the model sees before it forecasts", 48, type=whole(1), metavar="T")
    add("--horizon", "steps that it forecasts at once", 1, type=whole(1), metavar="K")
    add("--stride", "steps between the starts of two windows; more is faster", 1, type=whole(1))
    add("--order", "past steps of the linear baseline (default: 16, at most --steps)",
        type=whole(1), metavar="K")  # fmt: skip
    add("--objective", "the loss; mae and huber mind outliers less", "mse",
        choices=("mse", "mae", "huber"))  # fmt: skip


def _network(add: _Add, task: str, chosen: dict[str, Any]) -> None:
    add("--cell", "lstm is the safe choice, gru a quarter smaller and faster, rnn forgets soon",
        "lstm", choices=tuple(GATES))  # fmt: skip
    add("--hidden", "units of a layer; time and memory grow with its square. Larger for more "
        "data, smaller if validation gets worse while training gets better",
        chosen["hidden"], type=whole(1), metavar="H")  # fmt: skip
    add("--layers", "recurrent layers on top of each other", chosen["layers"], type=whole(1, 1024),
        metavar="L")  # fmt: skip
    if task != "forecast":
        add("--embedding", "numbers per token (default: as --hidden)", type=whole(1), metavar="E")
    add("--dropout", "share of values left out in training, 0 to 1; more against overfitting",
        chosen["dropout"], type=number(0, 0.99), metavar="P")  # fmt: skip
    if task == "lm":
        add("--tie-weights", "one table for the first and the last layer: fewer parameters, good "
            "for words", False, action="store_true")  # fmt: skip
        add("--weight-drop", "dropout of recurrent weights (Merity et al. 2018)", 0.0,
            type=number(0, 0.99), metavar="P")  # fmt: skip
        add("--locked-dropout", "one dropout mask for all steps (Gal and Ghahramani 2016)", False,
            action="store_true")  # fmt: skip
    if task == "seq2seq":
        add("--attention", "how the decoder looks at the source: scores by a small network, by a "
            "matrix, by a scaled product, or not at all", "additive",
            choices=("additive", "multiplicative", "scaled_dot", "none"))  # fmt: skip
        add("--input-feeding", "every step of the decoder also reads what the step before saw "
            "(Luong et al. 2015); slower, as training then runs step by step", False,
            action="store_true")  # fmt: skip
        add("--tie-weights", "one table for the target's embedding and the last layer; needs "
            "--embedding as large as --hidden", False, action="store_true")  # fmt: skip
        add("--sampling", "share of steps in training that read what the model wrote, not what is "
            "right (scheduled sampling)", 0.0, type=number(0, 1), metavar="P")  # fmt: skip
        add("--bidirectional", "read the source from both ends", True,
            action=BooleanOptionalAction)  # fmt: skip
    if task in ("classify", "tag"):
        add("--bidirectional", "read from both ends; a model that does cannot stream", True,
            action=BooleanOptionalAction)  # fmt: skip
    if task == "classify":
        add("--pooling", "the sequence as one vector: last state, or mean or max over its steps",
            "last", choices=("last", "mean", "max"))  # fmt: skip
    if task != "forecast":
        add("--label-smoothing", "share of each target spread over all others; 0.1 helps against "
            "too certain models", 0.0, type=number(0, 0.99), metavar="P")  # fmt: skip


def _training(add: _Add, chosen: dict[str, Any]) -> None:
    add("--epochs", "passes over the training data", chosen["epochs"], type=whole(1), metavar="N")
    add("--max-steps", "end after so many optimiser steps", type=whole(1), metavar="N")
    add("--batch-size", "rows at a time: more is faster per token and needs more memory",
        chosen["batch_size"], type=whole(1), metavar="N")  # fmt: skip
    add("--accumulate", "batches whose gradient is one optimiser step, as one batch of them all",
        1, type=whole(1), metavar="N")  # fmt: skip
    add("--validate-every", "steps between validations (default: once an epoch)", type=whole(1),
        metavar="N")  # fmt: skip
    add("--patience", "end after so many validations in a row without improvement (default: never)",
        type=whole(1), metavar="N")  # fmt: skip
    add("--seed", "of all that is random: the same seed gives the same bits", 0, type=whole(0),
        metavar="N")  # fmt: skip


def _learning(add: _Add, chosen: dict[str, Any]) -> None:
    add("--lr", "learning rate: the first thing to change. Lower it by 3 if the loss jumps, raise "
        "it by 3 if it falls slowly", chosen["lr"], type=number(0, above=True),
        metavar="RATE")  # fmt: skip
    add("--optimizer", "adam works without much tuning; sgd wants a rate near 1", "adam",
        choices=("adam", "adamw", "sgd", "rmsprop", "adagrad"))  # fmt: skip
    add("--momentum", "of sgd and rmsprop", 0.0, type=number(0, 0.999999), metavar="M")
    add("--weight-decay", "pulls parameters towards zero; try 0.01 with adamw", 0.0,
        type=number(0), metavar="W")  # fmt: skip
    add("--schedule", "how the rate changes: cosine falls to a twentieth at the end of the "
        "training, plateau halves when validation stops to improve", "cosine",
        choices=("cosine", "plateau", "constant"))  # fmt: skip
    add("--warmup", "steps in which the rate rises from 0; against a bad start", 0, type=whole(0),
        metavar="N")  # fmt: skip
    add("--clip-norm", "the gradient's norm is cut to this; the remedy for exploding gradients, "
        "0 for none", 1.0, type=number(0), metavar="NORM")  # fmt: skip


def _machine(add: _Add, task: str) -> None:
    add("--threads", "threads (default: one per core, or FASTRNN_NUM_THREADS); no bit depends on "
        "it", type=whole(1, MAX_THREADS), metavar="N")  # fmt: skip
    shared = ", shared by encoder and decoder" if task == "seq2seq" else ""
    add("--memory-budget", f"MiB that the recurrent layers may keep for the way back{shared}; "
        "parts are computed again where they must, with the same bits (default: no limit)",
        type=number(0, 1 << 42, above=True), metavar="MIB")  # fmt: skip


def _report(add: _Add, task: str) -> None:
    also = "-encoder and NAME-flow-decoder" if task == "seq2seq" else ""
    add("--flow", "at the end show how the gradient of a validation batch flowed back through "
        "layers and steps: does it vanish or explode?", False, action="store_true")  # fmt: skip
    add("--plot", "write the loss curve to this .png, .pdf or .svg, with --flow also NAME-flow"
        f"{also}; needs matplotlib (pip install fastrnn[plot])", metavar="FILE")  # fmt: skip
    add("--quiet", "no progress", False, action="store_true")
