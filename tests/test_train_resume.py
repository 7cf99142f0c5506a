"""A training that is killed, interrupted or out of disk loses nothing, and no bit changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file
from train_fakes import Momentum, TinyRNN, Windows, kit, text

import fastrnn
from fastrnn._atomic import replacing
from fastrnn.train import RandomTruncation, ResumeError, Trainer, read_history

RUN = """
import sys, time
from {module} import {name} as make
k = make()
evaluate, slow = k.model.loss, float(sys.argv[3])
k.model.loss = lambda *arguments: (time.sleep(slow), evaluate(*arguments))[1]
print("ready", flush=True)
result = k.trainer.fit(
    k.source, validation=k.validation, epochs=int(sys.argv[2]), out=sys.argv[1], resume=True,
    checkpoint_every=1, log_every=3, progress=False,
)
print(result.stopped, result.steps, flush=True)
"""
EPOCHS = 40


def shuffled_kit():
    return kit(dropout=0.3, shuffled=True, accumulate=2)


def real_kit():
    """Everything that has a state of its own: dropout, window lengths, cuts, Adam, a plateau."""
    from fastrnn.data import TextStream
    from fastrnn.models import LanguageModel
    from fastrnn.optim import Adam
    from fastrnn.optim.schedules import Plateau, Warmup

    model = LanguageModel(5, 8, 8, 2, cell="lstm", dropout=0.3)
    model.reset_parameters(1)
    model.seed(2)
    schedule = Warmup(Plateau(0.02, patience=1, factor=0.7), 9)
    cuts = RandomTruncation(0.5, seed=3)
    trainer = Trainer(model, Adam(model), clip_norm=1.0, schedule=schedule, truncation=cuts)
    tokens = text(400, 1)[:, 0]
    source = TextStream(tokens[:300], 4, 8, lengths="random", seed=4)
    validation = TextStream(tokens[300:], 4, 8)
    return SimpleNamespace(model=model, trainer=trainer, source=source, validation=validation)


def start(out, make=shuffled_kit, slow=0.0):
    here = Path(__file__).parent
    code = RUN.format(module=Path(__file__).stem, name=make.__name__)
    path = os.pathsep.join([str(Path(fastrnn.__file__).parents[1]), str(here)])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(out), str(EPOCHS), str(slow)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=here,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    return process.communicate(timeout=120)[0].split()


def contents(out):
    """Everything a training left behind, but for the times."""
    arrays = load_file(out / "last.safetensors")
    best = load_file(out / "best.safetensors")
    records = read_history(out / "history.jsonl")
    for record in records:
        for name in ("seconds", "time", "rate"):
            record.pop(name, None)
    return arrays, best, records


def assert_same(one, other):
    for ours, theirs in zip(contents(one)[:2], contents(other)[:2], strict=True):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert array.tobytes() == theirs[name].tobytes(), name
    assert contents(one)[2] == contents(other)[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert finish(start(f"{out}/")) == ["epochs", "200"]
    return out


def killed(out, make, delays):
    """Run again and again, killed each time, then to the end; how many kills hit."""
    kills = 0
    for delay in delays:
        process = start(f"{out}/", make)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert finish(start(f"{out}/", make))[0] == "epochs"
    return kills


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_run_killed_at_random_moments_and_resumed_ends_with_the_same_bits(
    undisturbed, tmp_path, rng
):
    assert killed(tmp_path / "run", shuffled_kit, rng.uniform(0.0, 0.12, size=6)) > 1
    assert_same(tmp_path / "run", undisturbed)
    assert sorted(os.listdir(tmp_path / "run")) == sorted(os.listdir(undisturbed))


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_language_model_ends_with_the_same_bits(tmp_path, rng):
    finish(start(f"{tmp_path}/whole/", real_kit))
    assert killed(tmp_path / "run", real_kit, rng.uniform(0.0, 0.15, size=3)) > 1
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize(
    ("number", "slow"),
    [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.02)],
    ids=["Ctrl-C in a step", "termination in a validation"],
)
def test_a_signal_ends_the_training_saved_and_the_rest_is_the_same(
    undisturbed, tmp_path, number, slow
):
    out = tmp_path / "run"
    process = start(f"{out}/", slow=slow)
    while not (out / "last.safetensors").exists():  # from then on signals are heard
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(number)
    stopped, steps = finish(process)
    assert (process.returncode, stopped) == (0, "interrupted")
    assert int(steps) < 200
    finish(start(f"{out}/"))
    assert_same(out, undisturbed)


def test_stopping_at_every_single_step_changes_no_bit(tmp_path):
    def trained(name, stops):
        for stop in stops:
            k = kit(dropout=0.3, accumulate=2)  # 9 batches: some steps meet the end of an epoch
            options = {"out": tmp_path / name, "resume": True, "progress": False}
            k.epochs = k.trainer.fit(k.source, max_steps=stop, **options).epochs
        return k

    once, parts = trained("once", [23]), trained("parts", range(1, 24))
    np.testing.assert_array_equal(once.model.flat, parts.model.flat)
    np.testing.assert_array_equal(once.trainer.optimizer.velocity, parts.trainer.optimizer.velocity)
    assert once.source.state_dict() == parts.source.state_dict()
    assert once.model.generator.random() == parts.model.generator.random()
    assert once.trainer.steps == parts.trainer.steps == 23
    assert once.epochs == parts.epochs == 4


def best_kit(out, max_steps, **options):
    """Validated at every step, best at some step before the last."""
    k = kit(dropout=0.3)
    k.trainer.optimizer.lr = 1.0  # too much
    k.result = k.trainer.fit(
        k.source,
        validation=k.validation,
        validate_every=1,
        max_steps=max_steps,
        out=out,
        resume=True,
        progress=False,
        **options,
    )
    return k


def test_restoring_the_best_parameters_leaves_the_training_as_it_is(tmp_path):
    plain = best_kit(tmp_path / "plain", 23)
    assert plain.result.best_step < 23
    best = load_file(plain.result.best)
    for stop in (3, 11, plain.result.best_step + 1, 22, 23):
        k = best_kit(tmp_path / "parts", stop, restore_best=True)
    assert k.result.best_step == plain.result.best_step
    for name, tensor in k.model.parameters.items():
        np.testing.assert_array_equal(tensor, best[name])
    last = load_file(k.result.last)
    for name, tensor in plain.model.parameters.items():
        np.testing.assert_array_equal(tensor, last[name])
    np.testing.assert_array_equal(k.trainer.optimizer.velocity, plain.trainer.optimizer.velocity)


def test_an_interrupted_training_keeps_the_last_parameters(tmp_path):
    k, plain = kit(), kit()
    step = k.trainer.optimizer.step

    def interrupted():
        step()
        if k.trainer.optimizer.count == 12:
            # No real signal: after a test with OpenVINO the process has no stack to take one on.
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)

    k.trainer.optimizer.step = interrupted
    options = {"epochs": 9, "out": tmp_path / "run", "progress": False}
    result = k.trainer.fit(k.source, validation=k.validation, restore_best=True, **options)
    assert (result.stopped, result.steps, result.best_step) == ("interrupted", 12, 9)
    plain.trainer.fit(plain.source, max_steps=12, progress=False)
    np.testing.assert_array_equal(k.model.flat, plain.model.flat)


def test_best_parameters_that_were_not_kept_cannot_be_restored(tmp_path):
    plain = best_kit(tmp_path / "run", 12)
    fresh = kit()
    before = fresh.model.flat.copy()
    with pytest.raises(ResumeError, match="no best parameters to restore"):
        fresh.trainer.fit(
            fresh.source,
            validation=fresh.validation,
            max_steps=20,
            out=tmp_path / "run",
            resume=True,
            restore_best=True,
        )
    np.testing.assert_array_equal(fresh.model.flat, before)
    assert plain.result.best is not None


def test_the_checkpoint_can_be_read_as_plain_weights(tmp_path):
    k = kit()
    result = k.trainer.fit(k.source, epochs=1, out=tmp_path / "run", progress=False)
    weights = fastrnn.read_checkpoint(result.last)
    for name, tensor in k.model.parameters.items():
        np.testing.assert_array_equal(weights[name], tensor)


def changed(what):
    k = kit()
    if what == "architecture":
        k.model = TinyRNN(hidden=6)
        k.trainer = Trainer(k.model, Momentum(k.model))
    elif what == "optimizer":
        k.trainer.optimizer = type("Sgd", (Momentum,), {})(k.model)
    elif what == "source":
        k.source = Windows(text(40), 7)
    elif what == "other batches":
        k.source = Windows((text() + 1) % 5, 7)
    elif what == "accumulate":
        k.trainer.accumulate = 3
    return k


@pytest.mark.parametrize(
    "what", ["architecture", "optimizer", "source", "other batches", "accumulate"]
)
def test_the_checkpoint_of_another_training_is_refused_and_nothing_changes(tmp_path, what):
    first = kit()
    out = tmp_path / "run"
    first.trainer.fit(first.source, epochs=1, out=out, progress=False)
    saved = Path(f"{out}.last.safetensors").read_bytes()
    k = changed(what)
    before = k.model.flat.copy()
    with pytest.raises(ResumeError, match=what):
        k.trainer.fit(k.source, epochs=2, out=out, resume=True, progress=False)
    np.testing.assert_array_equal(k.model.flat, before)
    assert Path(f"{out}.last.safetensors").read_bytes() == saved


@pytest.mark.parametrize("damage", ["cut short", "no safetensors", "weights alone"])
def test_a_file_that_is_no_checkpoint_of_a_training_is_refused(tmp_path, damage):
    k = kit()
    out = tmp_path / "run"
    result = k.trainer.fit(k.source, validation=k.validation, epochs=1, out=out, progress=False)
    whole = result.last.read_bytes()
    content = {"cut short": whole[:-8], "no safetensors": b"hello" * 99}
    result.last.write_bytes(content.get(damage) or result.best.read_bytes())
    with pytest.raises(ResumeError, match=r"run\.last\.safetensors"):
        k.trainer.fit(k.source, epochs=2, out=out, resume=True, progress=False)


def test_a_history_of_something_else_is_not_cut_on_resume(tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"kind": "note"}\n' * 999)
    for steps in (20, 30):
        k = kit()
        options = {"max_steps": steps, "out": tmp_path / "run", "resume": True, "progress": False}
        k.trainer.fit(k.source, history=None if steps == 20 else other, **options)
    records = read_history(other)
    assert [record["kind"] for record in records] == ["note"] * 999 + ["train"]


def test_an_earlier_training_is_not_overwritten_unasked(tmp_path):
    k = kit()
    k.trainer.fit(k.source, epochs=1, out=tmp_path / "run", progress=False)
    with pytest.raises(FileExistsError, match="resume=True"):
        k.trainer.fit(k.source, epochs=1, out=tmp_path / "run", progress=False)


def test_a_write_that_fails_half_way_leaves_the_previous_file_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half():
        with replacing(path) as file:
            file.write(b"ne")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device, an earlier file is untouched"):
        half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size")
def test_a_full_disk_stops_the_training_with_the_last_checkpoint_whole(tmp_path):
    import resource

    k = kit()
    k.trainer.fit(k.source, epochs=1, out=tmp_path / "run", progress=False)
    path = tmp_path / "run.last.safetensors"
    whole = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large.*run\.last\.safetensors"):
            k.trainer.fit(
                k.source, epochs=2, out=tmp_path / "run", resume=True, progress=False, history=[]
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == whole
    assert sorted(os.listdir(tmp_path)) == ["run.history.jsonl", "run.last.safetensors"]
    k.trainer.fit(k.source, epochs=2, out=tmp_path / "run", resume=True, progress=False)


def test_a_place_that_cannot_be_written_is_found_out_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    k = kit()
    before = k.model.flat.copy()
    with pytest.raises(OSError, match="file"):
        k.trainer.fit(k.source, epochs=1, out=tmp_path / "file" / "run", progress=False)
    np.testing.assert_array_equal(k.model.flat, before)


def test_states_survive_the_way_through_a_file(tmp_path):
    from fastrnn.train.tree import join, split

    tree = {
        "pair": (np.arange(3.0), None),
        "list": [1, 2.5, "x", True, np.float32(0.5)],
        "big": 2**100,
        "deep": {"a": {"b": np.zeros((0, 2), np.uint32)}},
    }
    arrays = {}
    back = join(json.loads(json.dumps(split(tree, "t", arrays))), arrays)
    assert isinstance(back["pair"], tuple)
    np.testing.assert_array_equal(back["pair"][0], np.arange(3.0))
    assert back["list"] == [1, 2.5, "x", True, 0.5]
    assert back["big"] == 2**100
    assert back["deep"]["a"]["b"].shape == (0, 2)
    with pytest.raises(TypeError, match="t/x is a object, expected numbers, text and arrays"):
        split({"x": object()}, "t", {})
