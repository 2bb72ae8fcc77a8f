"""Acting on the early warning: what an arm does when its transfer is likely to turn out negative.

At 0, 5, 10 and 20 % of its budget an arm that moves an agent asks `simreal.diagnostics.early_warning` for P(negative). The
first time that it exceeds the threshold it warns, stops learning, or goes on from scratch, as it was told. What was said and
done is in its evidence under ``early_warning``, and with it in its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simreal.diagnostics.early_warning import MARKS, features, fitted
from simreal_envs.errors import UserError, require_known

ACTIONS = ("warn", "stop", "fall_back")


@dataclass(frozen=True)
class EarlyWarning:
    """What to do when a transfer is likely to turn out negative.

    Attributes:
        on_negative: ``"warn"`` says so, ``"stop"`` ends the learning, ``"fall_back"`` goes on from scratch.
        threshold: the P(negative) from which on it is done, 0 to 1.
    """

    on_negative: str = "warn"
    threshold: float = 0.7

    def __post_init__(self) -> None:
        require_known(self.on_negative, ACTIONS, "action", "early_warning: on_negative")
        if not 0.0 < self.threshold < 1.0:
            raise UserError(f"early_warning: threshold must lie between 0 and 1, not {self.threshold!r}")

    def begin(self, random_return: float, source_return: float | None) -> dict[str, Any]:
        """What an arm keeps in its evidence.

        Args:
            random_return: what random actions earn in the target.
            source_return: what the agent earned in its source; None where its card does not say.
        """
        return {**asdict(self), "random_return": random_return, "source_return": source_return, "at": [], "acted": None}

    def ask(
        self, said: dict[str, Any], percent: int, points: Sequence[Mapping[str, Any]], returns: Mapping[int, float]
    ) -> dict[str, Any]:
        """Add to what was `said` what is known at a mark.

        Args:
            points: signals of all evaluations so far.
            returns: raw return by environment steps.
        """
        steps = [point["env_steps"] for point in points]
        found = features(points, [returns[step] for step in steps], said["random_return"], said["source_return"])
        p = fitted(percent)(found)
        here = {"percent": percent, "env_steps": steps[-1], "p": p.to_dict()}
        acts = said["acted"] is None and p.value > self.threshold
        return {**said, "at": [*said["at"], here], "acted": here if acts else said["acted"]}


def summary(evidence: Sequence[tuple[int, Mapping[str, Any]]], budget: int) -> dict[str, Any] | None:
    """Return what the warning said of an arm and what that saved, as report.json's entry; None where nobody asked.

    Args:
        evidence: of every seed, with the seed.
        budget: environment steps of an arm.
    """
    asked = [(seed, one["early_warning"]) for seed, one in evidence if "early_warning" in one]
    if not asked:
        return None
    acted = [(seed, said["acted"]) for seed, said in asked if said["acted"]]
    action, threshold = asked[0][1]["on_negative"], asked[0][1]["threshold"]
    at = []
    for percent in MARKS:
        here = [mark for _, said in asked for mark in said["at"] if mark["percent"] == percent]
        if here:
            p = {bound: float(np.mean([mark["p"][bound] for mark in here])) for bound in ("value", "low", "high")}
            at.append({"percent": percent, "env_steps": here[0]["env_steps"], "p": p, "seeds": len(here)})
    saved = sum(budget - mark["env_steps"] for _, mark in acted) if action != "warn" else 0
    return {
        "at": at,
        "action": action,
        "acted": [
            {"seed": seed, "percent": mark["percent"], "env_steps": mark["env_steps"], "p": mark["p"]["value"]}
            for seed, mark in acted
        ],
        "saved_steps": saved,
        "says": _sentence(action, threshold, len(asked), acted, saved),
    }


def _sentence(
    action: str, threshold: float, seeds: int, acted: Sequence[tuple[int, Mapping[str, Any]]], saved: int
) -> str:
    if not acted:
        return f"No early warning: the probability of a negative transfer stayed below {threshold:g} in every seed."
    first, last = (pick(mark["percent"] for _, mark in acted) for pick in (min, max))
    when = f"at {first} %" if first == last else f"at {first} to {last} %"
    who = f"{len(acted)} of {seeds} seed{'s' * (seeds > 1)} {'was' if len(acted) == 1 else 'were'}"
    warned = f"{who} likely to turn out worse than scratch (probability above {threshold:g}) {when} of the budget"
    done = {
        "warn": "; they went on all the same.",
        "stop": f" and stopped there, which saved {saved:,} environment steps; their curves go on flat.",
        "fall_back": f" and went on from scratch, which kept {saved:,} environment steps from the failing transfer.",
    }
    return warned + done[action]
