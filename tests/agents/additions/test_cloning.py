from dataclasses import replace

import kinds
import numpy as np
import pytest
import torch

from simreal_agents.additions import Experience
from simreal_agents.additions.cloning import Consolidation, Lessons, Rehearsal, Tuition, columns_of, measure, study
from simreal_agents.additions.differentiable import distribution
from simreal_agents.replay import Replay
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema

PLAIN = [
    (algorithm, "choice" if "dqn" in algorithm else "box") for algorithm in ("ppo", "sac", "td3", "tqc", "dqn", "qrdqn")
]


def pair(algorithm="ppo", action="box"):
    """A teacher, and a student that knows nothing of it, with states of both."""
    teacher, student = (kinds.agent_of(algorithm, action=action, seed=seed).policy for seed in (0, 1))
    student.encoder.normalizer.load_state_dict(teacher.encoder.normalizer.state_dict())
    rows = kinds.observed(kinds.schema_of("vector", action), 600)
    return teacher, student, rows, teacher.act(rows, False, torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("algorithm", "action"), [*PLAIN, ("ppo", "choice")])
def test_a_student_comes_to_do_what_its_teacher_does_in_states_it_has_not_seen(algorithm, action):
    teacher, student, rows, actions = pair(algorithm, action)
    lessons = Lessons.of(teacher, rows, actions, temperature=0.1)
    seen, held_out = lessons[:500], lessons[500:]
    with torch.no_grad():
        before = [held_out.loss(student, value, 0.1).item() for value in (0.0, 1.0)]
        study(student, seen, generator(), epochs=15, batch_size=50, lr=1e-2, value=1.0, temperature=0.1)
        after = [held_out.loss(student, value, 0.1).item() for value in (0.0, 1.0)]
    assert after[0] < 0.2 * before[0] and after[1] < 0.2 * before[1]


def test_the_loss_by_hand():
    teacher, student, rows, actions = pair()
    with torch.no_grad():
        student.heads.log_std.copy_(teacher.heads.log_std)
        teacher.reward_scaler.update(
            torch.tensor([[-2.0], [2.0]])
        )  # standard deviation 2: values are halves of returns
        student.reward_scaler.update(torch.tensor([[-5.0], [5.0]]))
    lessons = Lessons.of(teacher, rows, actions)
    np.testing.assert_allclose(lessons.values[:, 0], teacher.value(rows) * 2, rtol=1e-4, atol=1e-5)
    moved = teacher.distribution(rows).mean - student.distribution(rows).mean
    divergence = (moved**2 / (2 * teacher.distribution(rows).std ** 2)).sum(1).mean()
    errors = student.value(rows) - teacher.value(rows) * 2 / 5
    assert lessons.loss(student).item() == pytest.approx(divergence, rel=1e-4)
    assert lessons.loss(student, 3.0).item() == pytest.approx(divergence + 3 * (errors**2).mean(), rel=1e-4)


def test_critics_of_other_shapes_are_compared_by_their_means():
    teacher, _, rows, actions = pair("tqc")
    lessons = Lessons.of(teacher, rows, actions)
    student = kinds.agent_of("tqc", seed=1, n_quantiles=5, n_critics=3).policy
    fewer = lessons.loss(student, 1.0) - lessons.loss(student)
    with torch.no_grad():
        low, high = (torch.from_numpy(bound) for bound in (student.action_space.low, student.action_space.high))
        found = student.q_values(lessons.rows, 2 * (lessons.actions - low) / (high - low) - 1).mean((0, 2))
    assert fewer.item() == pytest.approx((found - lessons.values.mean(1)).square().mean().item(), rel=1e-3)


def test_studying_moves_nothing_that_is_frozen_and_takes_target_copies_along():
    teacher, student, rows, actions = pair("sac")
    for parameter in student.encoder.actor.parameters():
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    study(student, Lessons.of(teacher, rows, actions), generator(), epochs=1, value=1.0)
    moved = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"heads.actor.weight", "heads.critic.weight", "target.heads.critic.weight"} <= moved
    assert not [name for name in moved if name.startswith(("encoder.actor", "encoder.normalizer", "heads.temperature"))]
    assert torch.equal(student.heads.critic.weight, student.target.heads.critic.weight)


def test_equal_generators_study_to_equal_bits():
    states = []
    for _ in range(2):
        teacher, student, rows, actions = pair()
        study(student, Lessons.of(teacher, rows, actions), generator(3), epochs=2, value=1.0)
        states.append(student.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_teacher_pulls_with_its_weight_and_with_none_not_at_all():
    teacher, student, rows, _ = pair()
    batch = {"observations": torch.from_numpy(rows)}
    once, twice = (Tuition(teacher, weight).loss(student, batch).item() for weight in (1.0, 2.0))
    assert twice == pytest.approx(2 * once) and once == pytest.approx(
        teacher.distribution(rows).kl(student.distribution(rows)).mean(), rel=1e-3
    )
    assert Tuition(teacher, 0.0).loss(student, batch) is None
    loss = Tuition(teacher, 1.0).loss(teacher, batch)
    loss.backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in teacher.parameters())


def test_the_weight_of_a_teacher_goes_with_the_training_state():
    teacher = pair()[0]
    one, other = Tuition(teacher, 0.25), Tuition(teacher, 1.0)
    other.restore_training_state(one.training_state())
    assert other.weight == 0.25


def test_a_teacher_is_asked_about_the_columns_that_it_sees():
    schema = kinds.schema_of("vector", "box")
    extra = Field("before", "1", ("a", "b"))
    wide = replace(schema, observation=(extra, *schema.observation))
    columns = columns_of(schema, wide)
    assert columns.tolist() == [2, 3, 4, 5, 6] and columns_of(schema, schema) is None
    teacher, student = kinds.agent_of("ppo").policy, kinds.agent_of("ppo", schema=wide, seed=1).policy
    rows = torch.from_numpy(kinds.observed(wide))
    expected = teacher.distribution(rows[:, 2:].numpy()).kl(student.distribution(rows.numpy())).mean()
    found = Tuition(teacher, 1.0, columns).loss(student, {"observations": rows})
    assert found.item() == pytest.approx(expected, rel=1e-3)
    with pytest.raises(UserError, match="the teacher sees 'before', which its student does not see in this way"):
        columns_of(wide, schema)
    with pytest.raises(UserError, match="sees 'speed'"):
        columns_of(schema, Schema((kinds.ANGLE, replace(kinds.SPEED, unit="km/h")), schema.action, 0.02))


def test_rehearsal_draws_its_own_states_and_goes_on_exactly():
    teacher, student, rows, actions = pair()
    lessons = Lessons.of(teacher, rows, actions)

    def rehearsal():
        return Rehearsal(lessons, generator(5), weight=2.0, value=0.5, batch_size=32)

    drawn = torch.randint(len(lessons), (32,), generator=generator(5))
    one = rehearsal()
    first = one.loss(student, {}).item()
    assert first == pytest.approx(2 * lessons[drawn].loss(student, 0.5).item())
    other = rehearsal()
    other.restore_training_state(one.training_state())
    second = one.loss(student, {}).item()
    assert second != first and other.loss(student, {}).item() == second
    same = rehearsal().loss(teacher, {})
    same.backward()
    assert abs(same.item()) < 1e-6 and all(p.grad.abs().max() < 1e-5 for p in teacher.parameters())


class Learner:
    """As much of a learner as a consolidation looks at."""

    seed = 0

    def __init__(self, policy):
        self.policy = policy


def experience(rows, actions, which):
    steps, worlds = len(rows) // len(which), len(which)
    shaped = rows.reshape(steps, worlds, -1)
    flags = np.zeros((steps, worlds), bool)
    return Experience(
        shaped, shaped, actions.reshape(steps, worlds, *actions.shape[1:]), np.zeros((steps, worlds), np.float32), flags, flags,
        np.array(which),
    )  # fmt: skip


def test_consolidation_remembers_the_last_states_of_its_own_domain():
    teacher, student, rows, _ = pair("sac")
    addition = Consolidation(student, Lessons.of(teacher, rows[:1], rows[:1, :3]), capacity=10)
    squashed = np.full((24, 3), 0.5, np.float32)
    addition.collected(Learner(teacher), experience(rows[:24], squashed, [0, 1, 0]))
    columns = addition.replay.state().columns
    own = rows[:24].reshape(8, 3, -1)[:, [0, 2]].reshape(16, -1)
    assert {row.tobytes() for row in columns["observations"]} == {row.tobytes() for row in own[6:]}
    assert columns["actions"][0].tolist() == [2.5, 2.5, 0.5]  # in the unit of the action space
    restored = Consolidation(student, addition.old, capacity=10)
    restored.restore_training_state(addition.training_state())
    assert len(restored.replay) == 10 and isinstance(restored.replay, Replay)


def test_consolidation_makes_an_agent_that_does_both():
    old, new, rows, actions = pair()
    there = rows + np.float32(4)  # elsewhere, so that both can be had
    learner = Learner(new)
    addition = Consolidation(kinds.agent_of("ppo").policy, Lessons.of(old, rows, actions), capacity=600)
    addition.collected(learner, experience(there, actions, [0, 0]))
    wanted = Lessons.of(old, rows, actions), Lessons.of(new, there, actions)
    with torch.no_grad():
        apart = [wanted[0].loss(new).item(), wanted[1].loss(old).item()]
        addition.distil(learner, epochs=60, value=0.5, temperature=1.0)
        together = [lessons.loss(learner.policy).item() for lessons in wanted]
    assert all(after < 0.25 * before for before, after in zip(apart, together, strict=True))
    both = np.concatenate([there, rows])
    np.testing.assert_allclose(learner.policy.encoder.normalizer.mean, both.mean(0), rtol=1e-4)


def test_measured_statistics_are_those_of_the_rows_alone():
    policy = kinds.agent_of("ppo").policy
    rows = torch.randn((50, 5), generator=generator()) * 3 + 1
    measure(policy, rows)
    normalizer = policy.encoder.normalizer
    torch.testing.assert_close(normalizer.mean, rows.double().mean(0))
    torch.testing.assert_close(normalizer.var, rows.double().var(0, correction=0))
    assert normalizer.count.unique().tolist() == [50]


def test_rows_are_asked_about_in_chunks_with_the_same_answers(monkeypatch):
    teacher, _, rows, actions = pair()
    whole = Lessons.of(teacher, rows, actions)
    monkeypatch.setattr("simreal_agents.additions.cloning.CHUNK", 7)
    parts = Lessons.of(teacher, rows, actions)
    torch.testing.assert_close(parts.wanted.mean, whole.wanted.mean)
    torch.testing.assert_close(parts.wanted.mean, distribution(teacher, torch.from_numpy(rows)).mean.detach())
    torch.testing.assert_close(parts.values, whole.values)
