"""Measure how often intervals cover the truth, how often verdicts are wrong, and their power; for docs/verdict.md.

    python scripts/calibrate_verdict.py [--out docs/results/verdict_calibration.json] [--trials 4000] [--only power families]
    python scripts/calibrate_verdict.py --only seeds --runs docs/results/quickstart.json runs/strategies/*

Everything is drawn from fixed seeds: the file is the same on every run with the same versions of numpy and scipy. Parts that
`--only` leaves out stay as they are in the file. The part `seeds` is measured on finished experiments, folders or report.json:
whether transfer and scratch do well with the same seeds; experiments that `--runs` leaves out stay, too.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import stats

from simreal.curve import read_curve
from simreal.diagnostics import Curves, bootstrap_interval, diagnose, power, together
from simreal.diagnostics.curves import area
from simreal.diagnostics.planning import pilot_of
from simreal.diagnostics.statistics import METHODS, is_correlated, mean, mean_difference
from simreal.diagnostics.verdict import decide
from simreal.files import write_text

GRID = np.linspace(0, 60_000, 9)
PARTS = ("verdicts", "power", "families", "pairing", "seeds")
MEASURED = ("seeds",)  # on runs that somebody made


def normal(rng, n):
    return rng.normal(0.0, 1.0, n)


def skewed(rng, n):
    """Gamma with shape 2, skewness 1.4: a tail of lucky seeds."""
    return rng.gamma(2.0, 1.0, n) - 2.0


def bimodal(rng, n):
    """Three of ten seeds end in a worse local optimum."""
    return np.where(rng.random(n) < 0.7, 0.18, -0.42) + rng.normal(0.0, 0.05, n)


def constant(rng, n):
    return np.zeros(n)


def learning_curves(rng, seeds, shift=0.0):
    """Normalized learning curves (seeds, T): a sigmoid that starts at a random time; one seed in ten never learns.

    `shift` is added to every point: the true difference in area against shift 0.
    """
    onset = rng.lognormal(np.log(20_000), 0.35, (seeds, 1))
    plateau = rng.normal(0.95, 0.06, (seeds, 1)) * np.where(rng.random((seeds, 1)) < 0.1, 0.2, 1.0)
    returns = plateau / (1.0 + np.exp((onset - GRID) / 4_000)) + rng.normal(0.0, 0.02, (seeds, GRID.size))
    return Curves(GRID, returns + shift, tuple(range(seeds)))


def coverage(rng, trials):
    """Share of 95 % intervals of a mean difference that contain the true difference, 0."""
    pairs = {
        "normal, normal": (normal, normal),
        "normal, constant": (normal, constant),
        "skewed, constant": (skewed, constant),
        "bimodal, constant": (bimodal, constant),
        "skewed, skewed": (skewed, skewed),
        "skewed, reversed skew": (skewed, lambda rng, n: -skewed(rng, n)),
        "bimodal, bimodal": (bimodal, bimodal),
    }
    rows = []
    for name, draws in pairs.items():
        for n in (5, 10):
            samples = [[draw(rng, n) for draw in draws] for _ in range(trials)]
            for method in METHODS:
                hits = (0.0 in bootstrap_interval(mean_difference, pair, rng, method=method) for pair in samples)
                rows.append({"data": name, "seeds": n, "method": method, "coverage": sum(hits) / trials})
    return rows


def verdicts(rng, trials, shift, seeds, margin):
    """Shares of the four labels for learning curves whose true area difference is `shift`."""
    labels = Counter()
    for _ in range(trials):
        areas = [area(learning_curves(rng, seeds, x)) for x in (shift, 0.0)]
        labels[decide(bootstrap_interval(mean_difference, areas, rng), margin)] += 1
    shares = {label: labels[label] / trials for label in ("positive", "neutral", "negative", "inconclusive")}
    return {"shift": shift, "seeds": seeds, "margin": margin, **shares}


def power_table(rng, trials):
    """Share of labels for a true difference, measured on learning curves and by the formula of simreal.diagnostics.planning."""
    spread = float(area(learning_curves(rng, 100_000)).std())
    rows = []
    for seeds in (5, 8, 10, 15, 20, 30):
        for shift in (0.1, 0.2, 0.3, 0.5):
            found = verdicts(rng, trials, shift, seeds, 0.05)
            formula = float(power(seeds, shift, spread, margin=0.05))
            rows.append({"seeds": seeds, "effect": shift, "simulated": found["positive"], "formula": formula})
    return {"spread": spread, "margin": 0.05, "trials": trials, "cells": rows}


def families(rng, trials, arms=10):
    """Share of experiments with any wrong label when `arms` identical arms are compared with one control arm."""
    rows = []
    for seeds in (5, 10):
        for margin in (0.0, 0.05):
            wrong = Counter()
            for _ in range(trials):
                scratch = learning_curves(rng, seeds)
                alone = [
                    diagnose(
                        learning_curves(rng, seeds), scratch, random_return=0, reference_return=1, margin=margin, rng=rng,
                        resamples=500,
                    )
                    for _ in range(arms)
                ]  # fmt: skip
                for name, found in (("alone", alone), ("together", together(alone).verdicts)):
                    wrong[name] += any(verdict.label in ("positive", "negative") for verdict in found)
            shares = {name: wrong[name] / trials for name in ("alone", "together")}
            rows.append({"arms": arms, "seeds": seeds, "margin": margin, "trials": trials, **shares})
    return rows


def correlated(rng, trials, seeds, correlation):
    """Two arms of the same seeds whose luck is a bivariate normal: shapes by name, (2, trials, seeds) each, of equal means."""
    luck = rng.standard_normal((2, trials, seeds))
    luck[1] = correlation * luck[0] + np.sqrt(1 - correlation**2) * luck[1]
    fails = stats.norm.ppf(0.3)  # three seeds in ten
    return {
        "normal": luck,
        "skewed": stats.gamma.ppf(stats.norm.cdf(luck), 2.0) - 2.0,
        "bimodal": np.where(luck > fails, 0.18, -0.42) + rng.normal(0.0, 0.05, luck.shape),
    }


def pairing(rng, trials):
    """Share of 95 % intervals that contain the true difference, 0, and their median length, for seeds that go together."""
    rows = []
    for n in (5, 10):
        for correlation in (-0.4, 0.0, 0.4, 0.8):
            for name, (left, right) in correlated(rng, trials, n, correlation).items():
                found = {"independent": [], "paired": [], "auto": []}
                for x, y in zip(left, right, strict=True):
                    found["independent"].append(bootstrap_interval(mean_difference, [x, y], rng))
                    found["paired"].append(bootstrap_interval(mean, x - y, rng))
                    found["auto"].append(found["paired" if is_correlated(x, y) else "independent"][-1])
                row = {"data": name, "correlation": correlation, "seeds": n}
                for rule, intervals in found.items():
                    length = float(np.median([one.high - one.low for one in intervals]))
                    hits = sum(0.0 in one for one in intervals)
                    rows.append(row | {"rule": rule, "coverage": hits / trials, "length": length})
    return rows


def areas_of(folder):
    """Raw areas of an arm by seed."""
    found = {}
    for path in sorted(folder.glob("seed-*/curve.csv")):
        rows = read_curve(path)
        curve = Curves([row.env_steps for row in rows], [[row.return_mean for row in rows]], (0,))
        found[int(path.parent.name.removeprefix("seed-"))] = float(area(curve)[0])
    return found


def seeds(places):
    """How the areas of transfer arms and of their control arm go together over the seeds that both have, by target."""
    rows = []
    for place in places:
        for target, arms in sorted(areas_by_arm(place).items()):
            scratch, found = arms.pop("none/scratch"), []
            for areas in arms.values():
                common = [seed for seed in areas if seed in scratch]
                x, y = np.array([areas[one] for one in common]), np.array([scratch[one] for one in common])
                if len(common) >= 5 and x.std() and y.std():
                    found.append((np.corrcoef(x, y)[0, 1], length_ratio(x, y), is_correlated(x, y), len(common)))
            if found:
                r, ratio, together_, n = map(np.array, zip(*found, strict=True))
                rows.append(
                    {
                        "experiment": place.as_posix(), "target": target, "arms": len(r), "seeds": int(n.max()),
                        "mean_correlation": float(r.mean()), "quartiles": np.quantile(r, (0.25, 0.5, 0.75)).tolist(),
                        "paired_by_auto": float(together_.mean()), "length_ratio": float(np.median(ratio)),
                    }
                )  # fmt: skip
    return rows


def areas_by_arm(place):
    """Area of every seed of every arm by target, from an experiment's folder or a report.json."""
    if place.is_file():
        pilot = pilot_of(json.loads(place.read_text(encoding="utf-8")))
        return {
            target: {name: dict(zip(arm.seeds, area(arm), strict=True)) for name, arm in arms.items()}
            for target, arms in pilot.items()
        }
    found = {}
    for folder in sorted((place / "arms").glob("*/*/*")):
        if (place / "arms/none/scratch" / folder.name).is_dir():
            found.setdefault(folder.name, {})[f"{folder.parts[-3]}/{folder.parts[-2]}"] = areas_of(folder)
    return found


def length_ratio(x, y):
    """Student's paired interval over Welch's."""
    n, spread = len(x), [x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)]
    freedom = sum(spread) ** 2 / sum(one**2 / (n - 1) for one in spread)
    welch = stats.t.ppf(0.975, freedom) * np.sqrt(sum(spread))
    return stats.t.ppf(0.975, n - 1) * (x - y).std(ddof=1) / np.sqrt(n) / welch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/verdict_calibration.json"))
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[part for part in PARTS if part not in MEASURED])
    parser.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        default=[],
        help="folders of experiments or their report.json, for the part seeds",
    )
    arguments = parser.parse_args()
    result = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    result |= {"confidence": 0.95, "resamples": 2000}
    if "verdicts" in arguments.only:
        rng = np.random.default_rng(0)
        cells = [(shift, n, margin) for margin in (0.0, 0.05) for n in (5, 10) for shift in (0.0, 0.1, 0.2, 0.3)]
        result["trials"] = arguments.trials
        result["coverage"] = coverage(rng, arguments.trials)
        result["verdicts"] = [verdicts(rng, arguments.trials, *cell) for cell in cells]
    if "power" in arguments.only:
        result["power"] = power_table(np.random.default_rng(1), min(arguments.trials, 1000))
    if "families" in arguments.only:
        result["families"] = families(np.random.default_rng(2), min(arguments.trials, 400))
    if "pairing" in arguments.only:
        result["pairing"] = pairing(np.random.default_rng(3), min(arguments.trials, 2000))
    if "seeds" in arguments.only:
        measured = seeds(arguments.runs)
        kept = [
            row for row in result.get("seeds", []) if row["experiment"] not in {one["experiment"] for one in measured}
        ]
        result["seeds"] = [*measured, *kept]
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    tables = {**result, "power": result.get("power", {}).get("cells", [])}
    names = ("coverage", "verdicts", "power", "families", "pairing", "seeds")
    for row in [row for name in names for row in tables.get(name, [])]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
