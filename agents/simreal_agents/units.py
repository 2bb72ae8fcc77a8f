"""Units as they stand in a schema: which ones measure the same quantity, and by what factor they differ."""

from __future__ import annotations

import math
import re
from collections import Counter

# Symbol -> (value in SI, dimensions). Angles are a dimension here: a joint in rad is not a share of its range in 1.
_SYMBOLS: dict[str, tuple[float, dict[str, int]]] = {
    "1": (1.0, {}),
    "m": (1.0, {"length": 1}),
    "g": (1e-3, {"mass": 1}),
    "s": (1.0, {"time": 1}),
    "rad": (1.0, {"angle": 1}),
    "N": (1.0, {"mass": 1, "length": 1, "time": -2}),
    "J": (1.0, {"mass": 1, "length": 2, "time": -2}),
    "W": (1.0, {"mass": 1, "length": 2, "time": -3}),
    "Pa": (1.0, {"mass": 1, "length": -1, "time": -2}),
    "Hz": (1.0, {"time": -1}),
    "V": (1.0, {"voltage": 1}),
    "A": (1.0, {"current": 1}),
}
_PREFIXABLE = tuple(symbol for symbol in _SYMBOLS if symbol != "1")
_PREFIXES = {"u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "c": 1e-2, "k": 1e3, "M": 1e6}
_SYMBOLS |= {
    "Nm": (1.0, {"mass": 1, "length": 2, "time": -2}),
    "deg": (math.pi / 180, {"angle": 1}),
    "°": (math.pi / 180, {"angle": 1}),
    "rev": (2 * math.pi, {"angle": 1}),
    "rpm": (2 * math.pi / 60, {"angle": 1, "time": -1}),
    "min": (60.0, {"time": 1}),
    "h": (3600.0, {"time": 1}),
}
_FACTOR = re.compile(r"(1|[^\d^-]+)(?:\^?(-?\d+))?")


def factor(unit: str, other: str) -> float | None:
    """What a value in `unit` is multiplied with to read in `other`: ``factor("deg", "rad")`` is 0.01745.

    None where they do not measure the same quantity, or one is not known. Equal units give exactly 1.
    """
    if unit == other:
        return 1.0
    one, two = _parse(unit), _parse(other)
    if one is None or two is None or one[1] != two[1]:
        return None
    return one[0] / two[0]


def _parse(unit: str) -> tuple[float, dict[str, int]] | None:
    """SI value and dimensions of a product such as ``"rad/s^2"``, ``"N m"`` or ``"mm"``; None if it is not known.

    All that follows a slash is divided by, up to the next slash.
    """
    for sign, plain in (("²", "^2"), ("³", "^3"), ("**", "^"), ("*", " "), ("·", " "), ("⋅", " ")):
        unit = unit.replace(sign, plain)
    value, dimensions = 1.0, Counter[str]()
    for i, group in enumerate(unit.split("/")):
        if not group.split():
            return None
        for part in group.split():
            match = _FACTOR.fullmatch(part)
            known = match and _symbol(match[1])
            if not known:
                return None
            power = int(match[2] or 1) * (-1 if i else 1)
            value *= known[0] ** power
            for dimension, exponent in known[1].items():
                dimensions[dimension] += exponent * power
    return value, {dimension: n for dimension, n in dimensions.items() if n}


def _symbol(text: str) -> tuple[float, dict[str, int]] | None:
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    if text[:1] in _PREFIXES and text[1:] in _PREFIXABLE:
        value, dimensions = _SYMBOLS[text[1:]]
        return _PREFIXES[text[0]] * value, dimensions
    return None
