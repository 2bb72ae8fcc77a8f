"""Agents in grid games: what small grids are seen with, moving an agent from game to game, and the shipped experiment."""

from pathlib import Path

import numpy as np
import pytest
import tiny

from simreal.arms import check
from simreal.config_files import load
from simreal.learner import Learning, Target
from simreal.schedule import Schedule
from simreal.strategies import make_strategy
from simreal.training import pretrain, train
from simreal.video import Panel, film
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

CONFIG = Path(__file__).parents[3] / "configs/games/grid_quick.yaml"
CATCH = Domain("grid_catch", variation={"wind": 0.3})
LEARNING = {
    "ppo": Learning((8,), num_worlds=8, hyperparameters={"n_steps": 8, "batch_size": 32, "n_epochs": 1}),
    "dqn": Learning(
        (8,), num_worlds=8, algorithm="dqn",
        hyperparameters={"buffer_size": 200, "learning_starts": 24, "batch_size": 16, "gradient_steps": 1},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(LEARNING))
def agent(request):
    return pretrain(CATCH, 128, 0, learning=LEARNING[request.param], points=2, episodes=1)


def test_a_grid_is_seen_with_one_small_convolution(agent):
    (kernel,) = [w for name, w in agent.policy.state_dict().items() if w.ndim == 4 and "target" not in name]
    assert tuple(kernel.shape) == (16, 6, 3, 3)


def test_an_agent_of_one_game_plays_and_goes_on_learning_in_every_other(agent):
    for game in ("grid_breaker", "grid_dodge", "grid_invaders"):
        worlds = make(Domain(game), 3)
        actions = agent.act(worlds.reset()[0], deterministic=True)
        assert actions.shape == (3,) and worlds.step(actions)[0] in worlds.observation_space
    target = Target(Domain("grid_invaders"), LEARNING[agent.algorithm], 1)
    before = tiny.tensors(agent)
    for name in ("zero_shot", "fine_tune", "frozen_encoder"):
        run = train(agent, target, make_strategy(name), Schedule(128, points=2, episodes=1))
        changed = tiny.changed(before, tiny.tensors(run.agent))
        assert bool(changed) == (name != "zero_shot")
        assert name != "frozen_encoder" or not any(part.startswith("encoder") for part in changed)


def test_a_film_shows_the_game(agent, tmp_path):
    panels = [Panel("catch", agent, CATCH), Panel("random", None, Domain("grid_dodge"))]
    assert film(panels, tmp_path / "a.mp4", seconds=0.3, size=(200, 200)).stat().st_size > 1000


def test_the_quick_experiment_is_valid_and_its_targets_differ_from_the_source_in_one_thing():
    experiment = load(CONFIG)
    domains = {name: domain for (_, name), domain in check(experiment).items()}
    assert len(experiment.seeds) == 5 and {d.task for d in domains.values()} == {"grid_catch"}
    varied = {name: [v.parameter.name for v in domain.resolve()] for name, domain in domains.items()}
    assert varied == {"calm": [], "windy": ["wind"], "reversed": ["reward/sign"]}


@pytest.mark.slow
def test_ppo_learns_to_catch():
    learning = Learning.of(load(CONFIG).agent)
    agent = pretrain(Domain("grid_catch"), 30_000, 0, learning=learning, points=2, episodes=32)
    first, last = (point["return_mean"] for point in (agent.card["returns"][0], agent.card["returns"][-1]))
    assert first < 0 and last > 4 and np.isfinite(last)
