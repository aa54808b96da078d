"""What a forecast has learnt as plain arrays by name, to be kept by whoever can write."""

from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

VERSION: Final = 1.0


def collected(learner: object) -> dict[str, Array]:
    """Copies of all arrays of a dataclass and of the dataclasses in it, by dotted name."""
    found = {name: array.copy() for name, array in _arrays(learner, "").items()}
    return found | {"version": np.array([VERSION])}


def write_back(learner: object, saved: dict[str, Array]) -> None:
    """Write saved arrays back. Raises ValueError, and changes nothing, when names, shapes or version differ."""
    mine = _arrays(learner, "")
    version = saved.get("version")
    if version is None or version.tolist() != [VERSION]:
        raise ValueError(f"saved state has version {None if version is None else version.tolist()}: must be {VERSION}")
    for name, array in mine.items():
        if name not in saved or np.shape(saved[name]) != array.shape:
            raise ValueError(f"saved state has no {name} of shape {array.shape}: learn anew from the counts")
    for name, array in mine.items():
        array[...] = saved[name]


def _arrays(learner: Any, prefix: str) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for each in fields(learner):
        if not each.name.startswith("_") and not prefix:
            continue  # an argument
        value, name = getattr(learner, each.name), prefix + each.name.lstrip("_")
        if isinstance(value, np.ndarray):
            found[name] = value
        elif is_dataclass(value):
            found |= _arrays(value, name + ".")
    return found
