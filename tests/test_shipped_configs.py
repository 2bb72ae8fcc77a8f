"""The configs are valid; those of the off-policy algorithms run, in a version of seconds."""

from pathlib import Path

import pytest

from simreal.arms import check
from simreal.config_files import load
from simreal.learner import Learning, Target
from simreal.schedule import Schedule
from simreal.strategies import make_strategy
from simreal.training import train

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


FAMILIES = sorted((CONFIGS / "strategies").glob("*.yaml"))


@pytest.mark.parametrize("path", FAMILIES, ids=[path.stem for path in FAMILIES])
def test_a_family_of_strategies_is_a_valid_experiment_on_the_pairs_that_all_share(path):
    ours, common = load(path), load(CONFIGS / "strategies/fine_tuning.yaml")
    assert path.read_text(encoding="utf-8").startswith("# ") and ours.name == path.stem
    assert check(ours)
    for section in ("task", "seeds", "agent", "targets", "evaluation"):
        assert getattr(ours, section) == getattr(common, section)
    plain = common.sources["randomized"]
    for name, source in ours.sources.items():
        assert name == "plain" or source.model_copy(update={"strategy": None}) == plain


def test_every_config_is_valid():
    for path in CONFIGS.glob("*.yaml"):
        assert check(load(path))
