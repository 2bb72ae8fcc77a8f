"""What the curves themselves say, beyond the area: the start, the end, the time, what was lost at home."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from simreal.diagnostics.curves import is_flat
from simreal.diagnostics.reasons.base import STRONGEST, Facts, Reason, Rule
from simreal.diagnostics.reasons.normal import NORMAL

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict


def decision(verdict: "Verdict") -> Reason:
    """Return the arithmetic of the label, which precedes all reasons.

    Of a verdict that is open it holds no number of the arm's own, so that arms can share the sentence.
    """
    seeds, area, margin = min(verdict.seeds_transfer, verdict.seeds_scratch), verdict.area, verdict.margin
    if seeds < verdict.min_seeds:
        says = (
            f"{_seeds(verdict.seeds_transfer)} of transfer and {verdict.seeds_scratch} of scratch, fewer than the "
            f"{verdict.min_seeds} a verdict needs: the difference may be luck; add seeds."
        )
        return Reason("too_few_seeds", seeds, says)
    differs = f"the normalized area differs from scratch by {area}; the whole interval is"
    says = {
        "positive": f"{differs} above the margin of {margin:g}: transfer pays on this budget.",
        "negative": f"{differs} below the margin of -{margin:g}: train from scratch or change strategy.",
        "neutral": f"{differs} within the margin of {margin:g}: transfer makes no difference that matters.",
        "inconclusive": f"the interval of the normalized area against scratch reaches across the margin of {margin:g}: "
        "add seeds or a longer budget before acting on it.",
    }[verdict.label]
    return Reason("area", area.value, f"Over {verdict.budget:,.0f} target steps {says}")


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


def _jumpstart(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    jump = verdict.jumpstart
    strength = abs(jump.value) / max(verdict.margin, 0.05)
    if jump.low > 0.0:
        says = f"Before any update transfer is {jump} ahead of scratch: the source policy already works in part."
        yield Reason("jumpstart", jump.value, says, strength, +1)
    elif jump.high < 0.0:
        why = (
            f"the likely cause is a reason of its own, {facts['cause']!r}."
            if "cause" in facts
            else "check the signs of actions, observations and reward, or do not copy the policy head."
        )
        says = (
            f"Before any update transfer is {jump} behind scratch: the source policy does worse on the target than an "
            f"untrained one; {why}"
        )
        yield Reason("jumpstart", jump.value, says, strength, -1)


def _asymptote(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    area, end = verdict.area, verdict.asymptotic
    strength = abs(end.value) / max(verdict.margin, 0.05)
    if area.low > 0.0 and end.high < 0.0:
        says = (
            f"Transfer learns earlier (area {area}) but ends lower ({end}): it may be stuck near the source's "
            "solution; thaw frozen layers, raise the learning rate or keep more exploration."
        )
        yield Reason("ends_lower", end.value, says, strength, -1)
    elif area.high < 0.0 and end.low > 0.0:
        says = f"Transfer loses early (area {area}) but ends higher ({end}): a longer budget may turn the verdict."
        yield Reason("ends_higher", end.value, says, strength, +1)
    elif end.low > 0.0:
        says = f"Over the last 10 % transfer leads scratch by {end}."
        yield Reason("ends_higher", end.value, says, strength, +1)
    elif end.high < 0.0:
        says = f"Over the last 10 % of the budget transfer differs from scratch by {end}: it has not recovered."
        yield Reason("ends_lower", end.value, says, strength, -1)


def _not_converged(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    slopes = {"transfer": verdict.slope_transfer, "scratch": verdict.slope_scratch}
    moving = {arm: slope for arm, slope in slopes.items() if np.isfinite(slope.low) and not is_flat(slope)}
    if not moving:
        return
    arm = max(moving, key=lambda name: abs(moving[name].value))
    names = " and ".join(f"{name} ({slope})" for name, slope in moving.items())
    says = (
        f"Not converged: over the last 30 % of the budget {names} still changes, in normalized return per budget; "
        "the difference at the end may not last, a longer budget would show it."
    )
    yield Reason("not_converged", moving[arm].value, says, min(abs(moving[arm].value), 2.0))


def _policies_disagree(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    """The mean action and the drawn one earn different returns, or say opposite things about the transfer."""
    drawn, margin = verdict.stochastic, verdict.margin
    if drawn is None:
        return
    gap = verdict.final_return.value - drawn.final_return.value
    areas = verdict.area.value, drawn.area.value
    opposite = areas[0] * areas[1] < 0.0 and min(abs(area) for area in areas) > margin
    if not opposite and abs(gap) <= max(2.0 * margin, 0.1):
        return
    if opposite:
        seen = f"By its mean actions transfer's area differs from scratch by {areas[0]:+.2f}, by drawn ones by {areas[1]:+.2f}"
    else:
        seen = f"At the end transfer's mean actions earn {gap:+.2f} of the return scale against drawn ones"
    means = (
        "the noise still costs return; a longer budget lets it shrink"
        if gap > 0.0
        else "what was trained is the drawn policy; train longer, or deploy that one"
    )
    strength = min(max(abs(gap), abs(areas[0] - areas[1]) * opposite) / max(2.0 * margin, 0.1), STRONGEST)
    yield Reason("policies_disagree", gap if not opposite else areas[0], f"{seen}: {means}.", strength)


def _censored(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    transfer, scratch = verdict.censored_transfer, verdict.censored_scratch
    if transfer + scratch == 0:
        return
    meaning = {
        (True, True): "the difference in time is limited by the budget",
        (True, False): "transfer's true delay is larger than reported",
        (False, True): "transfer's true gain in time is larger than reported",
    }[bool(transfer), bool(scratch)]
    says = (
        f"{transfer} of {verdict.seeds_transfer} transfer seeds and {scratch} of {verdict.seeds_scratch} scratch seeds "
        f"never reached {verdict.threshold:g} of the reference; each counts with the whole budget, so {meaning}."
    )
    share = max(transfer / verdict.seeds_transfer, scratch / verdict.seeds_scratch)
    yield Reason("censored", transfer + scratch, says, share)


def _ratio_undefined(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    if verdict.transfer_ratio is not None or not np.isfinite(verdict.area_scratch.low):
        return
    says = (
        f"No transfer ratio: scratch's own area is {verdict.area_scratch}, not clearly above a random policy, and "
        "dividing by it would mean nothing; read the area difference."
    )
    yield Reason("ratio_undefined", verdict.area_scratch.value, says, 0.5)


def _forgetting(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    lost = verdict.forgetting
    if lost is None or not (lost.value > NORMAL["forgetting"][1] and lost.low > 0.0):
        return
    says = (
        f"On {facts['source']} the agent lost {lost} of the return scale while learning the target; if that matters, "
        "keep the bundle it began with, or hold it back with ewc, l2sp or source_replay."
    )
    yield Reason("forgetting", lost.value, says, min(lost.value, 1.0))


def _diverged(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    episodes = facts.get("diverged_episodes")
    if not episodes:
        return
    says = (
        f"The physics diverged in {episodes:g} episodes per seed, which were cut off and started anew: the world is "
        "not trustworthy there; use a smaller timestep, lower gains or narrower parameter ranges."
    )
    yield Reason("diverged_episodes", episodes, says, min(episodes, STRONGEST))


RULES: tuple[Rule, ...] = (
    _jumpstart,
    _asymptote,
    _not_converged,
    _policies_disagree,
    _censored,
    _ratio_undefined,
    _forgetting,
    _diverged,
)
