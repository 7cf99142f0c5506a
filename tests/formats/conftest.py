"""Shared by the tests of files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastrnn.formats import CheckpointError, open_checkpoint


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Asserts that a file of these bytes is refused within seconds, with these words."""

    def check(content: bytes, words: str = "") -> None:
        path = tmp_path / "hostile.pt"
        path.write_bytes(content)
        start = time.process_time()
        with pytest.raises(CheckpointError, match=words or ".") as caught:
            open_checkpoint(path)
        assert time.process_time() - start < 5
        assert str(path) in str(caught.value)

    return check
