"""Paths of the tree under test, of the installed package, and of the files beside the tests."""

from __future__ import annotations

from pathlib import Path

import fastrnn

ROOT = Path(__file__).resolve().parents[2]
BENCH, CORE, EXAMPLES, TESTS = (ROOT / name for name in ("bench", "src_c", "examples", "tests"))
GOLDEN, HELPERS = TESTS / "golden", TESTS / "helpers"
INSTALLED = Path(fastrnn.__file__).parents[1]  # the folder that holds the package under test
