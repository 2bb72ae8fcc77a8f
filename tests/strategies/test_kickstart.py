import every
import pupils
import pytest

import simreal as sr
from simreal.learner import Target
from simreal.schedule import Schedule
from simreal.strategies import Kickstart
from simreal.training import train
from simreal_envs.errors import UserError


@pytest.fixture(scope="module")
def teacher():
    return pupils.taught()


def test_the_weight_falls_evenly_to_nothing(teacher):
    strategy = Kickstart(weight=4.0, until=0.5)
    learner = strategy.begin(teacher, pupils.target(teacher))
    learner.env.close()
    addition, weights = learner.additions["kickstart"], []
    for progress in (0.0, 0.125, 0.25, 0.5, 0.9):
        strategy.on_progress(learner, progress)
        weights.append(addition.weight)
    assert weights == pytest.approx([4.0, 3.0, 2.0, 0.0, 0.0])


def test_the_student_begins_from_nothing_or_as_a_copy(teacher):
    here = pupils.target(teacher)
    learners = [here.learner(), Kickstart().begin(teacher, here), Kickstart(copy=True).begin(teacher, here)]
    for learner in learners:
        learner.env.close()
    fresh, student, copy = (learner.policy.heads.actor.weight for learner in learners)
    assert student.equal(fresh) and copy.equal(teacher.policy.heads.actor.weight)


def test_the_teacher_draws_the_student_towards_its_actions(teacher):
    states = sr.record(teacher, pupils.WIDE, 512, 99).observations
    runs = [
        train(teacher, pupils.target(teacher, rate=1e-2), strategy, Schedule(1024, points=2, episodes=1))
        for strategy in (sr.Scratch(), Kickstart(weight=5.0, until=1.0))
    ]
    alone, drawn = (pupils.apart(teacher.policy, run.agent.policy, states) for run in runs)
    assert drawn < 0.5 * alone


def test_a_teacher_of_another_kind_is_refused():
    with pytest.raises(UserError, match="a gaussian policy cannot learn from a squashed gaussian one"):
        Kickstart().begin(None, pupils.target(pupils.taught(), teacher=pupils.taught("sac")))


def test_a_teacher_that_sees_more_is_refused(teacher):
    seeing = pupils.taught(strategy=sr.make_strategy("privileged"))
    with pytest.raises(UserError, match="the teacher sees 'parameter/pole/mass', which its student does not see"):
        Kickstart().begin(teacher, pupils.target(teacher, teacher=seeing))


def test_a_teacher_that_does_other_things_is_refused(teacher):
    other = pupils.taught("dqn", every.CHOICES)
    here = Target(pupils.WIDE, every.learning("ppo"), 0, teacher=other)
    with pytest.raises(UserError, match="the teacher acts with other fields than its student"):
        Kickstart().begin(teacher, here)


def test_a_value_based_agent_kickstarts_too():
    teacher = pupils.taught("dqn", every.CHOICES)
    run = train(teacher, pupils.target(teacher, every.CHOICES), Kickstart(), Schedule(128, points=2, episodes=1))
    assert run.agent.algorithm == "dqn"
