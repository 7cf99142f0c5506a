"""`fastrnn train TASK [DATA ...] --out MODEL`: from data to a model in one file."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import fastrnn
from fastrnn.cli._config import ConfigParser, check_resumed, save_options
from fastrnn.cli._task import Job
from fastrnn.cli._train_options import add_train_options
from fastrnn.cli._values import check_picture

CODES = """\
exit codes:
  0    the training came to its end
  1    it failed: a file is missing or wrong, the disk is full, the loss diverged
  2    wrong usage
  130  Ctrl-C or a request to terminate: all is saved, --resume goes on with the same bits
"""
# task: (what DATA is, how many, what it does, an example of its use)
TASKS: dict[str, tuple[str, str, str, str]] = {
    "lm": (
        "text files, or folders of .txt files; without any, the standard library's own English "
        "documentation",
        "*",
        "a language model: it tells how likely a text is and what comes next",
        """\
  fastrnn train lm --out model                      on Python's documentation, some minutes
  fastrnn train lm shakespeare.txt --out model --epochs 5
  fastrnn train lm books/ --out model --level words --tie-weights --dropout 0.4
  fastrnn train lm --out model --resume             after Ctrl-C""",
    ),
    "classify": (
        "a folder with a .txt file per class (a text per line) or a folder per class (a text per "
        "file), a .csv file with label,text, or a .tsv file with text<TAB>label",
        "1",
        "a classifier: one of several classes for each text",
        """\
  fastrnn train classify names/ --out model         names/Greek.txt: a name per line
  fastrnn train classify reviews.csv --out model --level words --pooling mean
  fastrnn train classify mail.tsv --out model --text-column body --label-column kind""",
    ),
    "tag": (
        "files with token<TAB>tag in every line and a blank line between sentences",
        "+",
        "a tagger: a tag for each token of a sentence",
        """\
  fastrnn train tag train.tsv --out model
  fastrnn train tag train.tsv --out model --cell gru --layers 2 --patience 3""",
    ),
    "seq2seq": (
        "files with source<TAB>target in every line",
        "+",
        "a model that makes one text of another",
        """\
  fastrnn train seq2seq dates.tsv --out model
  fastrnn train seq2seq english-german.tsv --out model --level words --layers 2 --sampling 0.1
  fastrnn train seq2seq english-german.tsv --out model --level words --input-feeding""",
    ),
    "forecast": (
        "a .csv file, time downwards, or a .npy array (steps,) or (steps, features)",
        "1",
        "a forecaster: the next steps of a time series, beside a linear baseline",
        """\
  fastrnn train forecast load.csv --out model --columns load,temperature --targets load
  fastrnn train forecast series.npy --out model --steps 96 --horizon 24 --order 24""",
    ),
}

_WITH_MOMENTUM = ("sgd", "rmsprop")
_USAGE = {"*": "[DATA ...]", "+": "DATA [DATA ...]", "1": "DATA"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A parser for each task."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"fastrnn train TASK --help explains data and options.\n\n{CODES}"
    tasks = parser.add_subparsers(
        dest="task", metavar="TASK", required=True, parser_class=ConfigParser
    )
    for name, (data, count, summary, examples) in TASKS.items():
        task = tasks.add_parser(
            name,
            usage=f"fastrnn train {name} {_USAGE[count]} --out MODEL [options]",
            help=summary,
            description=f"Train {summary}.",
            epilog=f"examples:\n{examples}\n\n{CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # --config and --resume are looked for before all is read
        )
        task.add_argument("data", nargs="*", default=[], metavar="DATA", help=data)
        add_train_options(task, name)
        task.set_defaults(refuse=task.error, at_most=1 if count == "1" else None)


def run(options: argparse.Namespace) -> int:
    """Train, save the best model, say how good it is; returns the exit code."""
    _check(options)
    task = import_module(f"fastrnn.cli._{options.task}")
    with ExitStack() as stack:
        if options.threads:
            stack.enter_context(fastrnn.num_threads(options.threads))
        job = task.prepare(options)
        _ready(job.model, options)
        _say(job.described)
        _say(f"{type(job.model).__name__}: {job.model.num_parameters:,} parameters")
        result = _fit(job, options)
        _finish(job, task, result, options)
        if result.stopped == "interrupted":
            print(f"interrupted and saved: go on with fastrnn train {options.task} --out "
                  f"{options.out} --resume", file=sys.stderr)  # fmt: skip
            return 130
    return 0


def _say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def _check(options: argparse.Namespace) -> None:
    """What must be known before an hour of work."""
    if not options.data and options.task != "lm":
        options.refuse("the following arguments are required: DATA")
    if options.at_most and len(options.data) > options.at_most:
        options.refuse(f"argument DATA: expected one, got {len(options.data)}")
    if os.path.isdir(options.out) or options.out.endswith(os.sep):
        options.refuse(f"argument --out: {options.out} is a folder, expected the name of a file")
    if options.task == "lm" and options.random_truncation and options.accumulate > 1:
        options.refuse("argument --accumulate: the cuts of --random-truncation decide already")
    if options.momentum and options.optimizer not in _WITH_MOMENTUM:
        options.refuse(f"argument --momentum: {options.optimizer} has none, expected --optimizer "
                       f"{' or '.join(_WITH_MOMENTUM)}")  # fmt: skip
    is_tied = options.task in ("lm", "seq2seq") and options.tie_weights
    if is_tied and (options.embedding or options.hidden) != options.hidden:
        options.refuse(f"argument --tie-weights: needs an --embedding as large as --hidden, "
                       f"{options.hidden}, got {options.embedding}")  # fmt: skip
    if options.task == "seq2seq" and options.input_feeding:
        if options.attention == "none":
            options.refuse("argument --input-feeding: needs an --attention other than none")
        if options.memory_budget:
            options.refuse(
                "argument --memory-budget: not with --input-feeding, which keeps all steps"
            )
    last = Path(f"{options.out}.last.safetensors")
    if not options.resume:
        for path in (last, Path(options.out)):
            if path.exists():
                raise ValueError(
                    f"{path} is there already: go on with it by --resume, remove it, or choose "
                    f"another --out"
                )
    elif not last.exists():
        raise ValueError(f"{last}: no such file, so there is no training to resume")
    else:
        check_resumed(options)
    if options.plot:
        check_picture("--plot", options.plot)


def _ready(model: Any, options: argparse.Namespace) -> None:
    """Seeds, and the limit of memory."""
    model.reset_parameters(options.seed)
    model.seed(options.seed)
    if options.memory_budget:
        model.limit_memory(int(options.memory_budget * 2**20))


def _fit(job: Job, options: argparse.Namespace) -> Any:
    from fastrnn.train import RandomTruncation, Trainer, TrainingDiverged

    cut = getattr(options, "random_truncation", None)
    trainer = Trainer(
        job.model,
        _optimizer(job.model, options),
        schedule=_schedule(job.source.num_batches, options),
        clip_norm=options.clip_norm or None,
        accumulate=options.accumulate,
        truncation=RandomTruncation(cut, seed=options.seed) if cut else None,
    )
    for path in filter(None, (options.out, options.plot)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    job.model.extra = job.about
    try:
        return trainer.fit(
            job.source,
            validation=job.validation,
            epochs=options.epochs,
            max_steps=options.max_steps,
            out=options.out,
            patience=options.patience,
            validate_every=options.validate_every,
            resume=options.resume,
            progress=False if options.quiet else None,
            on_begin=lambda: save_options(options),
        )
    except TrainingDiverged as error:
        raise ValueError(error.told("--clip-norm 1.0", "--clip-norm")) from error


def _optimizer(model: Any, options: argparse.Namespace) -> Any:
    from fastrnn import optim

    more = {"momentum": options.momentum} if options.optimizer in _WITH_MOMENTUM else {}
    kinds = {
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "sgd": optim.SGD,
        "rmsprop": optim.RMSprop,
        "adagrad": optim.Adagrad,
    }
    kind: Any = kinds[options.optimizer]
    return kind(model, lr=options.lr, weight_decay=options.weight_decay, **more)


def _schedule(per_epoch: int, options: argparse.Namespace) -> Any:
    from fastrnn.optim.schedules import Constant, Cosine, Plateau, Schedule, Warmup

    share = getattr(options, "random_truncation", None) or 1 / options.accumulate
    steps = max(1, round(options.epochs * per_epoch * share))
    steps = max(1, min(steps, options.max_steps or steps) - options.warmup)
    schedules: dict[str, Schedule] = {
        "cosine": Cosine(options.lr, steps, options.lr / 20),
        "plateau": Plateau(options.lr, factor=0.5, patience=1),
        "constant": Constant(options.lr),
    }
    chosen = schedules[options.schedule]
    return Warmup(chosen, options.warmup) if options.warmup else chosen


def _finish(job: Job, task: ModuleType, result: Any, options: argparse.Namespace) -> None:
    """Save the best model with what is known of it, and tell."""
    model = job.model if result.best is None else fastrnn.load(result.best)
    about = {"steps": result.steps, "epochs": result.epochs, "seconds": round(result.seconds, 1)}
    model.extra = {**job.about, "training": {**about, "best_step": result.best_step}}
    figures = task.measure(model, job.validation)
    model.extra["validation"] = figures
    model.save(options.out)
    _say(f"\nended after {result.steps:,} steps, {result.seconds:.0f} seconds ({result.stopped})")
    best = "" if result.best is None else f", the best model, of step {result.best_step:,}"
    _say(f"on the validation data{best}:")
    for line in task.describe(figures):
        _say(f"  {line}".rstrip())
    flows = _flows(model, job) if options.flow else {}
    if options.plot:
        _plot(result, flows, options.plot)
    _say(f"\nmodel: {options.out}")
    _say(f"try:   fastrnn {job.command} {shlex.quote(options.out)} {job.example}")


def _flows(model: Any, job: Job) -> dict[str, Any]:
    """How the gradient of a validation batch went back, on the screen, for each recurrent part."""
    from fastrnn.train import show_flow

    model.flow = True
    model.seed(0)
    place = job.validation.state_dict()
    batch = next(iter(job.validation.batches()))
    job.validation.load_state_dict(place)
    _, backward = model.loss_vjp(batch.inputs, batch.targets, None, batch.lengths)
    backward()
    model.flow = False
    flows = {name.removesuffix(".rnn"): rnn.last_flow for name, rnn in model.recurrent.items()}
    for name, flow in flows.items():
        part = f" through the {name}" if len(flows) > 1 else ""
        _say(f"\nhow the gradient flowed back{part} in a batch of the validation data")
        show_flow(flow)
    return flows


def _plot(result: Any, flows: dict[str, Any], path: str) -> None:
    from fastrnn import plot

    plot.loss_curve(result.history, path)
    _say(f"\npicture: {path}")
    for name, flow in flows.items():
        ending = f"-flow-{name}" if len(flows) > 1 else "-flow"
        second = Path(path).with_stem(f"{Path(path).stem}{ending}")
        plot.gradient_flow(flow, second)
        _say(f"picture: {second}")
