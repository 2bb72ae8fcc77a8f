import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.check import check_strategy
from simreal.learner import Source, Target
from simreal.schedule import Schedule
from simreal.strategies.multi_task import MultiTask
from simreal.training import train
from simreal_agents.additions import Experience
from simreal_agents.additions.balance import Balance, by_progress
from simreal_envs.errors import UserError
from simreal_envs.view import schema_of
from simreal_envs.worlds import make

HEAVY = sr.Domain("cartpole_swingup", variation=sr.Shift({"pole/mass": 1.5}))
MOON = sr.Domain("cartpole_swingup", variation=sr.Shift({"gravity": 5.0}))
HERE = Target(tiny.CARTPOLE, tiny.LEARNING, 0, domains={"plain": tiny.CARTPOLE, "heavy": HEAVY, "moon": MOON})
SCHEDULE = Schedule(128, points=2, episodes=1)


def begun(target=HERE, **settings):
    learner = MultiTask(**settings).begin(None, target)
    learner.env.close()
    return learner


def test_what_is_observed_says_which_task_it_is():
    shown = sr.Domain("cartpole_swingup", observe={"tasks": ["one", "other"], "task": "other"})
    worlds = make(shown, 3)
    rows, _ = worlds.reset()
    after, *_ = worlds.step(np.zeros((3, 1)))
    worlds.close()
    field = schema_of(shown).observation[-1]
    assert (field.name, field.labels) == ("task", ("one", "other"))
    assert rows[:, -2:].tolist() == after[:, -2:].tolist() == [[0, 1]] * 3
    assert sr.Domain.from_dict(shown.to_dict()) == shown
    with pytest.raises(UserError, match="observe: unknown task 'on'"):
        sr.Domain("cartpole_swingup", observe={"tasks": ["one", "other"], "task": "on"})


def test_every_domain_has_its_worlds_and_all_their_steps_count():
    learner = MultiTask(worlds={"heavy": 2}).begin(None, HERE)
    learner.learn(tiny.ROLLOUT)
    rows = learner.rollout_buffer.observations
    learner.env.close()
    assert learner.which.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]  # of 8 worlds: 1 : 2 : 1
    assert (rows[0, :, -3:].argmax(1) == learner.which).all() and learner.num_timesteps == tiny.ROLLOUT
    assert [member.domain.variation for member in learner.env.worlds.members] == [
        tiny.CARTPOLE.variation, HEAVY.variation, MOON.variation,
    ]  # fmt: skip


def test_a_domain_trains_its_own_head_and_what_all_share():
    learner = MultiTask(domains=("heavy",)).begin(None, HERE)
    before = {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}
    weights = Balance([1.0, 0.0])  # the second domain counts for nothing
    learner.attach("balance", weights)
    learner.ent_coef = 0.0
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    after = learner.policy.state_dict()
    moved = (before["heads.actor.weight"] != after["heads.actor.weight"]).any(dim=1)
    assert moved.tolist() == [True, False]  # one action each
    assert (before["encoder.actor.0.weight"] != after["encoder.actor.0.weight"]).any()


def test_the_agent_moves_to_a_target_where_it_acts_with_the_head_of_its_own_source():
    run = train(None, HERE, MultiTask(domains=("moon",)), SCHEDULE)
    assert run.agent.card["domain"]["observe"] == {"tasks": ["plain", "moon"], "task": "plain"}
    target = Target(HEAVY, tiny.LEARNING, 0, (Source("both", run.agent, tiny.CARTPOLE),))
    moved = train(run.agent, target, sr.FineTune(), SCHEDULE)
    assert moved.agent.schema == run.agent.schema
    heads = [tiny.tensors(agent)["heads.actor.weight"] for agent in (run.agent, moved.agent)]
    assert [np.array_equal(*rows) for rows in zip(*heads, strict=True)] == [False, True]


def test_weights_fall_with_progress_by_hand():
    # exp(-1) : exp(0), twice that over their sum.
    a = np.exp(-1.0)
    np.testing.assert_allclose(by_progress(np.array([1.0, 0.0])), [2 * a / (a + 1), 2 / (a + 1)])
    np.testing.assert_allclose(by_progress(np.zeros(3)), np.ones(3))


def experience(rewards, weights=None):
    rewards = np.array(rewards, np.float32)
    nothing = np.zeros((*rewards.shape, 1), np.float32)
    ends = np.zeros(rewards.shape, bool)
    return Experience(nothing, nothing, nothing, rewards, ends, ends, np.array([0, 0, 1]), weights)


def test_what_has_risen_least_counts_most():
    balance = Balance()
    first = experience([[1, 3, 10], [1, 3, 30]])  # means 2 and 20, spreads 1 and 10
    balance.collected(None, first)
    np.testing.assert_allclose(first.weights, np.ones((2, 3)), rtol=1e-6)
    # Means 12 and 20: smoothed 2 + 0.1 * 10 = 3, which is one spread more; the second domain has not risen.
    later = experience([[12, 12, 20], [12, 12, 20]], np.full((2, 3), 2, np.float32))
    balance.collected(None, later)
    low, high = by_progress(np.array([1.0, 0.0]))
    np.testing.assert_allclose(later.weights, 2 * np.array([[low, low, high]] * 2), rtol=1e-6)


def test_the_first_reward_of_all_is_no_progress_yet():
    balance, rollouts = Balance(), [experience([[one, 0, 0]]) for one in (0, 1, 0)]
    for rollout in rollouts:
        balance.collected(None, rollout)
    for rollout in rollouts[:2]:
        np.testing.assert_allclose(rollout.weights, np.ones((1, 3)), rtol=1e-6)
    # The second rollout has mean and spread 0.5; then the mean goes to 0.9 * 0.5, a tenth of the spread down.
    own, other = by_progress(np.array([-0.1, 0.0]))
    np.testing.assert_allclose(rollouts[2].weights, [[own, own, other]], rtol=1e-6)


def test_fixed_weights_are_those_of_the_domains():
    given = experience(np.zeros((1, 3)))
    begun(domains=("heavy",), weights={"heavy": 3}).additions["balance"].collected(None, given)
    assert given.weights.tolist() == [[1, 1, 3]]


def test_pcgrad_merges_the_gradients_of_all_domains():
    learner = MultiTask(pcgrad=True).begin(None, HERE)
    addition, sizes = learner.additions["pcgrad"], []
    merge = addition.merge
    addition.merge = lambda gradients: sizes.append(len(gradients)) or merge(gradients)
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    assert max(sizes) == 3


def test_with_all_that_it_may_be_told_it_keeps_the_contract():
    check_strategy(MultiTask(weights="progress", worlds={"other": 2}, pcgrad=True))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"domains": ("heavi",)}, "multi_task: domains: unknown source 'heavi'; did you mean 'heavy'"),
        ({"weights": {"moo": 1}}, "multi_task: weights: unknown domain 'moo'; did you mean 'moon'"),
    ],
)
def test_what_is_none_of_the_domains_is_named(settings, says):
    with pytest.raises(UserError) as error:
        begun(**settings)
    assert says in str(error.value)


def test_one_domain_is_no_multi_task():
    with pytest.raises(UserError, match="multi_task needs at least one more source domain"):
        begun(Target(tiny.CARTPOLE, tiny.LEARNING, 0, domains={"plain": tiny.CARTPOLE}))
    with pytest.raises(UserError, match="pendulum_swingup"):
        pendulum = sr.Domain("pendulum_swingup")
        begun(Target(tiny.CARTPOLE, tiny.LEARNING, 0, domains={"plain": tiny.CARTPOLE, "pendulum": pendulum}))
