"""A finished experiment as a tracker meets it: ledgers, a config and a report, without a simulator."""

import json

import pytest

from simreal.tracking import Ledger

STEPS = (0, 100, 200)


def arm(strategy, verdict, value, **more):
    reasons = [
        {"name": "critic", "value": -0.4, "says": f"{strategy}: the critic is wrong.", "points": -1, "strength": 2.0},
        {"name": "shift", "value": 1.5, "says": "The cart moved.", "points": 0, "strength": 1.0},
    ]
    return {
        "source": "randomized", "strategy": strategy, "target": "heavy", "seeds": [0, 1], "verdict": verdict,
        "area": {"value": value, "low": value - 0.1, "high": value + 0.1}, "time_to_threshold": None, "reasons": reasons, **more,
    }  # fmt: skip


def write_ledger(path, steps=STEPS, factor=1.0):
    """What an arm leaves: an evaluation with a signal at every step, and a summary."""
    ledger = Ledger(path)
    for step in steps:
        ledger.log(
            step,
            {"eval/return_mean": float(factor * step), "eval/success_rate": 0.5, "signals/cka/trunk": 1 - step / 1000},
        )
    ledger.summary({"return_mean": factor * steps[-1]})
    ledger.close()


@pytest.fixture
def experiment(tmp_path):
    """Its folder and its report: two arms and the control arm on one target, two seeds each, from one source."""
    out = tmp_path / "out"
    warning = {
        "at": [
            {"percent": 0, "env_steps": 0, "p": {"value": 0.6, "low": 0.4, "high": 0.8}, "seeds": 2},
            {"percent": 5, "env_steps": 10, "p": {"value": 0.95, "low": 0.9, "high": 0.99}, "seeds": 2},
        ],
        "action": "stop", "acted": [{"seed": 1, "percent": 5, "p": 0.96}], "saved_steps": 190, "says": "Seed 1 was stopped at 5 %.",
    }  # fmt: skip
    arms = [arm("fine_tune", "positive", 0.3), arm("frozen_encoder", "negative", -0.2, early_warning=warning)]
    keys = [("none", "scratch"), ("randomized", "fine_tune"), ("randomized", "frozen_encoder")]
    curves = []
    for number, (source, strategy) in enumerate(keys):
        for seed in (0, 1):
            write_ledger(
                out / "arms" / source / strategy / "heavy" / f"seed-{seed}" / "metrics.jsonl", factor=number + seed
            )
            curve = {"env_steps": list(STEPS), "return_mean": [float((number + seed) * step) for step in STEPS]}
            curves.append({"source": source, "strategy": strategy, "target": "heavy", "seed": seed, **curve})
    for seed in (0, 1):
        write_ledger(out / "agents/randomized" / f"seed-{seed}" / "metrics.jsonl")
    (out / "config.yaml").write_text("name: quick\nagent: {learning_rate: 0.001}\n")
    (out / "manifest.json").write_text(json.dumps({"starts": ["2026-01-01T00:00:00+00:00"]}))
    (out / "report.html").write_text("<!doctype html><p>the report</p>")
    (out / "videos/heavy").mkdir(parents=True)
    (out / "videos/heavy/video.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")

    def varied(name, nominal, low, high):
        return {
            "name": name,
            "unit": "kg",
            "nominal": nominal,
            "low": low,
            "high": high,
            "text": "",
            "support": "exact",
        }

    about = {"task": "cartpole_swingup", "engine": "mujoco", "preset": "matched", "steps": 200}
    report = {
        "format": 1, "experiment": "quick", "arms": arms, "curves": curves[2:] + curves[:2],
        "sources": {"randomized": {**about, "parameters": [varied("pole/mass", 1.0, 0.6, 1.4)]}},
        "targets": {"heavy": {**about, "parameters": [varied("pole/mass", 1.0, 1.8, 1.8), varied("cart/mass", 2.0, 2.0, 2.0)]}},
        "robustness": {"heavy": {
            "x": {"parameter": "pole/mass", "unit": "kg", "values": [1.0, 2.0]}, "y": None,
            "arms": [{"source": "none", "strategy": "scratch", "returns": [[5.0, 4.0]], "success": [[1.0, 0.5]]}],
        }},
        "signals": [{
            "source": "randomized", "strategy": "fine_tune", "target": "heavy", "env_steps": [0, 100],
            "values": {"policy_kl": [0.0, 0.5], "cka/trunk": [1.0, None]},
            "spread": {"policy_kl": [[0.0, 0.4], [0.0, 0.6]], "cka/trunk": [[1.0, None], [1.0, None]]},
        }],
    }  # fmt: skip
    return out, report
