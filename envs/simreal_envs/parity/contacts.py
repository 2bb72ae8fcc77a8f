"""What differs once something touches: friction, softness of contacts, softness of limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simreal_envs.parity.bench import Motion
from simreal_envs.parity.causes import NOTABLE, Cause
from simreal_envs.parity.results import ProbeResult


def contact_causes(
    results: Sequence[ProbeResult], motions: Sequence[tuple[Motion, Motion]], names: tuple[str, str], otherwise: bool,
    coefficients: tuple[float | None, float | None],
) -> list[Cause]:  # fmt: skip
    """What differs once something touches: friction, softness of contacts, softness of limits.

    Args:
        results, motions: of every probe and of both engines, in the same order.
        otherwise: whether a difference has a cause already; contact is then named only where the difference grows at it.
        coefficients: of sliding friction, as either engine reports it; None where it does not. Contacts may brake
            differently under the same coefficient: those of rough ground push back as well.
    """
    found = []
    by_name = {result.name: result for result in results}
    braking = _braking(by_name.get("slide"), names)
    if braking and not _same(*coefficients):
        found.append(replace(braking, says=f"sliding friction shows as {braking.says}"))
    for kind, event in (("contact", "touch-down"), ("limit", "limit")):
        parted = [(r, e) for r, e in zip(results, motions, strict=True) if r.event.startswith(event)]
        parted = [r for r, e in parted if not otherwise or _grows(*e, float(r.event.split()[-2]))]
        if parted:
            first = min(parted, key=lambda r: r.name != "passive drop")
            when = f"in {first.name} they part at {first.begins:.3g} s ({first.event})"
            if kind == "limit":
                found.append(_limit(first.event, when))
                continue
            cause = _contact(by_name.get("standing"), when, names)
            if braking and _same(*coefficients):
                says = (
                    f"{cause.says}; a slide is braked by {braking.says} of the floor's push, under the same coefficient"
                )
                cause = replace(cause, says=says)
            found.append(cause)
    return found


def _braking(slide: ProbeResult | None, names: tuple[str, str]) -> Cause | None:
    """What a slide loses over the push of the floor, where that differs."""
    for number in slide.numbers if slide else ():
        a, b = number.a, number.b
        if number.name == "friction coefficient" and a and b and abs(a - b) > 0.1 * max(abs(a), abs(b)):
            return Cause("friction", (), (a,), (b,), "1", f"{a:.3g} on {names[0]}, {b:.3g} on {names[1]}")
    return None


def _same(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and abs(a - b) <= NOTABLE * max(abs(a), abs(b))


def _limit(event: str, when: str) -> Cause:
    joint = event.split()[2]
    return Cause("limit", (joint,), (), (), "", f"the limit of {joint} gives way differently: {when}")


def _contact(standing: ProbeResult | None, when: str, names: tuple[str, str]) -> Cause:
    """Softness of contacts, with how deep the standing robot sinks into the floor."""
    says = f"contacts give way differently: {when}"
    depths = next(((n.a or 0.0, n.b or 0.0) for n in standing.numbers), None) if standing else None
    if depths is None:
        return Cause("contact", (), (), (), "m", says)
    sunk = ", ".join(f"{1e3 * d:.2g} mm on {name}" for d, name in zip(depths, names, strict=True))
    return Cause("contact", (), depths[:1], depths[1:], "m", f"{says}; standing, it sinks in {sunk}")


def _grows(a: Motion, b: Motion, time: float) -> bool:
    """Whether the difference is ten times larger within 0.1 s after an event than it was before it."""
    apart = np.abs(b.qpos - a.qpos).max(axis=(1, 2))
    before, after = a.times < time, (a.times >= time) & (a.times <= time + 0.1)
    return bool(before.sum() > 1 and apart[after].max() > 10 * max(apart[before].max(), 1e-5))
