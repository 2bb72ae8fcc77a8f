"""What became of signals between the handover and the end of a run."""

from collections.abc import Mapping
from typing import Any

LAST = ("cka", "drift", "feature_drift")
CHANGE = {"policy_kl": "policy_kl_rise", "policy_entropy": "policy_entropy_change"}


def trends(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers derived from the signals at the handover and from those at the end, ``facts["end"]``.

    ``policy_kl_rise`` and ``policy_entropy_change`` are differences, ``effective_rank_kept`` {layer} is a ratio (of layers
    that had any rank to lose), and ``cka_end``, ``drift_end`` and ``feature_drift_end`` are the last values.
    """
    end = facts.get("end") or {}
    found: dict[str, Any] = {f"{name}_end": end[name] for name in LAST if name in end}
    found |= {change: end[name] - facts[name] for name, change in CHANGE.items() if name in end and name in facts}
    before, ranks = facts.get("effective_rank"), end.get("effective_rank")
    if isinstance(before, Mapping) and isinstance(ranks, Mapping):
        kept = {layer: rank / before[layer] for layer, rank in ranks.items() if before.get(layer, 0.0) > 2.0}
        found |= {"effective_rank_kept": kept} if kept else {}
    return found
