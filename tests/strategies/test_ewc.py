from dataclasses import replace

import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.learner import Source
from simreal.memory import record
from simreal.schedule import Schedule
from simreal.strategies import EWC, WeightAverage
from simreal.training import train
from simreal_agents.additions.depth import flattened
from simreal_agents.additions.fisher import diagonal
from simreal_agents.averaging import mean_of, written_for
from simreal_envs.errors import UserError

HEAVY = sr.Domain("cartpole_swingup", variation={"pole/mass": 1.5})
SCHEDULE = Schedule(128, points=2, episodes=1)


@pytest.fixture(scope="module")
def agents():
    """One that has learned at home, and one that went on from there."""
    first = sr.pretrain(tiny.CARTPOLE, 128, seed=9, learning=tiny.LEARNING, points=2, episodes=1)
    return first, train(first, tiny.target(domain=HEAVY), sr.FineTune(), SCHEDULE).agent


def at(*sources):
    domains = {"newest": HEAVY, "home": tiny.CARTPOLE}
    return replace(tiny.target(), sources=tuple(Source(name, agent, domains[name]) for name, agent in sources))


def anchor(agent, target, **settings):
    """The penalty, and the Fisher information of a source in its domain as a flat vector."""
    learner = EWC(states=64, **settings).begin(agent, target)
    learner.env.close()

    def fisher(source, domain):
        return flattened(learner, diagonal(source.policy, record(source, domain, 64, 0).observations))

    return learner, learner.additions["ewc"], fisher


def test_the_penalty_is_zero_at_the_source_and_pulls_by_the_fisher_information_elsewhere(agents):
    first, _ = agents
    learner, ewc, fisher = anchor(first, at(("home", first)), strength=3.0)
    optimizer = learner.optimizer
    assert ewc.penalty(optimizer) == 0.0
    optimizer.parameters.add_(0.5)
    optimizer.gradients.zero_()
    ewc.gradient(optimizer)
    np.testing.assert_allclose(optimizer.gradients, 3.0 * 0.5 * fisher(first, tiny.CARTPOLE), rtol=1e-4, atol=1e-7)
    assert not optimizer.gradients[optimizer.part("heads.critic")].any()  # a critic decides no action
    assert (optimizer.gradients[optimizer.part("heads.actor")] > 0).all()


def test_every_task_of_a_sequence_has_its_penalty(agents):
    first, second = agents
    learner, ewc, fisher = anchor(second, at(("newest", second), ("home", first)), strength=2.0, decay=0.5)
    optimizer = learner.optimizer
    matters = [fisher(second, HEAVY), fisher(first, tiny.CARTPOLE)]
    homes = [flattened(learner, agent.policy.state_dict()) for agent in (second, first)]
    optimizer.gradients.zero_()
    ewc.gradient(optimizer)
    by_hand = sum(2.0 * 0.5**age * f * (optimizer.parameters - home)
                  for age, (f, home) in enumerate(zip(matters, homes, strict=True)))  # fmt: skip
    np.testing.assert_allclose(optimizer.gradients, by_hand, rtol=1e-3, atol=1e-6)
    assert by_hand.abs().max() > 0  # the weights are at home in the second, not in the first


def test_after_an_average_every_source_pulls_to_its_own_weights_as_the_common_statistics_have_them(agents):
    _, second = agents
    first = sr.pretrain(tiny.CARTPOLE, 128, seed=4, learning=tiny.LEARNING, points=2, episodes=1)
    first.policy.encoder.normalizer.var.mul_(9.0)  # it has seen more of the world
    both = at(("newest", second), ("home", first))
    learner = sr.Combination((WeightAverage(), EWC(states=64, strength=2e4))).begin(second, both)
    learner.env.close()
    mean, optimizer = mean_of([second, first]), learner.optimizer
    assert not tiny.changed(tiny.tensors(mean), tiny.tensors(sr.Agent.of(learner)))
    pull = 0.0
    for agent, domain in ((second, HEAVY), (first, tiny.CARTPOLE)):
        written = written_for(agent, mean.policy)
        seen = record(agent, domain, 64, 0).observations
        np.testing.assert_allclose(written.act(seen), agent.act(seen), atol=1e-5)
        assert tiny.changed(tiny.tensors(written), tiny.tensors(agent)) >= {"encoder.actor.0.weight"}
        matters = flattened(learner, diagonal(written.policy, record(written, domain, 64, 0).observations))
        pull += 2e4 * matters * (optimizer.parameters - flattened(learner, written.policy.state_dict()))
    optimizer.gradients.zero_()
    learner.additions["ewc"].gradient(optimizer)
    np.testing.assert_allclose(optimizer.gradients, pull, rtol=1e-3, atol=1e-3)


def test_online_all_penalties_pull_to_the_newest_and_the_oldest_fade_first(agents):
    first, second = agents
    along = at(("newest", second), ("home", first), ("newest", second))  # the oldest comes behind the newest
    learner, ewc, fisher = anchor(second, along, online=True, decay=0.5)
    assert ewc.penalty(learner.optimizer) == 0.0
    np.testing.assert_allclose(
        ewc.strength, 1.5 * fisher(second, HEAVY) + 0.25 * fisher(first, tiny.CARTPOLE), rtol=1e-5
    )


def test_a_strong_penalty_keeps_the_policy_on_the_states_of_the_source(agents):
    first, _ = agents
    rows = first.schema.pack(record(first, tiny.CARTPOLE, 64, 5).observations)

    def divergence(strength):
        run = train(first, replace(at(("home", first)), domain=HEAVY), EWC(strength, states=64), SCHEDULE)
        return float(run.agent.distribution(rows).kl(first.distribution(rows)).mean())

    assert divergence(1e4) < 0.5 * divergence(0.0)


def test_other_networks_and_unknown_homes_are_refused(agents):
    first, _ = agents
    wide = sr.Learning((9,), num_worlds=8, hyperparameters=tiny.LEARNING.hyperparameters)
    other = sr.pretrain(tiny.CARTPOLE, 64, learning=wide, points=2, episodes=1)
    with pytest.raises(UserError, match="ewc: the network of the source home is not that of the agent"):
        anchor(first, at(("newest", first), ("home", other)))
    homeless = replace(first, card={})
    with pytest.raises(UserError, match="the strategy ewc needs the domain that its source agent comes from"):
        train(homeless, tiny.target(), EWC(), SCHEDULE)
