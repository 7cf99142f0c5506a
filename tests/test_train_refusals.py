"""What no training goes on from: a damaged file, other data, a place where another one writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import run_python
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from train_fakes import Windows, kit, text

import fastrnn
from fastrnn import _digest, data
from fastrnn.train import ResumeError
from fastrnn.train._lock import RunLock


def trained(out, k=None, steps=4, **options):
    k = k or kit(dropout=0.3)
    settings = {"max_steps": steps, "out": out, "resume": True, "progress": False, **options}
    k.result = k.trainer.fit(k.source, **settings)
    return k


def state_of(k):
    """All that a refusal must leave alone."""
    arrays = [k.model.flat.tobytes(), k.trainer.optimizer.velocity.tobytes()]
    return arrays, k.source.state_dict(), k.trainer.steps, k.model.generator.bit_generator.state


@pytest.fixture
def saved(tmp_path):
    """A checkpoint, and a training to which it belongs."""
    return trained(tmp_path / "run").result.last, kit(dropout=0.3)


def refuses(path, k, content, where):
    path.write_bytes(content)
    before = state_of(k)
    with pytest.raises(ResumeError, match=r"run\.last\.safetensors") as caught:
        k.trainer.fit(k.source, max_steps=9, out=path.parent / "run", resume=True, progress=False)
    assert len(str(caught.value)) < 1000, where
    assert state_of(k) == before, where


def test_a_flip_of_any_byte_is_found(saved):
    path, k = saved
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = {*range(120), *range(120, header, 29), *range(header - 70, header + 8)}
    places |= {*range(header, len(whole), 17), *range(len(whole) - 20, len(whole))}
    for number, place in enumerate(sorted(places)):
        changed = bytearray(whole)
        changed[place] ^= (1, 0x80, 0x20, 0xFF)[number % 4]
        refuses(path, k, bytes(changed), place)
    path.write_bytes(whole)
    assert trained(path.parent / "run", k, 9).trainer.steps == 9


def test_white_space_for_white_space_is_found_too(saved):
    path, k = saved
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert whole[header - 1 : header] == b" "
    refuses(path, k, whole[: header - 1] + b"\t" + whole[header:], "padding")


def test_every_length_but_the_whole_is_refused(saved):
    path, k = saved
    whole = path.read_bytes()
    for size in {*range(0, len(whole), 101), *range(40), len(whole) - 1}:
        refuses(path, k, whole[:size], size)
    refuses(path, k, whole + b"\0", "longer")
    refuses(path, k, os.urandom(300), "noise")


def test_a_training_of_an_earlier_version_is_refused_with_what_can_be_done(saved):
    path, k = saved
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["fastrnn_training"])
    save_file(load_file(path), path, {"fastrnn_training": json.dumps({**about, "version": 1})})
    with pytest.raises(ResumeError, match=r"an earlier fastrnn.*read_checkpoint reads its param"):
        trained(path.parent / "run", k)


_AS_GOOD = [{"steps": 3}, {"first_loss": None}, {"first_loss": 3}, {"generator": None}]


def test_what_is_whole_but_of_another_make_is_refused(saved):
    from fastrnn.formats.safetensors import write_safetensors

    path, k = saved
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["fastrnn_training"])
    changes = [{key: value} for key in about for value in (None, 3, [], "x", {"a": [1]})]
    arrays = load_file(path)
    for change in changes:
        if set(change) & {"lr", "schedule"} or change in _AS_GOOD:
            continue  # lr is for people; another schedule only begins anew
        metadata = {"fastrnn_training": json.dumps({**about, **change})}
        write_safetensors(arrays, metadata, path, checksum=True)
        refuses(path, k, path.read_bytes(), change)


# ---- data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 30, 60], ids=["first", "middle", "last"])
def test_one_other_token_anywhere_is_found_in_any_source(place, tmp_path):
    trained(tmp_path / "run")
    k, tokens = kit(dropout=0.3), text()
    tokens[place, 1] = (tokens[place, 1] + 1) % 5
    k.source = Windows(tokens, 7)
    before = state_of(k)
    with pytest.raises(ResumeError, match=r"its source gave other batches \(batches changed\)"):
        trained(tmp_path / "run", k, 9)
    assert state_of(k) == before


IDS = [np.arange(1, 3 + i % 4) for i in range(40)]


def streams(change):
    tokens = np.arange(5000) % 7
    tokens[change] += 1
    return data.TextStream(tokens, 4, 9)


def windows(change):
    series = np.arange(10_000.0).reshape(5000, 2)
    series[change] += 1e-9
    return data.Windows(series, 5, 8)


def buckets(change):
    labels = np.arange(40) % 3
    labels[change // 125] = 5
    return data.Buckets(data.LabelledSequences(IDS, labels), 4)


def subsets(change):
    labels = np.arange(40) % 3
    labels[change // 125] = 5
    held = data.hold_out(data.LabelledSequences(IDS, labels), 0.1, seed=1)[0]
    return data.Buckets(held, 4)


def pairs(change):
    ids = [one.copy() for one in IDS]
    ids[change // 125][-1] += 1
    return data.Buckets(data.Pairs(IDS, ids, bos=0, eos=20), 4)


def shifted(change):
    ids = [one.copy() for one in IDS]
    ids[change // 125][0] += 1
    return data.Buckets(data.ShiftedSequences(ids, bos=0, eos=20), 4)


class Foreign:
    """Examples of a class of one's own."""

    def __init__(self, labels):
        self.labels, self.sizes = labels, np.ones((len(labels), 1), np.int64)

    def gather(self, rows):
        return data.Batch(np.zeros((1, len(rows)), np.int64), self.labels[rows])


def foreign(change):
    labels = np.zeros(5000, np.int64)
    labels[change] = 1
    return data.Buckets(Foreign(labels), 10)


class Own(data.Source):
    """A source of one's own on top of ours."""

    def __init__(self, values):
        self.values = values
        super().__init__(None)

    def _describe(self):
        return {}

    def _draw(self, generator):
        return np.arange(len(self.values) + 1)

    def _batch(self, plan, index):
        return data.Batch(self.values[index], None)


def own(change):
    return Own(np.eye(1, 700, change // 10)[0])


@pytest.mark.parametrize("make", [streams, windows, buckets, subsets, pairs, shifted, foreign, own])
def test_every_source_tells_its_data_from_any_other(make):
    found = [make(place).digest() for place in (1250, 2500, 4990)]
    assert found == [make(place).digest() for place in (1250, 2500, 4990)]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert one.keys() == other.keys()
            assert one != other


def test_the_same_values_in_another_layout_or_width_are_the_same_data(rng):
    x = rng.integers(0, 200, (30, 4))
    found = {
        _digest.digest_of([array])
        for array in (x, x.astype(np.uint8), np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2])
    }
    assert len(found) == 1
    assert _digest.digest_of([x.astype(float)]) not in found
    assert _digest.digest_of([x.T]) not in found


def test_a_digest_reads_a_bounded_part_from_everywhere(monkeypatch):
    monkeypatch.setattr(_digest, "WHOLE", 1 << 15)
    x = np.zeros(1 << 19, np.uint8)
    whole = _digest.digest_of([x])
    read = sum(piece.size for piece in _digest._pieces(x))
    assert read <= 1 << 15
    seen = np.zeros(len(x), bool)
    seen_view = seen
    for piece in _digest._pieces(seen_view):
        piece[...] = True
    assert seen[0]
    assert seen[-1]
    assert all(part.any() for part in np.split(seen, 4))
    x[np.flatnonzero(seen)[len(np.flatnonzero(seen)) // 2]] = 1
    assert _digest.digest_of([x]) != whole


# ---- one at a time -----------------------------------------------------------------------------

HOLD = """
import sys, time
sys.path.insert(0, {here!r})
from train_fakes import kit
k = kit(dropout=0.3)
step = k.trainer.optimizer.step
def slow():
    step()
    print("step", flush=True)
    time.sleep(60)
k.trainer.optimizer.step = slow
k.trainer.fit(k.source, max_steps=9, out={out!r}, resume=True, progress=False, checkpoint_every=1)
"""


def running(out):
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(here=str(here), out=str(out))],
        env={**os.environ, "PYTHONPATH": str(Path(fastrnn.__file__).parents[1])},
        cwd=here,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "step\n"
    return process


def test_a_second_training_in_the_same_place_is_refused_until_the_first_is_dead(tmp_path):
    out = tmp_path / "run"
    trained(out, steps=2)
    process = running(out)
    try:
        saved = (tmp_path / "run.last.safetensors").read_bytes()
        k = kit(dropout=0.3)
        before = state_of(k)
        with pytest.raises(ResumeError, match="is being written by another training"):
            trained(out, k, 9)
        assert state_of(k) == before
        assert (tmp_path / "run.last.safetensors").read_bytes() == saved
    finally:
        process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        process.communicate()
    assert trained(out, kit(dropout=0.3), 9).trainer.steps == 9
    assert not [name for name in os.listdir(tmp_path) if "lock" in name]


def test_two_new_trainings_at_once_are_one(tmp_path):
    place, results = tmp_path / "run.last.safetensors", []

    def one():
        try:
            with RunLock(place):
                results.append("in")
                time.sleep(0.3)
        except ResumeError:
            results.append("refused")

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["in", "refused", "refused", "refused"]
    with RunLock(place):
        pass
    assert os.listdir(tmp_path) == []


def test_an_error_ends_the_lock(tmp_path):
    place = tmp_path / "run.last.safetensors"
    for _ in range(2):
        with pytest.raises(KeyError), RunLock(place):
            raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_lock_hands_over_without_a_moment_in_which_two_have_it(tmp_path):
    place, inside, most = tmp_path / "x", [], []

    def many():
        for _ in range(200):
            try:
                with RunLock(place):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except ResumeError:
                pass

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_does_not_keep_the_lock_of_a_dead_parent(tmp_path):
    done = run_python(
        f"""
        import os, time
        from pathlib import Path
        from fastrnn.train._lock import RunLock
        lock = RunLock(Path({str(tmp_path)!r}) / "x")
        lock.__enter__()
        if not os.fork():
            os.close(0), os.close(1), os.close(2)
            time.sleep(20)
        os._exit(0)
        """
    )
    assert done.returncode == 0, done.stderr
    with RunLock(tmp_path / "x"):
        pass


def test_a_file_system_without_locks_still_trains(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert trained(tmp_path / "run").trainer.steps == 4


def test_on_begin_is_called_once_it_is_certain_and_before_anything_is_written(tmp_path):
    seen = []
    trained(tmp_path / "run", on_begin=lambda: seen.append(sorted(os.listdir(tmp_path))))
    assert seen == [[".run.last.safetensors.lock"]]
    k = kit(dropout=0.3, accumulate=2)
    with pytest.raises(ResumeError):
        trained(tmp_path / "run", k, on_begin=lambda: seen.append("no"))
    trained(tmp_path / "run", steps=6, on_begin=lambda: seen.append("yes"))
    assert seen[1:] == ["yes"]
    with pytest.raises(TypeError, match="on_begin is an int, expected a function"):
        trained(tmp_path / "run", on_begin=3)
