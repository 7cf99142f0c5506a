"""Arrays in any dress: whatever can become an array is one, and what cannot is named."""

from __future__ import annotations

import array
from fractions import Fraction

import numpy as np
import pytest
from families import FAMILIES, call, make, normal

import fastrnn
from fastrnn._arrays import as_float32


class OnlyArrayInterface:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class OnlyDLPack:
    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def odd_forms(x):
    """The same values in many dresses; x holds small integers."""
    read_only = x.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    return {
        "float64": x.astype(np.float64),
        "float16": x.astype(np.float16),
        "long double": x.astype(np.longdouble),
        "int64": x.astype(np.int64),
        "uint8": x.astype(np.uint8),
        "big-endian": x.astype(">f4"),
        "Fortran order": np.asfortranarray(x),
        "every second": np.repeat(x, 2, axis=1)[:, ::2],
        "negative strides": np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1],
        "read-only": read_only,
        "unaligned": unaligned,
        "list": x.tolist(),
        "memoryview": memoryview(x),
        "__array__": OnlyArrayInterface(x),
        "DLPack": OnlyDLPack(x),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_in_any_dress_give_the_same_bits(family, rng):
    layer = make(family, 3, 4)
    x = rng.integers(0, 9, (5, 2, 3)).astype(np.float32)
    wanted = call(layer, x)[0]
    for name, same in odd_forms(x).items():
        assert np.array_equal(call(layer, same)[0], wanted), name


def test_states_and_parameters_come_in_any_dress_too(rng):
    layer, twin = fastrnn.GRU(4, 4), fastrnn.GRU(4, 4)
    h = rng.integers(0, 9, (1, 2, 4)).astype(np.float32)
    x = normal(rng, 3, 2, 4)
    wanted = layer(x, h)[0]
    for name, same in odd_forms(h).items():
        if name != "list":  # which could be the pair of an LSTM
            assert np.array_equal(layer(x, same)[0], wanted), name
    for dress in (np.asfortranarray, lambda t: t.astype(np.float64), np.ndarray.tolist, OnlyDLPack):
        twin.load_state_dict({k: dress(v) for k, v in layer.state_dict().items()})
        assert np.array_equal(twin(x, h)[0], wanted)


def test_the_buffer_protocol_is_enough(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 5, 3)
    flat = array.array("f", x.tobytes())
    assert np.array_equal(layer(memoryview(flat).cast("B").cast("f", x.shape))[0], layer(x)[0])


def test_conversion_shares_memory_when_it_can(rng):
    x = normal(rng, 4, 3)
    assert as_float32(x, "x") is x
    assert np.shares_memory(as_float32(OnlyDLPack(x), "x"), x)
    assert as_float32(np.float64(1.5), "x").shape == ()


def test_numbers_that_are_no_array_type_are_refused():
    for bad in ([Fraction(1, 2)], [[None]], {1: 2}, object(), b"bytes", [1 + 2j]):
        with pytest.raises(TypeError, match="x "):
            as_float32(bad, "x")


class Explodes:
    """Raises an error of no usual kind, whatever it is asked."""

    def __array__(self, dtype=None, copy=None):
        raise KeyError("no")

    def __len__(self):
        raise ZeroDivisionError


def test_an_object_that_fails_to_become_an_array_is_named_with_its_reason():
    with pytest.raises(TypeError, match="x is an Explodes that cannot become an array") as caught:
        fastrnn.GRU(3, 4)(Explodes())
    assert isinstance(caught.value.__cause__, KeyError)


def test_running_out_of_memory_is_not_called_a_wrong_argument():
    class Large:
        def __array__(self, dtype=None, copy=None):
            raise MemoryError

    with pytest.raises(MemoryError):
        fastrnn.GRU(3, 4)(Large())


def test_masked_arrays_are_refused():
    x = np.ma.masked_greater(np.zeros((5, 2, 3)), 1)
    with pytest.raises(TypeError, match="x is a masked array, fill the masked values first"):
        fastrnn.GRU(3, 4)(x)
    assert fastrnn.GRU(3, 4)(x.filled(0))[0].shape == (5, 2, 4)
