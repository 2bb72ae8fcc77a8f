"""A report.json as a finished experiment writes it, with made-up but realistic numbers."""

import numpy as np
import pytest

SEEDS = [0, 1, 2, 3, 4]
STEPS = [0, 7_500, 15_000, 22_500, 30_000, 37_500, 45_000, 52_500, 60_000]
# target -> (scratch's time constant, {strategy: (start, end, time constant)}) as shares of a best return of 800
SHAPES = {
    "heavy": (
        0.35,
        {"zero_shot": (0.55, 0.55, 1), "fine_tune": (0.55, 0.97, 0.12), "frozen_encoder": (0.55, 0.8, 0.3)},
    ),
    "reversed": (
        0.3,
        {"zero_shot": (-0.1, -0.1, 1), "fine_tune": (-0.1, 0.7, 0.5), "frozen_encoder": (-0.1, 0.3, 0.6)},
    ),
    "engine_default": (
        0.3,
        {"zero_shot": (0.9, 0.9, 1), "fine_tune": (0.9, 0.96, 0.3), "frozen_encoder": (0.9, 0.93, 0.5)},
    ),
}
VERDICTS = {
    "heavy": {"zero_shot": ("neutral", 0.01), "fine_tune": ("positive", 0.31), "frozen_encoder": ("positive", 0.14)},
    "reversed": {
        "zero_shot": ("negative", -0.66),
        "fine_tune": ("negative", -0.28),
        "frozen_encoder": ("negative", -0.47),
    },
    "engine_default": {
        "zero_shot": ("positive", 0.27),
        "fine_tune": ("positive", 0.29),
        "frozen_encoder": ("inconclusive", 0.08),
    },
}
SAYS = {
    "positive": "The source policy earns 0.55 of the reference before its first update, scratch 0.02.",
    "neutral": "The interval of the area effect lies inside the margin of ±0.05.",
    "negative": "The source critic is wrong on the target (explained variance -0.41): first updates follow noise.",
    "inconclusive": "The interval of the area effect crosses the margin of +0.05: more seeds would decide.",
}


def effect(value, half=0.08):
    return {"value": value, "low": value - half, "high": value + half}


def _curve(rng, source, strategy, target, seed, start, end, constant):
    time = np.asarray(STEPS) / STEPS[-1]
    share = end - (end - start) * np.exp(-time / constant)
    share = np.full_like(time, start) if strategy == "zero_shot" else share
    returns = 800 * share + rng.normal(0, 28, len(STEPS)) * (strategy != "zero_shot") + rng.normal(0, 20)
    return {
        "source": source,
        "strategy": strategy,
        "target": target,
        "seed": seed,
        "env_steps": STEPS,
        "return_mean": returns.tolist(),
        "stochastic_return_mean": (0.93 * returns - 12).tolist(),
        "success_rate": np.clip(returns / 800, 0, 1).round(2).tolist(),
    }


def _arm(target, strategy, verdict, area):
    start, end, _ = SHAPES[target][1][strategy]
    reasons = [
        {"name": "zero_shot_return", "value": start, "says": SAYS[verdict]},
        {
            "name": "policy_std",
            "value": 0.21,
            "says": "Exploration is narrow: the policy's standard deviation is 0.21.",
        },
    ]
    return {
        "source": "randomized",
        "strategy": strategy,
        "target": target,
        "seeds": SEEDS,
        "verdict": verdict,
        "area": effect(area, 0.14 if verdict == "inconclusive" else 0.04 if verdict == "neutral" else 0.09),
        "jumpstart": effect(start - 0.02, 0.06),
        "asymptotic": effect(end - 0.95, 0.05),
        "time_to_threshold": {"value": 14_200.0, "low": 9_800.0, "high": 21_000.0} if verdict == "positive" else None,
        "transfer_ratio": effect(area / 0.62, 0.2),
        "forgetting": effect(0.12, 0.05) if strategy == "fine_tune" else None,
        "final_return": effect(end, 0.05),
        "final_return_raw": effect(800 * end, 35.0),
        "probability_of_improvement": 0.96 if area > 0.1 else 0.2,
        "reasons": reasons,
    }


def _parameter(name, unit, nominal, low, high, text, support="exact"):
    return {"name": name, "unit": unit, "nominal": nominal, "low": low, "high": high, "text": text, "support": support}


def _domain(engine, steps, *parameters, preset="matched", **more):
    return {
        "task": "cartpole_swingup",
        "engine": engine,
        "preset": preset,
        "steps": steps,
        "parameters": list(parameters),
        **more,
    }


def make_report() -> dict:
    """Return the dict of a report.json with three targets, three strategies and five seeds."""
    rng = np.random.default_rng(7)
    curves = []
    for target, (constant, shapes) in SHAPES.items():
        for seed in SEEDS:
            curves.append(_curve(rng, "none", "scratch", target, seed, 0.02, 0.95, constant))
            curves += [_curve(rng, "randomized", s, target, seed, *shape) for s, shape in shapes.items()]
    config = "name: quickstart\ntask: cartpole_swingup\nseeds: 5\nverdict: {margin: 0.05, min_seeds: 5}\n"
    return {
        "format": 1,
        "experiment": "quickstart",
        "arms": [_arm(t, s, *of) for t, arms in VERDICTS.items() for s, of in arms.items()],
        "scratch": {
            t: {"final_return": effect(0.95, 0.03), "final_return_raw": effect(761.0, 22.0), "area": effect(0.62)}
            for t in SHAPES
        },
        "normalization": {target: {"random": 6.2, "reference": 802.4} for target in SHAPES},
        "budget": {
            "target_steps": dict.fromkeys(SHAPES, 60_000),
            "source_steps": {"randomized": 200_000},
            "evaluation_episodes": 20,
            "seeds": 5,
        },
        "curves": curves,
        "sources": {
            "randomized": _domain(
                "mujoco",
                200_000,
                _parameter("pole/mass", "kg", 1.0, 0.5, 1.5, "uniform 0.5 to 1.5"),
                _parameter("slider/damping", "N s/m", 0.1, 0.05, 0.5, "log-uniform 0.05 to 0.5"),
                _parameter("actuator/strength", "", 1.0, 0.8, 1.2, "uniform 0.8 to 1.2"),
                final_return=[790.1, 781.4, 802.9, 768.8, 795.0],
            )
        },
        "targets": {
            "heavy": _domain(
                "bullet",
                60_000,
                _parameter("pole/mass", "kg", 1.0, 1.6, 1.6, "1.6"),
                _parameter("latency", "s", 0.0, 0.02, 0.02, "0.02"),
            ),
            "reversed": _domain("mujoco", 60_000, _parameter("actuator/strength", "", 1.0, -1.0, -1.0, "-1")),
            "engine_default": _domain(
                "bullet",
                60_000,
                _parameter("slider/damping", "N s/m", 0.1, 0.2, 0.2, "0.2", "approximate"),
                preset="engine_default",
            ),
        },
        "settings": {
            "margin": 0.05,
            "confidence": 0.95,
            "min_seeds": 5,
            "algorithm": "ppo",
            "hidden": [64, 64],
            "hyperparameters": {"learning_rate": 0.001, "n_steps": 32, "gamma": 0.99, "clip_range": 0.2},
        },
        "reproduce": {"command": "simreal run configs/quickstart.yaml", "config": config},
        "manifest": {
            "versions": {"simreal": "0.1.0", "mujoco": "4.0.0", "pybullet": "3.2.7", "torch": "2.13.0+cpu"},
            "machine": {"cpus": 2, "platform": "Linux-6.1-x86_64", "memory_gib": 7.8},
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "started": "2026-11-21T09:30:00Z",
            "wall_s": 331.4,
        },
    }


@pytest.fixture
def report():
    """A finished experiment's report."""
    return make_report()


def _way(strategy, source, verdicts, **more):
    steps = [
        {
            **_arm("heavy", "fine_tune", verdict, 0.2), "step": place, "target": target,
            "forward_transfer": effect(0.3), "lost_at_the_end": effect(0.1 * (place == 1)),
        }
        for place, (target, verdict) in enumerate(zip(("heavy", "reversed"), verdicts, strict=True), start=1)
    ]  # fmt: skip
    means = {
        "accuracy": 0.65,
        "backward_transfer": -0.41,
        "zero_shot_transfer": 0.07,
        "forward_transfer": 0.33,
        "forgetting": 0.21,
    }
    named = {"source": source, "strategy": strategy, "seeds": SEEDS, **more}
    return {**named, **{k: effect(v) for k, v in means.items()}, "returns": [[0.91, 0.12], [0.5, 0.8]], "steps": steps}


@pytest.fixture
def richer(report):
    """A report with several sources, a teacher, a combination, a pretraining strategy and a sequence."""
    report["arms"][0] |= {"source": "randomized+plain", "teacher": "wise"}
    report["sources"]["plain"] = {**report["sources"]["randomized"], "strategy": "epopt (fraction 0.1)"}
    report["strategies"] = {"scratch": "scratch", "fine_tune": "layerwise_lr + l2sp (alpha 0.1)"}
    ways = [
        _way("fine_tune", "randomized", ("positive", "negative")),
        _way("fine_tune", "randomized+plain", ("neutral", "inconclusive"), teacher="wise"),
    ]
    report["sequence"] = {"targets": ["heavy", "reversed"], "ways": ways}
    return report
