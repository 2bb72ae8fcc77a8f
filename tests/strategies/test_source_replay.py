import every
import pupils
import pytest
import torch

import simreal as sr
from simreal.learner import Source
from simreal.schedule import Schedule
from simreal.strategies import SourceReplay
from simreal.training import train
from simreal_envs.errors import UserError

HEAVY = sr.Domain("cartpole_swingup", variation={"pole/mass": 3.0, "gravity": 15.0})


@pytest.fixture(scope="module")
def source():
    return pupils.taught()


def begun(strategy, agent, **more):
    learner = strategy.begin(agent, pupils.target(agent, HEAVY, **more))
    learner.env.close()
    return learner


def test_it_begins_as_the_whole_source_agent_whose_lessons_it_repeats(source):
    learner = begun(SourceReplay(steps=512), source)
    state = learner.policy.state_dict()
    assert all(state[name].equal(tensor) for name, tensor in source.policy.state_dict().items())
    addition = learner.additions["source_replay"]
    recorded = sr.record(source, pupils.WIDE, 512, 0, num_worlds=16)
    assert torch.equal(addition.lessons.rows, torch.from_numpy(recorded.observations))
    assert abs(addition.loss(learner.policy, {}).item()) < 1e-6


def test_what_was_done_in_the_source_is_kept(source):
    states = sr.record(source, pupils.WIDE, 512, 99).observations
    runs = [
        train(source, pupils.target(source, HEAVY), strategy, Schedule(1024, points=2, episodes=1))
        for strategy in (sr.FineTune(), SourceReplay(weight=10.0, steps=2048))
    ]
    forgotten, kept = (pupils.apart(source.policy, run.agent.policy, states) for run in runs)
    assert kept < 0.5 * forgotten


def test_along_a_sequence_all_domains_before_are_repeated(source):
    earlier = pupils.taught(seed=3)
    sources = (Source("source", source, pupils.WIDE), Source("first", earlier, HEAVY))
    lessons = begun(SourceReplay(steps=256), source, sources=sources).additions["source_replay"].lessons
    assert len(lessons) == 512
    for agent, part in ((source, lessons[:256]), (earlier, lessons[256:])):
        assert part.loss(agent.policy, 1.0).item() < 1e-6
        assert part.loss((earlier if agent is source else source).policy).item() > 0.01


def test_off_policy_agents_repeat_too():
    agent = pupils.taught("td3")
    run = train(agent, pupils.target(agent, HEAVY), SourceReplay(steps=64), Schedule(128, points=2, episodes=1))
    assert run.agent.algorithm == "td3"


def test_an_agent_of_other_worlds_cannot_be_repeated(source):
    other = Source("other", pupils.taught("dqn", every.CHOICES), every.CHOICES)
    with pytest.raises(UserError, match="acts with other fields"):
        begun(SourceReplay(steps=64), source, sources=(*pupils.target(source).sources, other))
