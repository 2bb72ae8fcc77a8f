"""Learning curves of our learners beside Stable-Baselines3's: same worlds, network, hyperparameters and seeds.

    python scripts/measure_learning.py [--json docs/results/learning.json] [--html learning.html]

Returns are those of training episodes, averaged over the last 100 at every point. With five seeds half an hour on one core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
import torch
from bench_common import say
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from simreal.files import write_text
from simreal_agents.algorithms import find_algorithm
from simreal_agents.vecenv import SB3Worlds
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

POINTS = 20
OURS, STOCK = "simreal", "Stable-Baselines3"
ACTIVATIONS = {"tanh": torch.nn.Tanh, "elu": torch.nn.ELU, "relu": torch.nn.ReLU}


@dataclass(frozen=True)
class Case:
    """What both learn, and how."""

    task: str
    algorithm: str
    steps: int
    num_worlds: int
    hidden: tuple[int, ...]
    activation: str
    settings: dict[str, Any]
    network: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case(
        "cartpole_swingup", "ppo", 200_000, 64, (64, 64), "tanh",
        {"n_steps": 16, "batch_size": 256, "n_epochs": 8, "learning_rate": 1e-3, "gamma": 0.98},
        {"log_std_init": -0.5},
    ),
    Case(
        "halfcheetah", "ppo", 300_000, 64, (128, 64), "elu",
        {"n_steps": 32, "batch_size": 512, "n_epochs": 5, "learning_rate": 1e-3, "gamma": 0.99},
        {"log_std_init": -1.0},
    ),
    Case(
        "quadruped", "ppo", 400_000, 64, (128, 64), "elu",
        {"n_steps": 32, "batch_size": 512, "n_epochs": 5, "learning_rate": 1e-3, "gamma": 0.99},
        {"log_std_init": -1.0},
    ),
    Case(
        "pendulum_swingup", "sac", 12_000, 4, (64, 64), "relu",
        {"learning_starts": 1000, "gradient_steps": -1, "learning_rate": 1e-3, "gamma": 0.99, "batch_size": 256},
    ),
)  # fmt: skip


class Curve(BaseCallback):
    """Mean return of the last 100 training episodes at evenly spaced steps."""

    def __init__(self, steps: int):
        super().__init__()
        self.every, self.rows = steps / POINTS, []

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.every * (len(self.rows) + 1):
            episodes = self.model.ep_info_buffer
            self.rows.append(float(np.mean([e["r"] for e in episodes])) if episodes else None)
        return True


def ours(case: Case, seed: int) -> Any:
    """Our learner, which normalizes observations (and PPO rewards) itself."""
    kind = find_algorithm(case.algorithm)
    network = {"hidden": list(case.hidden), "activation": case.activation, **case.network}
    worlds = make(Domain(case.task), case.num_worlds, seed)
    return kind(kind.policy_class_, worlds, seed=seed, policy_kwargs=network, **case.settings)


def stock(case: Case, seed: int) -> Any:
    """SB3's learner on our worlds, with its own way of normalizing."""
    kind = getattr(stable_baselines3, case.algorithm.upper())
    network = {"net_arch": list(case.hidden), "activation_fn": ACTIVATIONS[case.activation], **case.network}
    envs = VecMonitor(SB3Worlds(make(Domain(case.task), case.num_worlds, seed)))
    envs = VecNormalize(envs, norm_reward=case.algorithm == "ppo", gamma=case.settings["gamma"])
    return kind("MlpPolicy", envs, seed=seed, device="cpu", policy_kwargs=network, **case.settings)


def measure(case: Case, seeds: int) -> dict[str, Any]:
    """Curves ``(seeds, POINTS)`` and seconds of processor time of both."""
    found: dict[str, Any] = {}
    for name, build in ((OURS, ours), (STOCK, stock)):
        curves, seconds = [], []
        for seed in range(seeds):
            learner, curve = build(case, seed), Curve(case.steps)
            start = time.process_time()
            learner.learn(case.steps, callback=curve, log_interval=None)
            seconds.append(time.process_time() - start)
            learner.env.close()
            curves.append(curve.rows[:POINTS])
            say(f"  {case.task} {case.algorithm} {name} seed {seed}: {curve.rows[-1]:.1f}, {seconds[-1]:.0f} CPU-s")
        found[name] = {"returns": curves, "cpu_s": seconds}
    steps = [round(case.steps * (i + 1) / POINTS) for i in range(POINTS)]
    return {"task": case.task, "algorithm": case.algorithm, "steps": steps, "settings": case.settings, **found}


def draw(results: list[dict[str, Any]]) -> str:
    """A page with one chart per case: every seed, and the mean."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{r['algorithm'].upper()} on {r['task']}" for r in results]
    figure = make_subplots(1, len(results), subplot_titles=titles)
    for column, result in enumerate(results, 1):
        for name, color in ((OURS, "#0072B2"), (STOCK, "#D55E00")):
            curves = np.array(result[name]["returns"], dtype=float)
            look = {"x": result["steps"], "mode": "lines", "legendgroup": name}
            for curve in curves:
                thin = {"color": color, "width": 1}
                figure.add_trace(go.Scatter(y=curve, line=thin, opacity=0.35, showlegend=False, **look), 1, column)
            thick = {"color": color, "width": 3}
            figure.add_trace(
                go.Scatter(y=curves.mean(axis=0), name=name, line=thick, showlegend=column == 1, **look), 1, column
            )
        figure.update_xaxes(title_text="environment steps", row=1, col=column)
    figure.update_yaxes(title_text="return of training episodes", col=1)
    figure.update_layout(
        template="plotly_white", width=1200, height=380, margin_t=40, legend={"orientation": "h", "y": -0.2}
    )
    return figure.to_html(include_plotlyjs=True, config={"displayModeBar": False})


def main() -> None:
    import json

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=[case.task for case in CASES])
    parser.add_argument("--json", type=Path, help="write the curves to this file")
    parser.add_argument("--html", type=Path, help="draw them on this page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(case, arguments.seeds) for case in CASES if not arguments.tasks or case.task in arguments.tasks]
    if arguments.json:
        write_text(
            arguments.json, json.dumps({"command": "python scripts/measure_learning.py", "cases": results}) + "\n"
        )
    if arguments.html:
        write_text(arguments.html, draw(results))


if __name__ == "__main__":
    main()
