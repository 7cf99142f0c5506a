"""The programs of tests/c run behind the tests, from the end of the collection on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from c_programs import Programs, is_there

PROGRAMS = pytest.StashKey[Programs]()


def pytest_collection_finish(session: pytest.Session) -> None:
    asked = any("programs" in getattr(item, "fixturenames", ()) for item in session.items)
    if asked and is_there() and not session.config.option.collectonly:
        session.config.stash[PROGRAMS] = Programs()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if PROGRAMS in session.config.stash:
        session.config.stash[PROGRAMS].close()


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> Programs:
    if PROGRAMS not in request.config.stash:
        pytest.skip("needs a C compiler")
    return request.config.stash[PROGRAMS]


@pytest.fixture
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Not before the programs have run: for what takes times."""
    if PROGRAMS in request.config.stash:
        request.config.stash[PROGRAMS].wait()
    return
