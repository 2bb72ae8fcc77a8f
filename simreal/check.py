"""The contract of a strategy, as a function that anybody can call on their own: `check_strategy`."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simreal.learner import Learning, Source, Target
from simreal.one_arm import Run
from simreal.schedule import Schedule
from simreal.strategies import STRATEGIES, Strategy, described, make_strategy
from simreal.training import pretrain, train
from simreal_agents.bundle import Agent, load, save
from simreal_envs.variation import Domain, Randomization, Shift, Uniform

SOURCE = Domain("cartpole_swingup", variation=Randomization({"pole/mass": Uniform(0.7, 1.3)}))
OTHER = Domain("cartpole_swingup", variation=Randomization({"pole/mass": Uniform(1.0, 1.6)}))
TARGET = Domain("cartpole_swingup", variation=Shift({"pole/mass": 1.5}))
LEARNING = Learning((8, 8), num_worlds=8, hyperparameters={"n_steps": 8, "batch_size": 32, "n_epochs": 2})
STEPS = 256


class _Killed(Exception):
    """Stands for a run that was killed."""


def check_strategy(
    strategy: Strategy,
    *,
    source: Domain = SOURCE,
    target: Domain = TARGET,
    learning: Learning = LEARNING,
    steps: int = STEPS,
    agent: Agent | None = None,
    teacher: Agent | None = None,
) -> Run:
    """Check that a strategy keeps what the suite relies on; returns its run. Takes seconds.

    It is frozen data that a config can hold; equal arguments give equal bits; a run that was killed and continued gives
    those bits, too; source agents and teacher stay as they are; the agent at the end is a bundle that acts as before.

    Args:
        strategy: with its settings.
        source, target, learning, steps: what it is tried in.
        agent: its source agent; by default one that is pretrained here.
        teacher: likewise.

    Raises:
        AssertionError: with a sentence that says what is wrong.
        UserError: the strategy refuses this algorithm or task.
    """
    _check_data(strategy)
    strategy.require(learning.algorithm)
    tiny = {"learning": learning, "points": 2, "episodes": 1}
    agents = [
        agent or pretrain(source, steps, 0, **tiny),
        pretrain(OTHER if source is SOURCE else source, steps, 1, **tiny),
    ]
    teacher = teacher or agents[0]
    before = [_tensors(one) for one in (*agents, teacher)]
    place = target if strategy.stage == "transfer" else source
    here = Target(place, learning, 0, domains={"one": source, "other": OTHER if source is SOURCE else source})
    if strategy.stage == "transfer":
        sources = tuple(Source(f"source {i}", one, source) for i, one in enumerate(agents))
        here = replace(here, sources=sources if "sources" in strategy.needs else sources[:1], teacher=teacher)
    given = agents[0] if strategy.needs_source else None
    schedule = Schedule(steps, points=3, episodes=1)
    runs = [train(given, here, strategy, schedule) for _ in range(2)]
    _equal(_results(runs[0]), _results(runs[1]), f"{strategy.name} gives other bits when it is run again")
    if strategy.trains:
        continued = _interrupted(given, here, strategy, schedule)
        _equal(_results(runs[0]), _results(continued), f"{strategy.name} gives other bits when it is interrupted")
    for one, state in zip((*agents, teacher), before, strict=True):
        _equal(state, _tensors(one), f"{strategy.name} changed an agent that it was given")
    _check_bundle(strategy, runs[0].agent)
    return runs[0]


def _check_data(strategy: Strategy) -> None:
    name = strategy.name
    assert isinstance(strategy, Strategy) and is_dataclass(strategy), f"{strategy!r} is not a Strategy"
    assert isinstance(strategy.says, str) and strategy.says, f"{name} says nothing about itself"
    assert isinstance(strategy.family, str) and strategy.family, f"{name} belongs to no family"
    assert strategy.stage in ("transfer", "pretrain"), f"{name} is of an unknown stage {strategy.stage!r}"
    for field in fields(strategy):
        try:
            setattr(strategy, field.name, getattr(strategy, field.name))
        except FrozenInstanceError:
            continue
        raise AssertionError(f"{name} can be changed: it must be a frozen dataclass")
    plain = json.loads(json.dumps(described(strategy)))
    parts = plain if isinstance(plain, list) else [plain]
    if all(part["type"] in STRATEGIES for part in parts):
        again = make_strategy(parts)
        assert again == strategy, f"{name} is not what its settings say: {again!r} instead of {strategy!r}"


def _interrupted(agent: Agent | None, target: Target, strategy: Strategy, schedule: Schedule) -> Run:
    """A run that was stopped at half of its budget and continued from what it had written down."""

    def stop(fraction: float, text: str) -> None:
        if fraction >= 0.5:
            raise _Killed

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(_Killed):
            train(agent, target, strategy, schedule, report=stop, checkpoints=folder)
        run = train(agent, target, strategy, schedule, checkpoints=folder)
    assert "continued" in run.note, f"{strategy.name} was not continued but {run.note or 'began afresh'}"
    return run


def _check_bundle(strategy: Strategy, agent: Agent) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(save(agent, Path(folder) / "agent"))
    _equal(_tensors(agent), _tensors(loaded), f"the bundle of {strategy.name} holds other weights")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, agent.policy.layout.size)).astype(np.float32)
    same = np.array_equal(agent.policy.act(rows), loaded.policy.act(rows))
    assert same, f"the agent of {strategy.name} acts otherwise when it is loaded from its bundle"


def _tensors(agent: Agent) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in agent.policy.state_dict().items()}


def _results(run: Run) -> dict[str, Any]:
    rows = [replace(row, wall_s=0.0) for row in run.curve]
    return {**_tensors(run.agent), "curve": rows, "evidence": run.evidence}


def _equal(one: Mapping[str, Any], other: Mapping[str, Any], sentence: str) -> None:
    differing = sorted(name for name in {**one, **other} if repr(one.get(name)) != repr(other.get(name)))
    assert not differing, f"{sentence} ({', '.join(differing[:3])})"
