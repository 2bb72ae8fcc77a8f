"""From numbers to sentences: what was seen, what it usually means, what to try.

Every rule looks at the verdict's metrics or at the evidence gathered at the handover and returns a `Reason` or None.
Evidence is averaged over the seeds that measured it. Thresholds are conventions, not laws: they decide what is worth
a sentence, never the label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simreal.diagnostics.curves import is_flat

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict

CRITIC_USELESS = -0.5  # explained variance below this: predicting a constant would be far better
CRITIC_GOOD = 0.5
BIAS_LARGE = 0.25  # of the target's return scale
SATURATED = 0.5  # share of actions at their limits
STD_COLLAPSED = 0.15  # actions span [-1, 1]
KL_RISING, KL_LARGE = 2.0, 0.1  # end over start, and nats
SHIFT_LARGE = 1.0  # source standard deviations
FORGOTTEN = 0.1  # of the source's return scale

# Numbers of one arm's handover, averaged over seeds; a field maps to numbers of its own. And what its "source" is called.
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
    """

    name: str
    value: float
    says: str
    strength: float = 1.0
    points: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of report.json: ``{"name", "value", "says"}``."""
        return {"name": self.name, "value": float(self.value), "says": self.says}


def explain(
    verdict: "Verdict", evidence: Sequence[Mapping[str, Any]] = (), source: str = "the source"
) -> tuple[Reason, ...]:
    """Return the ranked reasons for a verdict, at least one.

    The decision itself comes first; then what points the way of the label (cautions where it points no way), the
    strongest first.

    Args:
        verdict: label and metrics; its own reasons are ignored.
        evidence: one mapping per seed; missing keys and non-finite numbers are skipped.
        source: what the domain is called that the agents come from.
    """
    facts = {**average(evidence), "source": source}
    found = [reason for rule in RULES if (reason := rule(verdict, facts)) is not None]
    return (_decision(verdict), *ranked(found, verdict.label))


def ranked(reasons: Sequence[Reason], label: str) -> list[Reason]:
    """Return reasons in the order that suits a label: what points its way first, then cautions, the strongest first."""
    way = {"positive": 1, "negative": -1}.get(label, 0)
    return sorted(reasons, key=lambda r: (r.points != way, r.points != 0, -r.strength, r.name))


def average(evidence: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds of every finite number in `evidence`, key by key; mappings are averaged inside."""
    facts: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in evidence for key in one):
        values = [one[key] for one in evidence if one.get(key) is not None]
        nested = [value for value in values if isinstance(value, Mapping)]
        numbers = [float(v) for v in values if isinstance(v, (int, float, np.number)) and np.isfinite(v)]
        if nested and (inner := average(nested)):
            facts[key] = inner
        elif numbers:
            facts[key] = float(np.mean(numbers))
    return facts


def _decision(verdict: "Verdict") -> Reason:
    seeds, area, margin = min(verdict.seeds_transfer, verdict.seeds_scratch), verdict.area, verdict.margin
    if seeds < verdict.min_seeds:
        says = (
            f"{_seeds(verdict.seeds_transfer)} of transfer and {verdict.seeds_scratch} of scratch, fewer than the "
            f"{verdict.min_seeds} a verdict needs: the area difference of {area} may be luck; add seeds."
        )
        return Reason("too_few_seeds", seeds, says)
    meaning = {
        "positive": f"the whole interval is above the margin of {margin:g}: transfer pays on this budget.",
        "negative": f"the whole interval is below the margin of -{margin:g}: train from scratch or change strategy.",
        "neutral": f"the whole interval is within the margin of {margin:g}: transfer makes no difference that matters.",
        "inconclusive": f"the interval reaches across the margin of {margin:g}: "
        "add seeds or a longer budget before acting on it.",
    }[verdict.label]
    says = f"Over {verdict.budget:,.0f} target steps the normalized area differs from scratch by {area}; {meaning}"
    return Reason("area", area.value, says)


def _jumpstart(verdict: "Verdict", facts: Facts) -> Reason | None:
    jump = verdict.jumpstart
    strength = abs(jump.value) / max(verdict.margin, 0.05)
    if jump.low > 0.0:
        says = f"Before any update transfer is {jump} ahead of scratch: the source policy already works in part."
        return Reason("jumpstart", jump.value, says, strength, +1)
    if jump.high < 0.0:
        says = (
            f"Before any update transfer is {jump} behind scratch: the source policy does worse on the target than an "
            "untrained one; check the signs of actions, observations and reward, or do not copy the policy head."
        )
        return Reason("jumpstart", jump.value, says, strength, -1)
    return None


def _asymptote(verdict: "Verdict", facts: Facts) -> Reason | None:
    area, end = verdict.area, verdict.asymptotic
    strength = abs(end.value) / max(verdict.margin, 0.05)
    if area.low > 0.0 and end.high < 0.0:
        says = (
            f"Transfer learns earlier (area {area}) but ends lower ({end}): it may be stuck near the source's "
            "solution; thaw frozen layers, raise the learning rate or keep more exploration."
        )
        return Reason("ends_lower", end.value, says, strength, -1)
    if area.high < 0.0 and end.low > 0.0:
        says = f"Transfer loses early (area {area}) but ends higher ({end}): a longer budget may turn the verdict."
        return Reason("ends_higher", end.value, says, strength, +1)
    if end.low > 0.0:
        return Reason("ends_higher", end.value, f"Over the last 10 % transfer leads scratch by {end}.", strength, +1)
    if end.high < 0.0:
        says = f"Over the last 10 % of the budget transfer differs from scratch by {end}: it has not recovered."
        return Reason("ends_lower", end.value, says, strength, -1)
    return None


def _not_converged(verdict: "Verdict", facts: Facts) -> Reason | None:
    slopes = {"transfer": verdict.slope_transfer, "scratch": verdict.slope_scratch}
    moving = {arm: slope for arm, slope in slopes.items() if np.isfinite(slope.low) and not is_flat(slope)}
    if not moving:
        return None
    arm = max(moving, key=lambda name: abs(moving[name].value))
    names = " and ".join(f"{name} ({slope})" for name, slope in moving.items())
    says = (
        f"Not converged: over the last 30 % of the budget {names} still changes, in normalized return per budget; "
        "the difference at the end may not last, a longer budget would show it."
    )
    return Reason("not_converged", moving[arm].value, says, min(abs(moving[arm].value), 2.0))


def _censored(verdict: "Verdict", facts: Facts) -> Reason | None:
    transfer, scratch = verdict.censored_transfer, verdict.censored_scratch
    if transfer + scratch == 0:
        return None
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
    return Reason("censored", transfer + scratch, says, share)


def _ratio_undefined(verdict: "Verdict", facts: Facts) -> Reason | None:
    if verdict.transfer_ratio is not None or not np.isfinite(verdict.area_scratch.low):
        return None
    says = (
        f"No transfer ratio: scratch's own area is {verdict.area_scratch}, not clearly above a random policy, and "
        "dividing by it would mean nothing; read the area difference."
    )
    return Reason("ratio_undefined", verdict.area_scratch.value, says, 0.5)


def _critic_variance(verdict: "Verdict", facts: Facts) -> Reason | None:
    explained = facts.get("critic_explained_variance")
    if explained is None:
        return None
    if explained < CRITIC_USELESS:
        says = (
            f"At the handover the source critic explains {explained:+.1f} of the target's return variance (1 is "
            "perfect, below 0 is worse than a constant): the first updates can push the policy the wrong way; warm up or "
            "re-initialize the critic."
        )
        return Reason("critic_explained_variance", explained, says, min(explained / CRITIC_USELESS, 5.0), -1)
    if explained > CRITIC_GOOD:
        says = (
            f"At the handover the source critic explains {explained:.2f} of the target's return variance: the first "
            "updates have a useful baseline; keep the critic."
        )
        return Reason("critic_explained_variance", explained, says, explained / CRITIC_GOOD, +1)
    return None


def _critic_bias(verdict: "Verdict", facts: Facts) -> Reason | None:
    bias = facts.get("critic_bias")
    if bias is None or abs(bias) < BIAS_LARGE * verdict.scale:
        return None
    direction = "over" if bias > 0.0 else "under"
    says = (
        f"At the handover the source critic {direction}estimates the target's return by {abs(bias):.3g}, "
        f"{abs(bias) / verdict.scale:.0%} of its scale: early advantages carry the wrong level; warm up the critic."
    )
    return Reason("critic_bias", bias, says, min(abs(bias) / (BIAS_LARGE * verdict.scale), 5.0), -1)


def _saturation(verdict: "Verdict", facts: Facts) -> Reason | None:
    share = facts.get("action_saturation")
    if share is None or share < SATURATED:
        return None
    says = (
        f"At the handover {share:.0%} of the actions sit at their limits: saturated outputs explore and correct "
        "little; re-initialize the policy head or raise its standard deviation."
    )
    return Reason("action_saturation", share, says, share / SATURATED, -1)


def _policy_std(verdict: "Verdict", facts: Facts) -> Reason | None:
    std = facts.get("policy_std")
    if std is None or std > STD_COLLAPSED:
        return None
    says = (
        f"The policy is handed over with a standard deviation of {std:.3f} on actions in [-1, 1]: it hardly explores "
        "the target; reset the log-std or add an entropy bonus."
    )
    return Reason("policy_std", std, says, min(STD_COLLAPSED / max(std, 1e-3), 5.0), -1)


def _policy_kl(verdict: "Verdict", facts: Facts) -> Reason | None:
    begin, end = facts.get("policy_kl"), facts.get("end", {}).get("policy_kl")
    if begin is None or end is None or end < KL_LARGE or end < KL_RISING * begin:
        return None
    says = (
        f"The policy's KL divergence from {facts['source']} grew from {begin:.2g} to {end:.2g} nats: the target needs "
        f"other actions than {facts['source']}; copying less, or a source randomized over the target's parameters, may help."
    )
    return Reason("policy_kl", end, says, min(end / max(KL_RISING * begin, KL_LARGE), 5.0), -1)


def _normalizer_shift(verdict: "Verdict", facts: Facts) -> Reason | None:
    shifts = facts.get("normalizer_shift")
    if not isinstance(shifts, Mapping) or not shifts:
        return None
    field = max(shifts, key=lambda name: abs(shifts[name]))
    shift = abs(shifts[field])
    if shift < SHIFT_LARGE:
        return None
    says = (
        f"Observation {field!r} moved by {shift:.1f} source standard deviations on the target, the most of all "
        "fields: the network sees inputs it was not trained on; adapt the normalizer or randomize what moves it."
    )
    return Reason("normalizer_shift", shift, says, min(shift / SHIFT_LARGE, 5.0), -1)


def _forgetting(verdict: "Verdict", facts: Facts) -> Reason | None:
    lost = verdict.forgetting
    if lost is None or not (lost.value > FORGOTTEN and lost.low > 0.0):
        return None
    says = (
        f"On {facts['source']} the agent lost {lost} of the return scale while learning the target; if that matters, "
        "keep the bundle it began with, lower the learning rate or penalize moving away from it."
    )
    return Reason("forgetting", lost.value, says, min(lost.value, 1.0))


def _diverged(verdict: "Verdict", facts: Facts) -> Reason | None:
    episodes = facts.get("diverged_episodes")
    if not episodes:
        return None
    says = (
        f"The physics diverged in {episodes:g} episodes per seed, which were cut off and started anew: the world is "
        "not trustworthy there; use a smaller timestep, lower gains or narrower parameter ranges."
    )
    return Reason("diverged_episodes", episodes, says, min(episodes, 5.0))


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


RULES: tuple[Callable[["Verdict", Facts], Reason | None], ...] = (
    _jumpstart,
    _asymptote,
    _not_converged,
    _censored,
    _ratio_undefined,
    _critic_variance,
    _critic_bias,
    _saturation,
    _policy_std,
    _policy_kl,
    _normalizer_shift,
    _forgetting,
    _diverged,
)
