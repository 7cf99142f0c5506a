"""Shared by all tests: random numbers are the same in every run, and the examples are few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("few", max_examples=40, deadline=None)
settings.register_profile("many", max_examples=200, deadline=None)  # pytest --hypothesis-profile
settings.load_profile("few")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)
