"""Fingerprints of a source's data, by which a training that goes on knows them again."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._digest import WHOLE, arrays_of, digest_of

from .protocols import Source, kept_in_place

_MOST_BATCHES = 1000  # of a source that makes no digest of its own


def beginning(source: Source) -> dict[str, Any]:
    """Position of a source, and fingerprints of all that it gives.

    A source with `digest()`, as those of fastrnn.data, says itself what it holds. Of others it is
    the batches from here to the end of the epoch, at most 1000 of them and 2**26 values.
    """
    place = source.state_dict()
    own = getattr(source, "digest", None)
    if own is not None:
        return {"place": place, "digest": own()}
    with kept_in_place(source):
        return {"place": place, "digest": _of_batches(source)}


def _of_batches(source: Source) -> dict[str, str]:
    found, left = [], WHOLE
    for count, batch in enumerate(source.batches(), 1):
        arrays = arrays_of((batch.inputs, batch.targets, batch.lengths))
        found.append(digest_of(arrays))
        left -= sum(array.size for array in arrays)
        if count == _MOST_BATCHES or left < 0:
            break
    return {"batches": digest_of([np.frombuffer("".join(found).encode(), np.uint8)])}


def change_of(began: dict[str, Any], source: Source, what: str) -> str | None:
    """Difference of a source from what it was when a training began; it stays where it is."""
    now = source.state_dict()
    try:
        source.load_state_dict(began["place"])
        found = beginning(source)["digest"]
    except (ValueError, KeyError, TypeError) as error:
        return f"it does not fit this {what}: {error}"
    finally:
        source.load_state_dict(now)
    changed = [name for name, digest in began["digest"].items() if found.get(name) != digest]
    if not changed and found.keys() == began["digest"].keys():
        return None
    return f"its {what} gave other batches ({', '.join(changed or found)} changed)"
