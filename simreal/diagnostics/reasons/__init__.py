"""From numbers to sentences: what was seen, what it usually means, what to try.

    base.py     what a reason is, the order of reasons, the mean over seeds
    normal.py   the range of every signal within which nothing is said
    outcome.py  the curves: start, end, time, what was lost at home
    agent.py    the agent: critic, policy, network, whether it is still the one that was trained
    world.py    the target: wiring, sensors, dynamics, reward, known parameters
    trends.py   what became of signals while the agent learned

Every rule looks at the verdict's metrics or at the evidence and yields reasons. Evidence is averaged over the seeds that
measured it. Reasons never change the label.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simreal.diagnostics.reasons import agent, outcome, world
from simreal.diagnostics.reasons.base import SYMPTOM, Reason, Rule, average, ranked
from simreal.diagnostics.reasons.trends import trends

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict

__all__ = ["Reason", "average", "explain", "facts_of", "ranked"]


def explain(
    verdict: "Verdict", evidence: Sequence[Mapping[str, Any]] = (), source: str = "the source"
) -> tuple[Reason, ...]:
    """Return the ranked reasons for a verdict, at least one.

    The decision itself comes first, then the others as `ranked` has them.

    Args:
        verdict: label and metrics; its own reasons are ignored.
        evidence: one mapping per seed; missing keys and non-finite numbers are skipped.
        source: what the domain is called that the agents come from.
    """
    facts = {**facts_of(evidence), "source": source}
    found = _all(verdict, facts, (*agent.RULES, *world.RULES))
    causes = [reason for reason in ranked(found, "negative") if reason.depth < SYMPTOM]
    known = {**facts, "cause": causes[0].name.replace("_", " ")} if causes else facts
    return (outcome.decision(verdict), *ranked([*found, *_all(verdict, known, outcome.RULES)], verdict.label))


def facts_of(evidence: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what rules look at: the evidence averaged over seeds, with what became of it in time.

    A hypothesis about the target that a seed did not arrive at counts as 0 there.
    """
    facts = average(evidence)
    tried = [{"model_cause": {}} | average([one]) for one in evidence if isinstance(one.get("model_cause"), Mapping)]
    facts |= {key: _mean([one.get(key) or {} for one in tried]) for key in world.SHARES}
    facts["causes"] = _mean([world.causes(one) for one in tried])
    facts["outside"] = next((one["outside"] for one in evidence if one.get("outside")), {})
    return {**facts, **trends(facts)}


def _mean(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in shares for name in one)
    return {name: sum(one.get(name, 0.0) for one in shares) / len(shares) for name in names}


def _all(verdict: "Verdict", facts: Mapping[str, Any], rules: Sequence[Rule]) -> list[Reason]:
    return [reason for rule in rules for reason in rule(verdict, facts)]
