import every
import numpy as np
import pupils
import pytest

import simreal as sr
from simreal import memory
from simreal.schedule import Schedule
from simreal.strategies import Distill
from simreal.training import train
from simreal_agents.additions.cloning import Tuition

FAST = {"steps": 4096, "epochs": 12}


@pytest.fixture(scope="module")
def teacher():
    return pupils.taught()


def distilled(strategy, agent, domain=pupils.WIDE, **more):
    learner = strategy.begin(agent, pupils.target(agent, domain, **more))
    learner.env.close()
    return learner


def held_out(agent, domain=pupils.WIDE):
    return sr.record(agent, domain, 1024, 99).observations


def test_the_student_does_in_states_it_has_not_seen_what_the_teacher_does(teacher):
    states = held_out(teacher)
    fresh = pupils.target(teacher).learner()
    fresh.env.close()
    learner = distilled(Distill(**FAST), teacher)
    assert learner.policy.network["hidden"] == [16, 16]
    before, after = (pupils.apart(teacher.policy, policy, states) for policy in (fresh.policy, learner.policy))
    assert after < before / 10
    for ask in (lambda policy: policy.act(states), lambda policy: policy.value(states)):
        errors = [np.mean((ask(policy) - ask(teacher.policy)) ** 2) for policy in (fresh.policy, learner.policy)]
        assert errors[1] < errors[0] / 4


def test_a_smaller_student_does_it_too_with_the_teachers_statistics(teacher):
    states = held_out(teacher)
    learner = distilled(Distill(hidden=[6], **FAST), teacher)
    policy = learner.policy
    assert policy.network["hidden"] == [6] and sum(p.numel() for p in policy.parameters()) < 200
    assert pupils.apart(teacher.policy, policy, states) < 0.15
    for own, given in ((policy.encoder.normalizer, teacher.policy.encoder.normalizer),
                       (policy.reward_scaler, teacher.policy.reward_scaler)):  # fmt: skip
        assert all(a.equal(b) for a, b in zip(own.buffers(), given.buffers(), strict=True))


@pytest.mark.parametrize("algorithm", ["sac", "td3", "dqn"])
def test_other_algorithms_learn_their_teachers_actions_and_explore_no_more(algorithm):
    domain = every.CHOICES if algorithm == "dqn" else pupils.WIDE
    teacher = pupils.taught(algorithm, domain)
    learner = distilled(Distill(steps=2048, epochs=15), teacher, domain)
    states, fresh = held_out(teacher, domain), pupils.target(teacher, domain).learner()
    fresh.env.close()
    before, after = (pupils.apart(teacher.policy, policy, states) for policy in (fresh.policy, learner.policy))
    assert after < before / 5
    if algorithm == "dqn":
        assert np.mean(learner.policy.act(states) == teacher.policy.act(states)) > 0.95
        assert learner.exploration_schedule(1.0) == learner.exploration_final_eps < fresh.exploration_schedule(1.0)
    if algorithm == "sac":
        assert learner.policy.heads.temperature.equal(teacher.policy.heads.temperature)
    assert fresh.uniform_start and not learner.uniform_start


def test_in_later_rounds_the_student_acts_and_the_teacher_says_what_it_should_have_done(teacher, monkeypatch):
    guides, own = [], memory.record

    def watched(agent, *args, **settings):
        guides.append(agent.policy)
        return own(agent, *args, **settings)

    monkeypatch.setattr(memory, "record", watched)
    learner = distilled(Distill(rounds=3, steps=64, epochs=1), teacher)
    assert [guide is teacher.policy for guide in guides] == [True, False, False]
    assert [guide is learner.policy for guide in guides] == [False, True, True]


def test_zero_shot_learns_nothing_on_the_target(teacher):
    strategy = Distill(then="zero_shot", steps=256, epochs=1)
    assert not strategy.trains and Distill().trains
    run = train(teacher, pupils.target(teacher), strategy, Schedule(128, points=3, episodes=1))
    assert len({row.return_mean for row in run.curve}) == 1 and run.curve[-1].env_steps == 128


def test_on_the_target_the_teacher_goes_on_with_its_weight(teacher):
    addition = distilled(Distill(on_target=True, weight=0.5, steps=64, epochs=1), teacher).additions["distill"]
    assert isinstance(addition, Tuition) and addition.weight == 0.5 and addition.teacher is teacher.policy
    assert not distilled(Distill(steps=64, epochs=1), teacher).additions


def test_the_arms_teacher_comes_before_the_source_agent(teacher):
    other = pupils.taught(seed=5)
    learner = distilled(Distill(**FAST), teacher, teacher=other)
    states = held_out(other)
    assert pupils.apart(other.policy, learner.policy, states) < pupils.apart(teacher.policy, learner.policy, states) / 3
