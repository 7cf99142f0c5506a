"""A pytest plugin (-p no_skips): where all peers are installed, a skipped test is a failed one.

Only what needs a CPU with AVX-512 may be skipped.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest

ALLOWED = re.compile(r"AVX-?512", re.IGNORECASE)


def fail_if_skipped(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not ALLOWED.search(reason):
        report.outcome, report.longrepr = "failed", f"must not be skipped here: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    fail_if_skipped(report)
    return report
