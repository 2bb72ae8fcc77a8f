"""What a reason is, how reasons are ordered, and how the evidence of several seeds becomes one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simreal.diagnostics.reasons.normal import NORMAL

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict

# How near a reason is to the root: an agent that is not the one that was trained, a robot that is wired another way, a world
# that differs, an agent that cannot learn any more, and what merely follows from those.
AGENT, WIRING, WORLD, ABILITY, SYMPTOM = range(5)
STRONGEST = 5.0

# Numbers of one arm, averaged over seeds; a field maps to numbers of its own. And what its "source" is called.
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Reason:
    """One sentence with the number it rests on.

    Attributes:
        name: stable identifier of the rule.
        value: the number the sentence quotes first.
        says: what was seen, what it usually means, what to try.
        strength: how far beyond noteworthy, about 1 at the threshold.
        points: +1 explains a gain, -1 explains harm, 0 is a caution about the comparison itself.
        depth: how near to the root it lies: all but SYMPTOM are causes.
    """

    name: str
    value: float
    says: str
    strength: float = 1.0
    points: int = 0
    depth: int = SYMPTOM

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of report.json: ``{"name", "value", "says", "points", "strength"}``."""
        return {
            "name": self.name,
            "value": float(self.value),
            "says": self.says,
            "points": self.points,
            "strength": float(self.strength),
        }


Rule = Callable[["Verdict", Facts], Iterable[Reason]]


@dataclass(frozen=True)
class Beyond:
    """A rule for a signal whose normal range says all: what is said below and above it.

    Sentences are format strings of ``value``, of ``where``, the layer, field or part that lies farthest outside, and of
    ``source``. Where a side has none, nothing is said there.

    Attributes:
        signal: key of the evidence, and of `NORMAL`.
        name: of the reason; the signal's unless given.
        unless: what else explains the signal, then nothing is said.
    """

    signal: str
    below: str = ""
    above: str = ""
    points: int = -1
    depth: int = SYMPTOM
    name: str = ""
    unless: Callable[[Facts], object] = lambda facts: False

    def __call__(self, verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
        measured = facts.get(self.signal)
        if measured is None or self.unless(facts):
            return
        low, high = NORMAL[self.signal]
        places = measured if isinstance(measured, Mapping) else {"": measured}
        found = [
            (1.0 + abs(value - bound) / max(abs(bound), 0.05), where, value, says)
            for where, value in places.items()
            for bound, says in ((low, self.below if value < low else ""), (high, self.above if value > high else ""))
            if says
        ]
        if found:
            strength, where, value, says = max(found, key=lambda one: one[0])
            text = says.format(value=value, where=where, source=facts["source"])
            yield Reason(self.name or self.signal, value, text, min(strength, STRONGEST), self.points, self.depth)


def ranked(reasons: Sequence[Reason], label: str) -> list[Reason]:
    """Return reasons in the order that suits a label.

    What points its way comes first, then causes, then cautions, then the rest; causes before what follows from them,
    those nearest to the root first, and of equals the strongest.
    """
    way = {"positive": 1, "negative": -1}.get(label, 0)

    def place(reason: Reason) -> tuple[Any, ...]:
        if way and reason.points == way:
            kind = 0
        elif reason.depth < SYMPTOM:
            kind = 1
        else:
            kind = 2 if reason.points == 0 else 3
        return kind, reason.depth, -reason.strength, reason.name

    return sorted(reasons, key=place)


def average(evidence: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds of every finite number in `evidence`, key by key.

    Mappings are averaged inside, and lists of mappings, such as the points of a run, place by place.
    """
    facts: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in evidence for key in one):
        values = [one[key] for one in evidence if one.get(key) is not None]
        nested = [value for value in values if isinstance(value, Mapping)]
        series = [value for value in values if isinstance(value, Sequence) and not isinstance(value, str)]
        numbers = [float(v) for v in values if isinstance(v, (int, float, np.number)) and np.isfinite(v)]
        if nested and (inner := average(nested)):
            facts[key] = inner
        elif series and all(isinstance(place, Mapping) for one in series for place in one):
            facts[key] = [average(places) for places in zip(*series, strict=False)]
        elif numbers:
            facts[key] = float(np.mean(numbers))
    return facts


def farthest(measured: Any) -> tuple[str, float] | None:
    """Return the entry of a mapping that is largest in size, with its number; None where there is none."""
    if not isinstance(measured, Mapping) or not measured:
        return None
    where = max(measured, key=lambda name: abs(measured[name]))
    return where, measured[where]
