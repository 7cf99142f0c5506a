"""A training that is killed wherever it writes, resumed, killed and resumed again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
from fastrnn.train.history import History, read_history


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_every_file_is_at_the_end_as_if_nothing_had_happened(tmp_path):
    here = Path(__file__).parent
    path = os.pathsep.join([str(Path(fastrnn.__file__).parents[1]), str(here)])
    done = subprocess.run(
        [sys.executable, here / "killing.py", tmp_path, "13"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=here,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert counts.keys() == {"accumulated", "truncated"}
    assert all(int(kills) > 5 for kills in counts.values()), counts


def test_a_history_knows_its_size_after_it_was_cut(tmp_path):
    path = tmp_path / "h.jsonl"
    sizes = [0]
    history = History(path, None)
    history.open(None)
    for step in range(5):
        history.add({"step": step})
        sizes.append(history.sync())
    history.close()
    assert sizes[-1] == path.stat().st_size
    for kept in (3, 0, 2):  # the last: less is there than was known of
        history = History(path, None)
        history.open(sizes[kept])
        assert history.sync() == path.stat().st_size <= sizes[kept]
        history.add({"step": kept})
        assert history.sync() == path.stat().st_size
        history.close()
    assert read_history(path) == [{"step": 0}, {"step": 2}]


@pytest.mark.parametrize("size", [None, 5, 13, 17, 24, 100])
def test_no_record_is_appended_to_a_part_of_one(size, tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_bytes(b'{"step": 0}\n{"step": 1}')  # 12 and 11 bytes
    history = History(path, None)
    history.open(size)
    history.add({"step": 2})
    history.close()
    first = [] if size == 5 else [0] if size in (13, 17) else [0, 1]
    assert [record["step"] for record in read_history(path)] == [*first, 2]


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": ', b'{"a": 1}\n'),
        (b'{"a": 1', b""),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n'),
        (b"somebody's note", b"somebody's note\n"),
        (b"x" * 200_000 + b'\n{"b', b"x" * 200_000 + b"\n"),
        (b'{"' + b"y" * 200_000, b""),
    ],
)
def test_a_record_that_was_cut_short_is_never_continued(before, kept, tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_bytes(before)
    history = History(path, None)
    history.open(None)
    history.add({"step": 1})
    history.close()
    assert path.read_bytes() == kept + b'{"step": 1}\n'


def test_a_write_that_is_cut_short_is_gone_on_with(tmp_path):
    history = History(tmp_path / "h.jsonl", None)
    history.open(None)
    file = history._file

    class Slow:
        def write(self, data):
            return file.write(data[:3])

    history._file = Slow()
    history.add({"step": 1})
    file.close()
    assert read_history(tmp_path / "h.jsonl") == [{"step": 1}]
