import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.schedule import Schedule
from simreal.training import train
from simreal_envs.errors import UserError

SCHEDULE = Schedule(192, points=3, episodes=2)


@pytest.fixture(scope="module")
def source():
    """A pretrained agent."""
    return sr.pretrain(tiny.CARTPOLE, 128, learning=tiny.LEARNING, points=2, episodes=2)


class Notes:
    """A tracker that remembers."""

    def __init__(self):
        self.logged, self.facts = [], {}

    def log(self, step, metrics):
        self.logged.append((step, dict(metrics)))

    def summary(self, mapping):
        self.facts |= mapping


@pytest.mark.parametrize("schedule", [Schedule(256, points=9, episodes=1), Schedule(200, points=3, episodes=1)])
def test_every_strategy_is_evaluated_on_the_same_grid(source, schedule):
    grids = {
        tuple(row.env_steps for row in train(source, tiny.target(), strategy, schedule).curve)
        for strategy in (sr.Scratch(), sr.ZeroShot(), sr.FineTune(), sr.FrozenEncoder(thaw_at=0.5))
    }
    assert grids == {tuple(schedule.grid(tiny.ROLLOUT))}


def test_row_0_is_before_any_update(source):
    first = train(source, tiny.target(), sr.FineTune(), SCHEDULE).curve[0]
    untouched = sr.evaluate(source, tiny.CARTPOLE, episodes=2)
    assert first.env_steps == 0
    assert first.return_mean == untouched.returns.mean()
    assert first.return_std == untouched.returns.std(ddof=1)


def test_equal_arguments_give_equal_bits_whatever_the_global_state(source):
    runs = []
    for seed in (1, 2):
        np.random.seed(seed)
        torch.manual_seed(seed)
        runs.append(train(source, tiny.target(seed=5), sr.FineTune(), SCHEDULE))
    assert not tiny.changed(tiny.tensors(runs[0].agent), tiny.tensors(runs[1].agent))
    assert [replace(row, wall_s=0) for row in runs[0].curve] == [replace(row, wall_s=0) for row in runs[1].curve]
    assert runs[0].evidence == runs[1].evidence
    other = train(source, tiny.target(seed=6), sr.FineTune(), SCHEDULE)
    assert tiny.changed(tiny.tensors(runs[0].agent), tiny.tensors(other.agent))


def test_training_leaves_global_random_state_and_thread_count_alone(source):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    train(source, tiny.target(), sr.FineTune(), SCHEDULE)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == torch.get_num_threads()


def test_a_transfer_does_not_change_its_source_agent(source):
    before = tiny.tensors(source)
    train(source, tiny.target(), sr.FineTune(), SCHEDULE)
    assert not tiny.changed(before, tiny.tensors(source))


def test_forgetting_is_measured_where_the_source_is_given(source):
    assert "source_return_after" not in train(source, tiny.target(), sr.FineTune(), SCHEDULE).evidence
    evidence = train(source, tiny.target(), sr.FineTune(), SCHEDULE, source=tiny.CARTPOLE).evidence
    assert evidence["source_return_before"] == sr.evaluate(source, tiny.CARTPOLE, episodes=2).returns.mean()
    assert evidence["source_return_before"] != evidence["source_return_after"]
    assert evidence["end"]["policy_kl"] > 0


def test_the_tracker_gets_every_evaluation_with_the_learners_figures(source):
    notes = Notes()
    run = train(source, tiny.target(), sr.FineTune(), SCHEDULE, tracker=notes)
    assert [step for step, _ in notes.logged] == [0, 128, 192]
    assert [metrics["eval/return_mean"] for _, metrics in notes.logged] == [row.return_mean for row in run.curve]
    assert "train/approx_kl" in notes.logged[-1][1]
    assert all(math.isfinite(value) for _, metrics in notes.logged for value in metrics.values())
    assert notes.facts["diverged"] == 0 and "evidence/policy_std" in notes.facts


def test_progress_rises_from_0_to_1(source):
    shares = []
    train(source, tiny.target(), sr.FineTune(), SCHEDULE, report=lambda share, text: shares.append(share))
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)


def test_the_card_says_where_the_agent_comes_from(source):
    card = train(source, tiny.target(seed=3), sr.FineTune(lr_scale=0.5), SCHEDULE).agent.card
    assert card["domain"] == tiny.CARTPOLE.to_dict()
    assert card["strategy"] == {"name": "fine_tune", "lr_scale": 0.5, "normalizer": "blend", "prior": None}
    assert (card["seed"], card["steps"], len(card["returns"])) == (3, 192, 3)
    assert "wall_s" not in card["returns"][0]


@pytest.mark.parametrize("seed", [-1, 2**31, 0.5, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(UserError, match="a seed must be a whole number from 0"):
        tiny.target(seed=seed)


def test_a_strategy_that_needs_a_source_says_so():
    with pytest.raises(UserError, match="fine_tune needs a source agent"):
        train(None, tiny.target(), sr.FineTune(), SCHEDULE)


def test_an_agent_of_another_task_is_refused(source):
    with pytest.raises(UserError, match="observation fields"):
        train(source, tiny.target(domain=sr.Domain("quadruped")), sr.FineTune(), SCHEDULE)


def test_a_verb_says_what_it_is_to_be_given(source):
    home, tiny_run = tiny.CARTPOLE, {"learning": tiny.LEARNING, "points": 2, "episodes": 1}
    strategy, domain, agent = "the strategy must be what", "the domain must be what", "agent must be what"
    for verb, says in (
        (lambda: sr.transfer(source, home, "fine_tune", 64), strategy),
        (lambda: sr.transfer(source, home, sr.FineTune, 64), strategy),
        (lambda: sr.pretrain(home, 64, strategy="epopt"), strategy),
        (lambda: sr.transfer("runs/agent", home, sr.FineTune(), 64), agent),
        (lambda: sr.transfer(source, "cartpole_swingup", sr.FineTune(), 64), domain),
        (lambda: sr.pretrain("cartpole_swingup", 64), domain),
        (lambda: sr.pretrain(home, 64, learning="ppo"), "learning must be what"),
        (lambda: sr.pretrain(home, "64"), "steps must be a whole number of at least 1, not '64'"),
        (lambda: sr.pretrain(home, float("inf")), "steps must be a whole number of at least 1, not inf"),
        (lambda: sr.evaluate("runs/agent", home), agent),
        (lambda: sr.evaluate(source, "cartpole_swingup"), domain),
        (lambda: sr.sweep(source, "cartpole_swingup", {"pole/mass": [1]}), domain),
        (lambda: sr.examine(source, "cartpole_swingup"), domain),
        (lambda: sr.record(None, "cartpole_swingup", 8, 0), domain),
        (lambda: sr.make("cartpole_swingup"), domain),
        (lambda: sr.diagnose(source, scratch=[]), "runs must be a list of what"),
    ):
        with pytest.raises(UserError, match=says):
            verb()
    control = sr.transfer(None, home, sr.Scratch(), 64, **tiny_run)  # takes no agent
    assert repr(control).startswith("Run(Scratch(), task='cartpole_swingup', seed=0, steps=64, return_mean=")
    with pytest.raises(UserError, match="the strategy fine_tune needs a source agent"):
        sr.transfer(None, home, sr.FineTune(), 64, **tiny_run)


def test_that_an_agent_keeps_its_own_network_is_said(source, caplog):
    def moved(strategy, learning):
        caplog.clear()
        sr.transfer(source, tiny.CARTPOLE, strategy, 64, learning=learning, points=2, episodes=1)
        return caplog.text

    wider = replace(tiny.LEARNING, hidden=(9, 9), activation="relu")
    own = f"hidden {list(tiny.LEARNING.hidden)}, activation {tiny.LEARNING.activation}"
    said = f"the agent keeps its own network ({own}); hidden [9, 9], activation relu is for new agents"
    assert f"fine_tune: {said}" in moved(sr.FineTune(), wider)
    assert not moved(sr.FineTune(), tiny.LEARNING)
    dropping = replace(tiny.LEARNING, hyperparameters={**tiny.LEARNING.hyperparameters, "dropout": 0.5})
    assert "its own network (dropout 0.0); dropout 0.5 is for new agents" in moved(sr.FineTune(), dropping)
    assert not moved(sr.Scratch(), wider)
    assert not moved(sr.Distill(), wider)
