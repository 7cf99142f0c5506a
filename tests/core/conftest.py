"""Layers for the numeric contract, and the programs of tests/c, which run behind the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from c_programs import Programs, is_there
from families import FAMILIES, SIZES, make

from fastrnn.nn.recurrent_base import Recurrent

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


@pytest.fixture(params=SIZES, ids=str)
def sizes(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Inputs and units."""
    return request.param


@pytest.fixture(params=FAMILIES)
def layer(request: pytest.FixtureRequest, sizes: tuple[int, int]) -> Recurrent:
    """Two layers of every family, of every size."""
    return make(request.param, *sizes, 2)


@pytest.fixture(params=FAMILIES)
def both_ways(request: pytest.FixtureRequest) -> Recurrent:
    """Two layers of every family in both directions."""
    return make(request.param, 7, 17, 2, bidirectional=True)
