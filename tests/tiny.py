"""Experiments of seconds and the command line in real processes, for the tests of the suite's upper half."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simreal.learner import Learning, Target
from simreal_envs.variation import Domain

CONFIG = """
name: tiny
task: cartpole_swingup
seeds: 2
agent: {hidden: [8], num_worlds: 8, hyperparameters: {n_steps: 8, batch_size: 32, n_epochs: 2}}
sources:
  plain: {steps: 128}
targets:
  light: {steps: 192, variation: {pole/mass: 0.8}}
strategies:
  zero_shot: {}
  fine_tune: {lr_scale: 0.5}
evaluation: {points: 3, episodes: 2}
verdict: {min_seeds: 2}
tracking: {wandb: auto}
video: 0
workers: 2
"""
SEVERAL = """
name: several
task: cartpole_swingup
seeds: 2
agent: {hidden: [8], num_worlds: 8, hyperparameters: {n_steps: 8, batch_size: 32, n_epochs: 1}}
sources:
  plain: {steps: 64}
  robust: {steps: 64, variation: {pole/mass: {uniform: [0.8, 1.2]}}, strategy: {type: epopt, fraction: 0.5}}
targets:
  light: {steps: 64, variation: {pole/mass: 0.8}}
  heavy: {steps: 64, variation: {pole/mass: 1.5}}
strategies:
  careful: [weight_average, {critic_warmup: {until: 0.5}}]
  taught: {type: kickstart, teacher: robust}
sequence: [light, heavy]
evaluation: {points: 2, episodes: 1}
verdict: {min_seeds: 2}
tracking: {wandb: disabled}
video: 0
workers: 2
"""
ROLLOUT = 64
CARTPOLE = Domain("cartpole_swingup")
LEARNING = Learning((8,), num_worlds=8, hyperparameters={"n_steps": 8, "batch_size": 32, "n_epochs": 2, "gamma": 0.98})


def target(seed: int = 0, domain: Domain = CARTPOLE) -> Target:
    """Where a strategy begins: a few worlds and a small network."""
    return Target(domain, LEARNING, seed)


def tensors(agent) -> dict[str, np.ndarray]:
    """Every tensor of an agent, to compare bit for bit."""
    return {name: tensor.numpy().copy() for name, tensor in agent.policy.state_dict().items()}


def changed(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> set[str]:
    """Names of the tensors that differ in any bit."""
    assert before.keys() == after.keys()
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def environment(home: Path) -> dict[str, str]:
    """The environment of a user without a W&B account."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**clean, "HOME": str(home), "NETRC": str(home / "netrc"), "COLUMNS": "100"}


def command(*words: object) -> list[str]:
    """The command line `simreal WORDS`."""
    return [sys.executable, "-m", "simreal", *map(str, words)]


def cli(*words: object, cwd: Path, closed: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `simreal WORDS` in a process of its own, without an account and with an empty (or `closed`) stdin."""
    shell = ["sh", "-c", 'exec "$@" <&-', "sh"] if closed else []
    return subprocess.run(
        [*shell, *command(*words)], cwd=cwd, env={**environment(cwd), **more}, text=True, capture_output=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
