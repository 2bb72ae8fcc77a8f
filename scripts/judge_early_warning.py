"""Judge the early warning on environments that it was not fitted to, and fit the one that comes with the package.

    python scripts/judge_early_warning.py [--cases docs/results/early_warning_cases.json] [--json docs/results/early_warning.json]
    python scripts/judge_early_warning.py --overhead          # also measures what it costs: minutes, on a quiet machine

Everything but the overhead is drawn from fixed seeds. A run is one seed of a case; scores are of runs, which is what a
warning sees when it acts, and ``.._of_cases`` of the mean over the ten seeds of a case. Ambiguous cases are not scored, but
count in the value of decisions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from early_warning_fit import (
    RIDGES,
    Runs,
    area_after,
    auroc,
    brier,
    calibration,
    choose_ridge,
    fit,
    held_out_loss,
    leave_environments_out,
)

from simreal.diagnostics.curves import normalize
from simreal.diagnostics.early_warning import BEFORE, DURING, FITTED, MARKS, PROBES

LABELS = ("positive", "neutral", "negative", "inconclusive")
THRESHOLDS = (0.5, 0.7, 0.9)


@dataclass(frozen=True, eq=False)
class Run:
    """One seed of a case.

    Attributes:
        case: as in the file of cases.
        known: features by mark.
        steps: of the evaluations, the marks first, ``(T,)``.
        moved, scratch: normalized returns there of the transfer and of the control arm of its seed, ``(T,)``.
        probes: of the control arms of two other seeds, ``(2, T)``.
    """

    case: Mapping[str, Any]
    known: Mapping[str, Mapping[str, float]]
    steps: np.ndarray
    moved: np.ndarray
    scratch: np.ndarray
    probes: np.ndarray

    @property
    def name(self) -> str:
        """Of its case."""
        return f"{self.case['environment']}/{self.case['case']}"

    @property
    def label(self) -> str:
        """Of its case."""
        return self.case["label"]

    def early(self, curve: np.ndarray, mark: int) -> float:
        """The mean of a curve up to a mark."""
        n = MARKS.index(mark) + 1
        return float(np.trapezoid(curve[:n], self.steps[:n]) / self.steps[n - 1])

    def area(self, leave: int | None) -> float:
        """Its area if it goes on from scratch at a mark; None if it never does."""
        at = self.steps[-1] if leave is None else self.steps[MARKS.index(leave)]
        return area_after(self.steps, self.moved, self.scratch, at)


def runs_in(data: Mapping[str, Any]) -> list[Run]:
    """All runs of a file of cases, case by case."""
    found = []
    for case in data["cases"]:
        control = data["controls"][case["control"]]
        steps = np.array(control["env_steps"], dtype=float)
        moved, scratch = (normalize(one["returns"], control["random"], control["reference"]) for one in (case, control))
        for seed, known in enumerate(case["known"]):
            probes = np.roll(scratch, -seed - 1, axis=0)[:2]
            whole = {mark: {**known["0"], **here} for mark, here in known.items()}
            found.append(Run(case, whole, steps, moved[seed], scratch[seed], probes))
    return found


def table(runs: Sequence[Run], mark: int, probes: bool) -> Runs:
    """Runs as a warning sees them at a mark."""
    names = (*(DURING if mark else BEFORE), *([PROBES] if probes else []))
    return Runs(
        names,
        np.array([[run.known[str(mark)].get(name, np.nan) for name in names] for run in runs]),
        np.array([run.label == "negative" for run in runs]),
        np.array([run.name for run in runs]),
        np.array([run.case["environment"] for run in runs]),
    )


def said_of(runs: Sequence[Run], mark: int, probes: bool = False) -> np.ndarray:
    """P(negative) of all runs by warnings that were fitted to other environments, ``(runs,)``."""
    rows = table(runs, mark, probes)
    scored = np.array([run.label != "inconclusive" for run in runs])
    return leave_environments_out(rows.take(scored), np.random.default_rng(7), rows)


# -- scores ------------------------------------------------------------------------------------------------------------


def scores(
    runs: Sequence[Run], said: Mapping[int, np.ndarray], with_probes: Mapping[int, np.ndarray]
) -> dict[str, Any]:
    """How well negative runs are told from others, beside the rules that need no fit."""
    scored = np.flatnonzero([run.label != "inconclusive" for run in runs])
    negative = np.array([runs[i].label == "negative" for i in scored])
    names, where = (
        np.array([pick(runs[i]) for i in scored]) for pick in (lambda r: r.name, lambda r: r.case["environment"])
    )
    baselines = {
        "zero_shot": {0: np.array([-run.moved[0] for run in runs])},
        "area_minus_two_probes": {
            mark: np.array([np.mean([run.early(p, mark) for p in run.probes]) - run.early(run.moved, mark) for run in runs])
            for mark in MARKS[1:]
        },
    }  # fmt: skip

    def of_runs(values: np.ndarray) -> float:
        return auroc(negative, values[scored])

    def of_cases(values: np.ndarray) -> float:
        places = [names == name for name in np.unique(names)]
        return auroc([negative[here][0] for here in places], [values[scored][here].mean() for here in places])

    def each(of: Mapping[int, np.ndarray], measure: Callable[[np.ndarray], Any]) -> dict[str, Any]:
        return {str(mark): measure(values) for mark, values in of.items()}

    def here_only(of: Mapping[int, np.ndarray], here: np.ndarray) -> dict[str, float | None]:
        both = 0 < negative[here].sum() < here.sum()
        return each(of, lambda values: auroc(negative[here], values[scored][here]) if both else None)

    held_out = []
    for environment in dict.fromkeys(where):
        here = where == environment
        probed, alone = here_only(with_probes, here), here_only(said, here)
        held_out.append(
            {
                "environment": str(environment), "auroc_20": probed["20"], "auroc_5": probed["5"],
                "auroc_without_probes_5": alone["5"], "auroc_without_probes_20": alone["20"],
                "cases": len(np.unique(names[here])), "negative": len(np.unique(names[here & negative])),
            }
        )  # fmt: skip
    return {
        "auroc": each(with_probes, of_runs),
        "auroc_without_probes": each(said, of_runs),
        "baselines": {name: each(of, of_runs) for name, of in baselines.items()},
        "auroc_of_cases": each(with_probes, of_cases),
        "auroc_of_cases_without_probes": each(said, of_cases),
        "baselines_of_cases": {name: each(of, of_cases) for name, of in baselines.items()},
        "held_out": held_out,
        "beyond_baselines_5": {
            name: difference(negative, names, said[5][scored], of[min(of)][scored]) for name, of in baselines.items()
        },
        "without_5": without(table([runs[i] for i in scored], 5, False)),
        "brier": each(said, lambda p: brier(negative, p[scored])),
        "brier_of_the_base_rate": brier(negative, np.full(len(negative), negative.mean())),
        "calibration": each(said, lambda p: calibration(negative, p[scored])),
    }


def difference(negative: np.ndarray, names: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """By how much the AUROC of `one` exceeds that of `other`: the 95 % interval over cases, drawn within their labels."""
    rng, places = np.random.default_rng(5), {name: np.flatnonzero(names == name) for name in np.unique(names)}
    kinds = [[name for name, place in places.items() if negative[place[0]] == kind] for kind in (True, False)]

    def exceeds(drawn: np.ndarray) -> float:
        return auroc(negative[drawn], one[drawn]) - auroc(negative[drawn], other[drawn])

    found = [
        exceeds(np.concatenate([places[name] for kind in kinds for name in rng.choice(kind, len(kind))]))
        for _ in range(2000)
    ]
    low, high = np.quantile(found, (0.025, 0.975))
    return {
        "value": exceeds(np.arange(len(negative))),
        "low": low,
        "high": high,
        "share_above_0": np.mean(np.array(found) > 0),
    }


def variants(runs: Runs) -> dict[str, Runs]:
    """The runs as they are, and as they are for a warning without signs or without some features."""
    found = {}
    for signs, *kept in itertools.product((True, False), repeat=3):
        left_out = [name for name, keep in zip(("held_back", "inherited"), kept, strict=True) if not keep]
        columns = [i for i, name in enumerate(runs.names) if name not in left_out]
        names = tuple(runs.names[i] + ("" if signs else ", of any sign") for i in columns)
        without = " and ".join([*([] if signs else ["signs"]), *left_out])
        found[without or "nothing"] = replace(runs, names=names, rows=runs.rows[:, columns])
    return found


def without(runs: Runs) -> dict[str, Any]:
    """How well the warning does without what it has; ``chosen`` where every fold chooses by what it is fitted to only."""
    found = {name: leave_environments_out(one, np.random.default_rng(7)) for name, one in variants(runs).items()}
    rng, p, choices = np.random.default_rng(7), np.full(len(runs.negative), np.nan), {}
    for environment in np.unique(runs.environment):
        here = runs.environment == environment
        train, held_out = variants(runs.take(~here)), variants(runs.take(here))
        name, ridge = min(itertools.product(train, RIDGES), key=lambda one: held_out_loss(train[one[0]], one[1], rng))
        p[here] = fit(train[name], ridge, rng).probabilities(held_out[name].rows)
        choices[environment] = name
    scored = {name: {"auroc": auroc(runs.negative, q), "brier": brier(runs.negative, q)} for name, q in found.items()}
    chosen = {"auroc": auroc(runs.negative, p), "brier": brier(runs.negative, p), "without": choices}
    return {**scored, "chosen": chosen}


# -- decisions ---------------------------------------------------------------------------------------------------------


def first_above(said: Mapping[int, np.ndarray], place: int, threshold: float) -> int | None:
    """The first mark at which a run is warned of."""
    return next((mark for mark in MARKS if said[mark][place] > threshold), None)


def decisions(runs: Sequence[Run], said: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """What it is worth to go on from scratch when warned: the mean normalized area over all runs, ambiguous ones included."""
    helps = {
        name: np.mean([run.area(None) - run.area(0) for run in runs if run.name == name]) >= 0
        for name in {run.name for run in runs}
    }
    rules: dict[str, Callable[[int, Run], int | None]] = {
        "always_transfer": lambda place, run: None,
        "always_scratch": lambda place, run: 0,
        "oracle": lambda place, run: None if helps[run.name] else 0,
        "zero_shot_rule": lambda place, run: 0 if run.moved[0] < run.probes[0, 0] else None,
        "area_minus_two_probes_5": lambda place, run: (
            5 if run.early(run.moved, 5) < np.mean([run.early(probe, 5) for probe in run.probes]) else None
        ),
    }
    for threshold in THRESHOLDS:
        rules[f"early_warning_{threshold:g}"] = lambda place, run, t=threshold: first_above(said, place, t)
    return {
        name: float(np.mean([run.area(rule(i, run)) for i, run in enumerate(runs)])) for name, rule in rules.items()
    }


def detection(runs: Sequence[Run], said: Mapping[int, np.ndarray], threshold: float) -> dict[str, Any]:
    """When negative runs are found, what that saves, and how often others are warned of."""
    marks = [first_above(said, place, threshold) for place in range(len(runs))]
    negative = [mark for mark, run in zip(marks, runs, strict=True) if run.label == "negative"]
    others = [mark for mark, run in zip(marks, runs, strict=True) if run.label in ("positive", "neutral")]
    harmless = [
        mark for mark, run in zip(marks, runs, strict=True)
        if run.label in ("positive", "neutral") and run.case["harmless"]
    ]  # fmt: skip

    def share(found: Sequence[int | None]) -> float:
        return float(np.mean([mark is not None for mark in found]))

    return {
        "detected_at": {str(mark): float(np.mean([found == mark for found in negative])) for mark in MARKS},
        "missed": 1 - share(negative),
        "false_alarms": share(others),
        "false_alarms_on_harmless_shifts": share(harmless),
        "budget_saved_percent": float(np.mean([0 if mark is None else 100 - mark for mark in negative])),
    }


# -- all of it ---------------------------------------------------------------------------------------------------------


def overhead(seeds: int = 2) -> float:
    """How much longer a run takes that is watched, in % of its CPU time: its evaluations at the marks, and the questions.

    Both are timed within the run that they are a part of, so that other work on the machine cancels out.
    """
    import simreal as sr
    from simreal import training
    from simreal.learner import Learning, Target
    from simreal.one_arm import OneArm
    from simreal.schedule import Schedule

    domain, learning = sr.Domain("cartpole_swingup"), Learning(num_worlds=24, hyperparameters={"n_steps": 40})
    watched = Schedule(140_000, points=8, episodes=16, marks=MARKS)
    plain = {*Schedule(140_000, points=8, episodes=16).grid(960)}
    agent = sr.pretrain(domain, 20_000, learning=learning, points=2)
    extra, total = 0.0, 0.0

    class Timed(OneArm):
        def _evaluate(self) -> None:
            nonlocal extra
            begun = time.process_time()
            super()._evaluate()
            extra += time.process_time() - begun if self.steps not in plain else 0.0

        def _ask(self, steps: int) -> dict[str, float]:
            nonlocal extra
            begun = time.process_time()
            said = super()._ask(steps)
            extra += time.process_time() - begun if steps in plain else 0.0
            return said

    training.OneArm = Timed
    try:
        for seed in range(seeds):
            begun = time.process_time()
            target = Target(domain, learning, seed)
            training.train(agent, target, sr.FineTune(), watched, early=sr.EarlyWarning("warn"))
            total += time.process_time() - begun
    finally:
        training.OneArm = OneArm
    return 100 * extra / (total - extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=Path("docs/results/early_warning_cases.json"))
    parser.add_argument("--json", type=Path, default=Path("docs/results/early_warning.json"))
    parser.add_argument("--overhead", action="store_true")
    arguments = parser.parse_args()
    runs = runs_in(json.loads(arguments.cases.read_text(encoding="utf-8")))
    before = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
    said = {mark: said_of(runs, mark) for mark in MARKS}
    with_probes = {mark: said_of(runs, mark, probes=True) if mark else said[0] for mark in MARKS}
    names = list(dict.fromkeys(run.name for run in runs))
    of = {name: [place for place, run in enumerate(runs) if run.name == name] for name in names}
    result = {
        "command": "python scripts/judge_early_warning.py",
        "cases": {label: sum(runs[places[0]].label == label for places in of.values()) for label in LABELS},
        "runs": len(runs),
        **scores(runs, said, with_probes),
        "decision_value": decisions(runs, said),
        "detection": {f"{threshold:g}": detection(runs, said, threshold) for threshold in THRESHOLDS},
        "overhead_percent": overhead() if arguments.overhead else before.get("overhead_percent"),
        "rows": [
            {
                **{key: runs[places[0]].case[key] for key in ROW},
                "p_negative": {str(mark): float(np.mean(said[mark][places])) for mark in MARKS},
            }
            for places in of.values()
        ],
    }
    arguments.json.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    fits = {}
    for mark in MARKS:
        scored, rng = (
            table([run for run in runs if run.label != "inconclusive"], mark, False),
            np.random.default_rng(11),
        )
        fits[str(mark)] = fit(scored, choose_ridge(scored, rng), rng).to_dict()
    FITTED.write_text(json.dumps(fits) + "\n", encoding="utf-8")
    print(
        json.dumps(
            {key: value for key, value in rounded(result).items() if key not in ("rows", "calibration")}, indent=1
        )
    )


ROW = (
    "environment",
    "case",
    "source",
    "strategy",
    "settings",
    "target",
    "algorithm",
    "harmless",
    "label",
    "area",
    "asymptotic",
)


def rounded(data: Any) -> Any:
    """Four digits are enough."""
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [rounded(value) for value in data]
    return float(f"{data:.4g}") if isinstance(data, float) else data


if __name__ == "__main__":
    main()
