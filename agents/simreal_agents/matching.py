"""Which elements of two schemas are the same: by the name of their field, their own label, and what they measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from simreal_agents.units import factor
from simreal_envs.errors import Unsupported, UserError, require_known
from simreal_envs.schema import Field, Schema

Kind = Literal["observation", "action"]
NEW_ENCODER = "encoder='new', --encoder new, makes one and keeps trunk and heads"


@dataclass(frozen=True)
class Pair:
    """One element that both sides have: its position in the agent, and ``theirs = gain * ours + offset``."""

    ours: int
    gain: float
    offset: float


@dataclass(frozen=True)
class Matching:
    """All elements of one side of the schema.

    Attributes:
        ours, theirs: ``(field, label)`` of every element, in order.
        pairs: for every element of the target, its counterpart in the agent, or None.
        missing: positions in the agent that the target does not have.
    """

    kind: Kind
    ours: tuple[tuple[Field, str], ...]
    theirs: tuple[tuple[Field, str], ...]
    pairs: tuple[Pair | None, ...]
    missing: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Whether any element is matched."""
        return any(pair is not None for pair in self.pairs)

    @property
    def places(self) -> tuple[list[int], list[int]]:
        """Positions of matched elements in the target and in the agent, side by side."""
        found = [(i, pair.ours) for i, pair in enumerate(self.pairs) if pair is not None]
        return [i for i, _ in found], [j for _, j in found]


def aliases(rename: Mapping[str, str], ours: Schema, theirs: Schema) -> dict[str, str]:
    """`rename`, checked: both names exist, and both are fields or both elements."""
    for name, old in rename.items():
        for one, schema, whose in ((name, theirs, "target"), (old, ours, "agent")):
            fields = (*schema.observation, *schema.action)
            known = (
                [f"{f.name}/{label}" for f in fields for label in f.labels] if "/" in name else [f.name for f in fields]
            )
            require_known(one, known, f"{'element' if '/' in name else 'field'} of the {whose}", "rename")
    return dict(rename)


def match(ours: Sequence[Field], theirs: Sequence[Field], kind: Kind, alias: Mapping[str, str]) -> Matching:
    """Match every element of `theirs` with one of `ours`; `alias` says the agent's name where it differs.

    Raises:
        UserError: when names are not unique, or units do not measure one quantity.
    """
    own, other = _elements(ours, f"the agent's {kind}"), _elements(theirs, f"the target's {kind}")
    place = {f"{field.name}/{label}": i for i, (field, label) in enumerate(own)}
    pairs: list[Pair | None] = []
    for field, label in other:
        name = alias.get(f"{field.name}/{label}") or f"{alias.get(field.name, field.name)}/{label}"
        if (i := place.get(name)) is None:
            pairs.append(None)
            continue
        if any(pair and pair.ours == i for pair in pairs):
            raise UserError(
                f"two elements of the target's {kind} are to be the agent's {name}: {field.name}/{label} is one"
            )
        pairs.append(Pair(i, *_conversion(own[i][0], field, kind)))
    kept = {pair.ours for pair in pairs if pair is not None}
    return Matching(kind, own, other, tuple(pairs), tuple(i for i in range(len(own)) if i not in kept))


def _elements(fields: Sequence[Field], whose: str) -> tuple[tuple[Field, str], ...]:
    elements = tuple((field, label) for field in fields for label in field.labels)
    names = [f"{field.name}/{label}" for field, label in elements]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{whose} has two elements called {twice!r}, so it cannot be matched by name")
    return elements


def match_pictures(ours: Sequence[Field], theirs: Sequence[Field], alias: Mapping[str, str]) -> Matching:
    """`match` for the channels of pictures, which stay in their picture.

    Raises:
        UserError: when a channel is to move to another picture, or a picture has other pixels.
    """
    found = match(ours, theirs, "observation", alias)
    pairs = [
        (field, label, found.ours[p.ours][0]) for (field, label), p in zip(found.theirs, found.pairs, strict=True) if p
    ]
    for field, label, own in pairs:
        if any((field.name == other.name) != (own.name == its.name) for other, _, its in pairs):
            raise UserError(
                f"the channels of a picture stay together: {field.name}/{label} of the target cannot come from the agent's "
                f"{own.name} while others come from elsewhere"
            )
        if _pixels(own) != _pixels(field):
            raise Unsupported(
                f"the picture {field.name!r} has {_pixels(own)} for the agent and {_pixels(field)} for the target: that "
                f"needs a new encoder ({NEW_ENCODER})"
            )
    return found


def _pixels(field: Field) -> str:
    height, width = field.grid
    return f"{height} x {width} pixels of {field.dtype} from {field.low:g} to {field.high:g} [{field.unit}]"


def _conversion(ours: Field, theirs: Field, kind: Kind) -> tuple[float, float]:
    """Gain and offset from the agent's field to the target's of the same name."""
    if theirs.discrete or theirs.grid:
        return 1.0, 0.0
    gain = factor(ours.unit, theirs.unit)
    if gain is None:
        raise UserError(
            f"the {kind} field {ours.name!r} is in [{ours.unit}] for the agent and in [{theirs.unit}] for the target, "
            "which are not known as units of one quantity"
        )
    if kind == "action" and ours.unit == theirs.unit == "1":
        bounds = (ours.low, ours.high, theirs.low, theirs.high)
        if all(map(math.isfinite, bounds)) and bounds[:2] != bounds[2:] and ours.low < ours.high:
            gain = (theirs.high - theirs.low) / (ours.high - ours.low)
            return gain, theirs.low - gain * ours.low
    return gain, 0.0
