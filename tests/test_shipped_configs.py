"""The configs of the off-policy algorithms run, in a version of seconds."""

from pathlib import Path

import pytest

from simreal.config import load
from simreal.experiment import check
from simreal.learner import Learning, Target
from simreal.strategies import make_strategy
from simreal.training import Schedule, train

CONFIGS = Path(__file__).parents[1] / "configs"
TINY = [
    "agent.hidden=[8, 8]", "agent.num_worlds=4", "agent.hyperparameters.learning_starts=16",
    "agent.hyperparameters.batch_size=16", "agent.hyperparameters.gradient_steps=1",
]  # fmt: skip


@pytest.mark.parametrize(("name", "algorithm"), [("pendulum_sac", "sac"), ("cartpole_dqn", "dqn")])
def test_a_shipped_config_pretrains_and_moves_its_agent_with_every_strategy(name, algorithm):
    experiment = load(CONFIGS / f"{name}.yaml", TINY)
    domains, learning, schedule = check(experiment), Learning.of(experiment.agent), Schedule(64, points=2, episodes=1)
    assert learning.algorithm == algorithm
    source = next(domain for (kind, _), domain in domains.items() if kind == "sources")
    agent = train(None, Target(source, learning, 0), make_strategy("scratch"), schedule).agent
    for (kind, _), domain in domains.items():
        for given in experiment.strategies.values() if kind == "targets" else ():
            run = train(agent, Target(domain, learning, 1), make_strategy(given.type, given.settings), schedule)
            assert run.curve[-1].env_steps == 64 and run.agent.algorithm == algorithm
