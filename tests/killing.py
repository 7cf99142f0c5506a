"""A training that is killed at its n-th write, sync, rename, removal, step or validation.

Run as a program with a folder: every place is tried, with a second kill after the resume, and what
the runs leave behind is compared with what an undisturbed one leaves. A number as the second
argument: only every so many places. Prints how many of them killed.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import count
from pathlib import Path

from safetensors import safe_open
from train_fakes import kit

from fastrnn.formats import safetensors
from fastrnn.train import RandomTruncation, read_history
from fastrnn.train._history import History

KILLED = 9
KITS = {
    "accumulated": ({"accumulate": 2, "shuffled": True}, {"validate_every": 2}),
    "truncated": ({"steps": 12}, {"validate_every": 3, "restore_best": True}),
}


def arm(place, k):
    """Die at the `place`-th of all that can be cut short."""
    places = count(1)

    def pass_by():
        if next(places) == place:
            os._exit(KILLED)

    def around(owner, name):
        inner = getattr(owner, name)

        def call(*arguments, **options):
            pass_by()
            result = inner(*arguments, **options)
            pass_by()
            return result

        setattr(owner, name, call)

    os.fsync = lambda _: None  # this is about processes, not about the power
    for name in ("fsync", "replace", "unlink"):
        around(os, name)
    write, tensors = safetensors._little_endian, count(1)

    def half_written(tensor):
        if next(tensors) % 7 == 0:
            pass_by()
        return write(tensor)

    safetensors._little_endian = half_written
    around(k.trainer.optimizer, "step")
    around(k.model, "loss")
    add = History.add

    def torn(self, record):
        if next(places) == place:
            self._file.write(json.dumps(record).encode()[:20])
            os._exit(KILLED)
        add(self, record)
        pass_by()

    History.add = torn


def train(name, out):
    options, settings = KITS[name]
    truncation = {"truncation": RandomTruncation(0.6, seed=3)} if name == "truncated" else {}
    k = kit(dropout=0.3, **options, **truncation)
    k.trainer.optimizer.lr = 0.3  # some validations are no gain

    def go(place):
        arm(place, k)
        k.trainer.fit(
            k.source, validation=k.validation, epochs=1, out=f"{out}/", resume=True,
            checkpoint_every=3, log_every=1, progress=False, **settings,
        )  # fmt: skip

    return go


def run(name, out, place):
    """Whether a process of its own was killed there."""
    child = os.fork()
    if not child:
        try:
            train(name, out)(place)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), (out, place, code)
    return code == KILLED


def left_behind(out):
    """All that is in the folder, but for times."""
    found = {"names": sorted(os.listdir(out)), "best": (out / "best.safetensors").read_bytes()}
    with safe_open(out / "last.safetensors", "np") as file:
        found |= {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["fastrnn_training"])
    about["run"]["seconds"] = about["run"]["history_bytes"] = 0
    records = read_history(out / "history.jsonl")
    for record in records:
        for key in ("seconds", "time", "rate"):
            record.pop(key, None)
    return {**found, "about": about, "records": records}


def main(folder, stride):
    for name in sys.argv[3:] or KITS:
        whole = folder / f"{name}-whole"
        assert not run(name, whole, 0)
        expected = left_behind(whole)
        for place in count(1, stride):
            out = folder / f"{name}-{place}"
            was_killed = run(name, out, place)
            run(name, out, 1 + place * 7 % 31)  # killed again, somewhere else
            assert not run(name, out, 0)
            found = left_behind(out)
            for key, value in expected.items():
                assert found[key] == value, (name, out, key, found[key], value)
            if not was_killed:
                break
        print(name, (place - 1) // stride, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
