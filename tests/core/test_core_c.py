"""The C core builds with the system's C compiler alone and passes its own tests, without Python."""

from __future__ import annotations

import platform

import pytest
from c_programs import OWN, PROGRAMS
from paths import TESTS


def test_no_program_is_forgotten():
    by_hand = {"test_memory"}  # under valgrind and the sanitizers
    found = {path.stem for path in TESTS.glob("c/*.c")}
    assert found - by_hand == {*PROGRAMS, "test_math"}


@pytest.mark.parametrize(
    "name",
    [
        "test_core",
        "test_backward",
        "test_update",
        "test_decode",
        "test_attention",
        "test_ops",
        "test_network",
        "test_activations",
        "test_fork",
    ],
)
def test_the_core_passes_without_python(name, programs):
    assert programs.failure(name) == ""


@pytest.mark.parametrize("name", ["test_threads", "test_teams"])
def test_late_and_many_threads_change_no_bit_and_are_remembered(name, programs):
    assert programs.failure(name) == ""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="wraps the allocator of glibc")
def test_hot_calls_neither_allocate_nor_change_the_caller_s_mode(programs):
    assert programs.failure("test_alloc") == ""


@pytest.mark.parametrize("isa", sorted({"base", OWN}))
def test_activations_are_accurate_and_have_their_golden_hashes(isa, programs):
    assert programs.failure(f"test_math {isa}") == ""
