"""`fastrnn train TASK [DATA ...] --out MODEL`: from data to a model in one file."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fastrnn
from fastrnn._errors import counted
from fastrnn.cli._config import ConfigParser, check_resumed, save_options, saved_options
from fastrnn.cli._options import OPTIMIZERS
from fastrnn.cli._parser import Parser
from fastrnn.cli._values import check_picture, check_place
from fastrnn.cli.tasks import TASKS, Task
from fastrnn.cli.tasks.base import Job
from fastrnn.train import (
    FitResult,
    RandomTruncation,
    ResumeError,
    Trainer,
    TrainingDiverged,
    show_flow,
)
from fastrnn.train.protocols import kept_in_place

CODES = """\
exit codes:
  0    the training came to its end
  1    it failed: a file is missing or wrong, the disk is full, the loss diverged
  2    wrong usage
  130  Ctrl-C or a request to terminate: all is saved, --resume goes on with the same bits
"""
_WITH_MOMENTUM = ("sgd", "rmsprop")
_USAGE = {"*": "[DATA ...]", "+": "DATA [DATA ...]", "1": "DATA"}


def add_arguments(parser: Parser) -> None:
    """A parser for each task."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"fastrnn train TASK --help explains data and options.\n\n{CODES}"
    tasks = parser.add_subparsers(
        dest="task", metavar="TASK", required=True, parser_class=ConfigParser
    )
    for name, task in TASKS.items():
        own = tasks.add_parser(
            name,
            usage=f"fastrnn train {name} {_USAGE[task.count]} --out MODEL [options]",
            help=task.summary,
            description=f"Train {task.summary}.",
            epilog=f"examples:\n{task.examples}\n\n{CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # --config and --resume are looked for before all is read
        )
        own.add_argument("data", nargs="*", default=[], metavar="DATA", help=task.data)
        task.add_options(own)


def run(options: argparse.Namespace) -> int:
    """Train, save the best model, say how good it is; returns the exit code."""
    task = TASKS[options.task]
    changed = _check(options, task)
    with ExitStack() as stack:
        if options.threads:
            stack.enter_context(fastrnn.num_threads(options.threads))
        job = task.prepare(options)
        _ready(job.model, options)
        _say(job.described)
        _say(f"{type(job.model).__name__}: {job.model.num_parameters:,} parameters")
        result, steps_before = _fit(job, task, options)
        _finish(job, task, result, options)
        if options.resume and result.steps == steps_before and result.stopped != "interrupted":
            _say_that_it_had_ended(result, changed)
        if result.stopped == "interrupted":
            print(f"interrupted and saved: go on with fastrnn train {options.task} --out "
                  f"{options.out} --resume", file=sys.stderr)  # fmt: skip
            return 130
    return 0


def _say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


def _say_that_it_had_ended(result: Any, changed: list[str]) -> None:
    """Tell that a resumed training had ended before, so that no step was made."""
    lost = f", so {' and '.join(changed)} had no effect" if changed else ""
    end = f"--{result.stopped.replace('_', '-')}"
    print(f"this training had ended before, by {end}: no step was made{lost}; a larger {end} lets "
          f"it go on", file=sys.stderr)  # fmt: skip


def _check(options: argparse.Namespace, task: Task) -> list[str]:
    """Checks before an hour of work; gives the options that a resumed training changes."""
    if not options.data and task.count != "*":
        options.refuse("the following arguments are required: DATA")
    if task.count == "1" and len(options.data) > 1:
        options.refuse(f"argument DATA: expected one, got {len(options.data)}")
    if os.path.isdir(options.out) or options.out.endswith(os.sep):
        options.refuse(f"argument --out: {options.out} is a folder, expected the name of a file")
    if options.momentum and options.optimizer not in _WITH_MOMENTUM:
        options.refuse(f"argument --momentum: {options.optimizer} has none, expected --optimizer "
                       f"{' or '.join(_WITH_MOMENTUM)}")  # fmt: skip
    task.check(options)
    check_place("--out", options.out)
    changed = _check_files(options)
    if options.plot:
        check_picture("--plot", options.plot)
    return changed


def _check_files(options: argparse.Namespace) -> list[str]:
    """Check that a training may begin, or go on, in the place of --out."""
    last = Path(f"{options.out}.last.safetensors")
    if options.resume:
        if not last.exists():
            raise ValueError(f"{last}: no such file, so there is no training to resume")
        return check_resumed(options)
    for path in (last, Path(options.out)):
        if path.exists():
            raise ValueError(
                f"{path} is there already: go on with it by --resume, remove it, or choose "
                f"another --out"
            )
    return []


def _ready(model: Any, options: argparse.Namespace) -> None:
    """Set the seeds and the limit of memory."""
    model.reset_parameters(options.seed)
    model.seed(options.seed)
    if options.memory_budget:
        model.limit_memory(int(options.memory_budget * 2**20))


def _fit(job: Job, task: Task, options: argparse.Namespace) -> tuple[FitResult, int]:
    """The result, and the number of steps that were made before, by a training that goes on."""
    cut = task.truncation(options)
    trainer = Trainer(
        job.model,
        _optimizer(job.model, options),
        schedule=_schedule(job.source.num_batches, cut, options),
        clip_norm=options.clip_norm or None,
        accumulate=options.accumulate,
        truncation=RandomTruncation(cut, seed=options.seed) if cut else None,
    )
    for path in filter(None, (options.out, options.plot)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    job.model.extra = job.about
    steps_before, has_options = 0, saved_options(options.out).exists()

    def begin() -> None:
        nonlocal steps_before
        steps_before = trainer.steps
        save_options(options)

    try:
        result = trainer.fit(
            job.source,
            validation=job.validation,
            epochs=options.epochs,
            max_steps=options.max_steps,
            out=options.out,
            patience=options.patience,
            validate_every=options.validate_every,
            resume=options.resume,
            progress=False if options.quiet else None,
            on_begin=begin,
        )
    except ResumeError as error:
        if not error.differences or has_options:
            raise
        raise ValueError(
            f"{saved_options(options.out)}: no such file, and this training was begun with other "
            f"options than these: give them all again, or train anew with another --out"
        ) from error
    except TrainingDiverged as error:
        raise ValueError(error.told("--clip-norm 1.0", "--clip-norm")) from error
    return result, steps_before


def _optimizer(model: Any, options: argparse.Namespace) -> Any:
    more = {"momentum": options.momentum} if options.optimizer in _WITH_MOMENTUM else {}
    kind = OPTIMIZERS[options.optimizer]
    return kind(model, lr=options.lr, weight_decay=options.weight_decay, **more)


def _schedule(per_epoch: int, cut: float | None, options: argparse.Namespace) -> Any:
    from fastrnn.optim.schedules import Constant, Cosine, Plateau, Schedule, Warmup

    share = cut or 1 / options.accumulate
    steps = max(1, round(options.epochs * per_epoch * share))
    steps = max(1, min(steps, options.max_steps or steps) - options.warmup)
    schedules: dict[str, Schedule] = {
        "cosine": Cosine(options.lr, steps, options.lr / 20),
        "plateau": Plateau(options.lr, factor=0.5, patience=1),
        "constant": Constant(options.lr),
    }
    chosen = schedules[options.schedule]
    return Warmup(chosen, options.warmup) if options.warmup else chosen


def _finish(job: Job, task: Task, result: FitResult, options: argparse.Namespace) -> None:
    """Save the best model with its figures, and print them."""
    model = job.model if result.best is None else fastrnn.load(result.best)
    about = {"steps": result.steps, "epochs": result.epochs, "seconds": round(result.seconds, 1)}
    model.extra = {**job.about, "training": {**about, "best_step": result.best_step}}
    figures = task.measure(model, job.validation)
    model.extra["validation"] = figures
    model.save(options.out)
    took = f"{counted(result.steps, 'step')}, {counted(round(result.seconds), 'second')}"
    _say(f"\nended after {took} ({result.stopped})")
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
    """Gradient flow of a validation batch through each recurrent part, which is printed as well."""
    with kept_in_place(job.validation):
        batch = next(iter(job.validation.batches()))
    model.seed(0)
    model.flow = True
    try:
        _, backward = model.loss_vjp(batch.inputs, batch.targets, None, batch.lengths)
        backward()
    finally:
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
