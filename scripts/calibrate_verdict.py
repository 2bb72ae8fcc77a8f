"""Measure how often intervals cover the truth, how often verdicts are wrong, and their power; for docs/verdict.md.

    python scripts/calibrate_verdict.py [--out docs/results/verdict_calibration.json] [--trials 4000] [--only power families]

Everything is drawn from fixed seeds: the file is the same on every run with the same versions of numpy and scipy. Parts that
`--only` leaves out stay as they are in the file.
"""

import argparse
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np

from simreal.diagnostics import Curves, bootstrap_interval, diagnose, power, together
from simreal.diagnostics.curves import area
from simreal.diagnostics.statistics import METHODS, mean_difference
from simreal.diagnostics.verdict import decide

GRID = np.linspace(0, 60_000, 9)
PARTS = ("verdicts", "power", "families")


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/verdict_calibration.json"))
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    result = {"confidence": 0.95, "resamples": 2000, "trials": arguments.trials}
    if set(arguments.only) < set(PARTS):
        result = json.loads(arguments.out.read_text())
    if "verdicts" in arguments.only:
        rng = np.random.default_rng(0)
        cells = [(shift, n, margin) for margin in (0.0, 0.05) for n in (5, 10) for shift in (0.0, 0.1, 0.2, 0.3)]
        result["coverage"] = coverage(rng, arguments.trials)
        result["verdicts"] = [verdicts(rng, arguments.trials, *cell) for cell in cells]
    if "power" in arguments.only:
        result["power"] = power_table(np.random.default_rng(1), min(arguments.trials, 1000))
    if "families" in arguments.only:
        result["families"] = families(np.random.default_rng(2), min(arguments.trials, 400))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = arguments.out.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(temporary, arguments.out)
    for row in [*result["coverage"], *result["verdicts"], *result["power"]["cells"], *result["families"]]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
