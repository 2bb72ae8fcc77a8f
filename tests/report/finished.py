"""A report.json as a finished experiment writes it, with made-up but realistic numbers."""

import numpy as np

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


def way(strategy, source, verdicts, **more):
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


LAYERS = ["normalizer", "encoder.0", "encoder.1", "policy_head", "value_head"]
FIELDS = ["cart_position", "pole_direction"]
# strategy -> how fast its weights move
PACE = {"zero_shot": 0.0, "fine_tune": 0.5, "frozen_encoder": 0.2, "scratch": 1.0}


def _signals(rng, source, strategy, target):
    """Signals over time as results.py writes them; scratch has no origin to compare with, zero_shot is seen once."""
    steps = STEPS if strategy != "zero_shot" else STEPS[:1]
    time = np.asarray(steps) / STEPS[-1]
    moved = PACE[strategy] * (1 - np.exp(-3 * time))
    values = {
        "critic_explained_variance": 0.9 - (3.9 if target == "reversed" else 0.4) * np.exp(-6 * time),
        "policy_std": 1.0 - 0.6 * time,
    }
    values |= {f"normalizer_shift/{field}": 0.4 + 0.3 * i + 0.2 * time for i, field in enumerate(FIELDS)}
    values |= {f"effective_rank/{layer}": 9.0 + 2 * i - 3 * time for i, layer in enumerate(LAYERS[1:3])}
    values |= {f"saturated_units/{layer}": 0.05 + 0.3 * time * (i == 1) for i, layer in enumerate(LAYERS[1:3])}
    if strategy != "scratch":
        values["policy_kl"] = 2 * moved
        values |= {f"drift/{layer}": moved * (0.1 + 0.2 * i) for i, layer in enumerate(LAYERS)}
        values |= {f"cka/{layer}": 1 - moved * (0.3 + 0.3 * i) for i, layer in enumerate(LAYERS[1:3])}
        values["a_distance"] = np.where(time == 0, 1.2, np.nan)
    found, spread = {}, {}
    for name, of in values.items():
        known = [None if np.isnan(v) else round(float(v + rng.normal(0, 1e-3)), 4) for v in of]
        found[name] = known
        spread[name] = [[None if v is None else round(v + side, 4) for v in known] for side in (-0.05, 0.05)]
    named = {"source": source, "strategy": strategy, "target": target}
    return {**named, "env_steps": list(steps), "values": found, "spread": spread}


def _warned(arm):
    """What the early warning said of an arm."""
    sure = {"negative": 0.9, "positive": 0.06, "neutral": 0.3, "inconclusive": 0.45}[arm["verdict"]]
    at = [
        {"percent": percent, "env_steps": 600 * percent, "seeds": 5,
         "p": {"value": p, "low": round(max(p - 0.2, 0), 3), "high": round(min(p + 0.15, 1), 3)}}
        for percent in (0, 5, 10, 20)
        if (p := round(0.5 + (sure - 0.5) * (0.6 + percent / 50), 3)) is not None
    ]  # fmt: skip
    stopped = arm["verdict"] == "negative"
    says = "Stopped 5 of 5 seeds at 5 % of the budget, which saved 285,000 steps." if stopped else ""
    acted = [{"seed": seed, "percent": 5, "p": at[1]["p"]["value"]} for seed in SEEDS] if stopped else []
    return {"at": at, "action": "stop", "acted": acted, "saved_steps": 285_000 * stopped, "says": says}


def _robust(target):
    x = {
        "parameter": "pole/mass",
        "unit": "kg",
        "values": [0.5, 1.0, 1.5, 2.0, 2.5],
        "target": 1.6,
        "source": [0.5, 1.5],
    }
    y = {"parameter": "latency", "unit": "s", "values": [0.0, 0.02, 0.04], "target": 0.02, "source": [0.0, 0.0]}
    arms = []
    for source, strategy, size in (("randomized", "fine_tune", 1.0), ("none", "scratch", 0.8)):
        share = [[size * (1 - 0.15 * i - 0.18 * j) for i in range(5)] for j in range(3)]
        returns, success = (
            [[800 * v for v in row] for row in share],
            [[max(v - 0.2, 0.0) for v in row] for row in share],
        )
        arms.append({"source": source, "strategy": strategy, "returns": returns, "success": success})
    return {"x": x, "y": y, "arms": arms}


def make_whole() -> dict:
    """Return a report with everything that may be in one: signals over time, early warning, a robustness grid."""
    report = make_report()
    rng = np.random.default_rng(3)
    for arm in report["arms"]:
        name = arm["strategy"]
        arm["reasons"] = [
            {"name": "area", "value": 0.2, "says": f"The area of {name} decides.", "points": 0, "strength": 1.0},
            {
                "name": "critic_explained_variance",
                "value": -3.0,
                "says": SAYS["negative"],
                "points": -1,
                "strength": 5.0,
            },
            {
                "name": "normalizer_shift",
                "value": 0.7,
                "says": f"{name}: a field moved.",
                "points": -1,
                "strength": 1.2,
            },
            {"name": "jumpstart", "value": 0.5, "says": f"{name} has a head start.", "points": 1, "strength": 1.1},
            {"name": "censored", "value": 2.0, "says": f"{name} is late.", "points": 0, "strength": 0.4},
            {"name": "not_converged", "value": 0.2, "says": f"{name} still climbs.", "points": 0, "strength": 0.2},
        ]
        arm["early_warning"] = _warned(arm)
    report["signals"] = [
        _signals(rng, *of, target)
        for target in SHAPES
        for of in [("none", "scratch"), *(("randomized", strategy) for strategy in SHAPES[target][1])]
    ]
    report["robustness"] = {target: _robust(target) for target in ("heavy", "reversed")}
    return report


def coloured(node):
    """A figure whose named colours, as ``@positive``, have a value."""
    if isinstance(node, dict):
        return {key: coloured(value) for key, value in node.items()}
    if isinstance(node, list):
        return [coloured(value) for value in node]
    return "#123456" if isinstance(node, str) and node.startswith("@") else node
