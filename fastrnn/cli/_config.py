"""Options from a file: a parser that reads them before the command line, which wins."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastrnn._arrays import shown
from fastrnn._atomic import replacing
from fastrnn.cli._parser import Parser
from fastrnn.cli._parsing import parse_json, parse_toml
from fastrnn.data._csv import csv_line
from fastrnn.data.readers import read_one

_NOT_SAVED = {"help", "config", "resume", "out", "command", "task", "refuse", "parser"}


class ConfigParser(Parser):
    """Takes options from `--config FILE`, and with `--resume` from the run that goes on."""

    many = "data"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.may_change.add("data")  # which is compared when it is read

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(args or ())
        values = {} if {"-h", "--help"} & set(words) else self._values(words)
        data = values.pop("data", [])
        options, rest = super().parse_known_args([*self._words(values), *words], namespace)
        options.data = options.data or data
        return options, rest

    def _values(self, words: list[str]) -> dict[str, Any]:
        """Values of options in files, by their names."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        first.add_argument("--out")
        first.add_argument("--resume", action="store_true")
        first.exit_on_error = False
        try:
            found = first.parse_known_args(words)[0]
        except (argparse.ArgumentError, SystemExit):
            return {}
        values: dict[str, Any] = {}
        if found.resume and found.out and saved_options(found.out).exists():
            values |= self._read(str(saved_options(found.out)), "--resume")
        return values | (self._read(found.config, "--config") if found.config else {})

    def _read(self, path: str, flag: str) -> dict[str, Any]:
        try:
            parse = parse_json if path.endswith(".json") else parse_toml
            given = parse(read_one(Path(path)), path)
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            self.error(f"argument {flag}: {path}: {reason}")
        except ValueError as error:
            self.error(f"argument {flag}: {error}")
        if not isinstance(given, dict):
            self.error(f"argument {flag}: {path} is {shown(given)}, expected an object of options")
        values = {key.replace("-", "_"): value for key, value in given.items()}
        if len(values) < len(given):
            self.error(f"argument {flag}: {path} has a key twice, with - and with _ in it")
        known = {action.dest for action in self._actions} - _NOT_SAVED | {"out"}
        for key in values:
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f", did you mean {close[0].replace('_', '-')}" if close else ""
                self.error(f"argument {flag}: {path}: unknown key {shown(key)}{hint}")
        data = values.get("data", [])
        values["data"] = [data] if isinstance(data, str) else data
        if not isinstance(values["data"], list) or not all(
            isinstance(d, str) for d in values["data"]
        ):
            self.error(f"argument {flag}: {path}: data is {shown(data)}, expected names of files")
        return values

    def _words(self, values: Mapping[str, Any]) -> Iterator[str]:
        """The same as on a command line, so that the same checks hold."""
        for action in self._actions:
            value = values.get(action.dest)
            if value is None or not action.option_strings:
                continue
            name = action.option_strings[0]
            if isinstance(value, bool):
                if action.nargs != 0:
                    self.error(f"argument --config: {action.dest} is a truth value, not expected")
                yield from (name,) if value else _negated(action)
            elif action.nargs == 0:
                self.error(
                    f"argument --config: {action.dest} is {shown(value)}, expected true or false"
                )
            elif isinstance(value, list):
                yield f"{name}={csv_line(map(str, value))}"
            else:
                yield f"{name}={value}"


def _negated(action: argparse.Action) -> list[str]:
    return [name for name in action.option_strings if name.startswith("--no-")]


def saved_options(out: str) -> Path:
    """File of a training's options, for --resume and for --config."""
    return Path(f"{out}.options.json")


def save_options(options: argparse.Namespace) -> None:
    """Write them beside the checkpoints."""
    with replacing(saved_options(options.out)) as file:
        file.write(json.dumps(_kept(options), indent=2).encode() + b"\n")


def check_resumed(options: argparse.Namespace) -> list[str]:
    """ValueError for options with which the training that goes on cannot have been begun.

    Returns the flags of options that may change and did: they are used and saved.
    """
    path = saved_options(options.out)
    if not path.exists():
        return []
    now = json.loads(json.dumps(_kept(options)))
    saved = parse_json(read_one(path), str(path))
    other = {name for name, value in now.items() if name in saved and saved[name] != value}
    refused = [
        f"{_flag(name)} is {now[name]}, there {saved[name]}"
        for name in now
        if name in other - options.parser.may_change
    ]
    if refused:
        raise ValueError(f"{path} is of another training: {'; '.join(refused)}")
    return [_flag(name) for name in now if name in other - {"data"}]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _kept(options: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(options).items() if key not in _NOT_SAVED}
