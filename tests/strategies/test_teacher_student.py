import every
import numpy as np
import pupils
import pytest
import torch

import simreal as sr
from simreal.schedule import Schedule
from simreal.strategies import Privileged, TeacherStudent, teacher_student
from simreal.training import train
from simreal_agents.additions import features
from simreal_envs.errors import UserError
from simreal_envs.variation import Observe
from simreal_envs.view import schema_of

STRONG = sr.Domain("cartpole_swingup", variation=sr.Randomization({"pole/mass": sr.Uniform(0.2, 3.0)}))
TARGET = sr.Domain("cartpole_swingup", variation={"pole/mass": 2.0})


@pytest.fixture(scope="module")
def teacher():
    return pupils.taught(domain=STRONG, strategy=Privileged())


def begun(strategy, agent, **more):
    learner = strategy.begin(agent, pupils.target(agent, TARGET, **more))
    learner.env.close()
    return learner


def test_the_teacher_sees_what_varies(teacher):
    assert [field.name for field in teacher.schema.observation][-1] == "parameter/pole/mass"
    assert teacher.card["domain"]["observe"]["ranges"] == [[0.2, 3.0]]
    chosen = pupils.taught(domain=STRONG, strategy=Privileged(parameters=["gravity"]))
    assert [field.name for field in chosen.schema.observation][-1] == "parameter/gravity"


def test_where_nothing_varies_there_is_nothing_to_see():
    with pytest.raises(UserError, match="nothing varies in this domain"):
        sr.pretrain(sr.Domain("cartpole_swingup"), 64, strategy=Privileged())
    with pytest.raises(UserError, match="privileged: parameters must be a list of at least one name"):
        Privileged(parameters=())


def test_the_student_sees_the_last_steps_and_no_parameters(teacher):
    learner = begun(TeacherStudent(history=4, steps=64, rounds=1, epochs=1), teacher)
    names = [field.name for field in learner.env.worlds.schema.observation]
    assert "history/action" in names and not [name for name in names if name.startswith("parameter/")]
    assert learner.env.worlds.domain.observe == Observe(history=4, actions=True)
    assert learner.policy.network["memory"]["units"] == 1 and learner.policy.network["memory"]["steps"] == 3


def test_before_it_is_taught_the_student_is_the_teacher_but_for_the_parameters(teacher, monkeypatch):
    monkeypatch.setattr(TeacherStudent, "_teach", lambda *_: None)
    learner = begun(TeacherStudent(history=4), teacher)
    memory = learner.policy.encoder.actor.memory
    with torch.no_grad():
        for tensor in memory.output.parameters():
            tensor.zero_()
        memory.output.bias.fill_(0.7)  # what the memory says stands in the place of the (normalized) parameter
    rows = np.random.default_rng(0).normal(size=(20, learner.policy.layout.size)).astype(np.float32)
    shift, scale = teacher.policy.encoder.normalizer.shift_and_scale()
    told = np.full((20, 1), float(0.7 / scale[-1] + shift[-1]), np.float32)
    seen = np.concatenate([rows[:, : teacher.policy.layout.size - 1], told], axis=1)
    np.testing.assert_allclose(learner.policy.act(rows), teacher.policy.act(seen), rtol=1e-4, atol=1e-5)


def test_the_student_comes_to_act_like_its_teacher_in_worlds_that_it_must_find_out_about(teacher):
    strategies = [TeacherStudent(history=6, rounds=rounds, steps=2048, epochs=6) for rounds in (1, 3)]
    blind = sr.Agent.of(begun(TeacherStudent(history=6, steps=32, rounds=1, epochs=1), teacher))
    students = [sr.Agent.of(begun(strategy, teacher)) for strategy in strategies]
    errors = [apart(teacher, student) for student in (blind, *students)]
    assert errors[1][0] < 0.5 * errors[0][0]  # actions
    assert errors[2][0] < 0.4 * errors[0][0] and errors[2][1] < 0.5 * errors[0][1]  # features, too


def apart(teacher, student):
    """Mean squared difference of actions and of features, in states to which the teacher leads."""
    home = teacher_student._with_history(STRONG.seen_by(teacher.card["domain"]), 6)
    columns = np.r_[: teacher.policy.layout.size - 1, -1]
    guide = teacher_student._looking(teacher.policy, columns, schema_of(home), home)
    rows = sr.record(guide, home, 512, 77, num_worlds=16).observations
    known, shown = rows[:, columns], rows[:, :-1]
    with torch.no_grad():
        latents = [features(p, torch.from_numpy(r)) for p, r in ((teacher.policy, known), (student.policy, shown))]
    actions = teacher.policy.act(known) - student.policy.act(shown)
    return float((actions**2).mean()), float((latents[0] - latents[1]).square().mean())


def test_zero_shot_learns_nothing_and_is_evaluated_as_it_sees(teacher):
    strategy = TeacherStudent(then="zero_shot", history=4, steps=64, rounds=2, epochs=1)
    run = train(teacher, pupils.target(teacher, TARGET), strategy, Schedule(64, points=2, episodes=1))
    assert run.curve[0].return_mean == run.curve[-1].return_mean
    assert run.agent.card["domain"]["observe"] == {"history": 4, "actions": True}


@pytest.mark.parametrize("algorithm", ["sac", "dqn"])
def test_other_algorithms_read_the_last_steps_as_they_are(algorithm):
    home = every.CHOICES if algorithm == "dqn" else STRONG
    agent = pupils.taught(algorithm, home, **({} if algorithm == "dqn" else {"strategy": Privileged()}))
    strategy = TeacherStudent(history=3, steps=64, rounds=2, epochs=1)
    learner = strategy.begin(agent, pupils.target(agent, home))
    learner.env.close()
    assert "memory" not in learner.policy.network
    assert learner.policy.network["hidden"] == agent.policy.network["hidden"]
