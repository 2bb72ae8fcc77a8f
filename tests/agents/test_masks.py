"""Choices that are absent where an agent acts: it never makes them, learns nothing about them, and forgets nothing of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from simreal.learner import Learning, Target
from simreal_agents.additions.differentiable import values
from simreal_agents.additions.fisher import roots
from simreal_agents.bundle import Agent, load
from simreal_agents.categorical import drawn
from simreal_agents.dqn import DQN
from simreal_agents.graph import Graph
from simreal_agents.heads import NEVER, absence
from simreal_agents.insides import activations
from simreal_agents.networks import Policy
from simreal_agents.optimizer import FlatAdam
from simreal_agents.ppo import PPO
from simreal_agents.qrdqn import QRDQN
from simreal_agents.replay import Batch
from simreal_agents.sb3 import save_zip
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.schema import Choices, Field, Schema
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

LABELS, ABSENT = ("stay", "left", "up", "right", "down", "fire"), ("stay", "up", "fire")  # at both ends, and between
GONE = [LABELS.index(label) for label in ABSENT]
CHOICE = Field("action", "1", LABELS, 0.0, 5.0, discrete=True, absent=ABSENT)
FORMS = {
    "vector": Field("place", "m", tuple("abcdef")),
    "picture": Field("grid", "1", ("one", "other"), 0.0, 1.0, grid=(5, 5), dtype="uint8"),
}
SCHEMAS = {form: Schema((field,), (CHOICE,), 0.1) for form, field in FORMS.items()}
ALGORITHMS = ("ppo", "dqn", "qrdqn")
CATCH = Domain("grid_catch", bridge={"actions": "union"})  # no up, no down


def whole(schema: Schema) -> Schema:
    return replace(schema, action=(replace(schema.action[0], absent=()),))


def agent_of(algorithm: str, form: str, wanted: float = 50.0) -> Agent:
    """An agent that would do what is absent before anything else."""
    network = {"hidden": [8], **({"n_quantiles": 3} if algorithm == "qrdqn" else {})}
    agent = Agent.new(SCHEMAS[form], network, seed=3, algorithm=algorithm)
    head = agent.policy.heads.actor if algorithm == "ppo" else agent.policy.heads.critic
    with torch.no_grad():
        head.bias.view(len(LABELS), -1)[GONE] += wanted
    return agent


def rows(form: str, n: int = 500) -> np.ndarray:
    draws, space = np.random.default_rng(0), SCHEMAS[form].observation_space
    seen = draws.standard_normal((n, *space.shape))
    return (seen > 0).astype(np.uint8) if space.dtype == np.uint8 else seen.astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_absent_choices_are_never_made(algorithm, form):
    agent, seen = agent_of(algorithm, form), rows(form)
    generator = torch.Generator().manual_seed(0)
    agent.policy.exploration_rate = 0.5
    made = np.concatenate([agent.act(seen), *(agent.act(seen, False, generator) for _ in range(5))])
    assert not np.isin(made, GONE).any() and len(np.unique(made)) == len(LABELS) - len(GONE)
    probabilities = np.exp(agent.distribution(seen).log_probs)
    assert np.allclose(probabilities.sum(1), 1) and (probabilities[:, GONE] == 0).all()
    assert agent.distribution(seen).entropy < math.log(3) + 1e-6
    assert np.abs(agent.value(seen)).max() < 40.0  # not what it thinks of what is absent


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_head_computes_is_seen_without_the_huge_number(algorithm):
    one, seen = agent_of(algorithm, "picture"), rows("picture", 40)
    place = "heads.actor" if algorithm == "ppo" else "heads.critic"
    found = activations(one.policy, seen)[place].values
    free = activations(one.at(whole(SCHEMAS["picture"])).policy, seen)[place].values
    assert np.abs(found).max() < 1e3 and np.array_equal(found, free)


def test_two_choices_drawn_alike_are_as_spread_as_two_can_be():
    agent = agent_of("ppo", "vector")
    spread = agent.distribution(rows("vector")).spread
    assert spread == pytest.approx(agent.distribution(rows("vector")).entropy / math.log(len(LABELS) - len(GONE)))


def test_the_fisher_information_of_values_leaves_out_absent_choices():
    assert roots(agent_of("dqn", "vector").policy, torch.from_numpy(rows("vector", 5))).shape == (5, 3)
    free = Agent.new(whole(SCHEMAS["vector"]), {"hidden": [8]}, algorithm="dqn")
    assert roots(free.policy, torch.from_numpy(rows("vector", 5))).shape == (5, 6)


def test_two_present_choices_share_what_a_third_would_have():
    agent = agent_of("ppo", "vector", wanted=0.0)
    with torch.no_grad():
        agent.policy.heads.actor.weight.zero_()
        agent.policy.heads.actor.bias.copy_(torch.tensor([9.0, 0.0, 9.0, math.log(3.0), 0.0, 9.0]))
    said = agent.distribution(rows("vector", 2))
    assert np.exp(said.log_probs[0]) == pytest.approx([0, 0.2, 0, 0.6, 0.2, 0], abs=1e-7)  # 1 : 3 : 1
    assert said.entropy == pytest.approx(-(0.4 * math.log(0.2) + 0.6 * math.log(0.6)), abs=1e-6)


def test_numbers_at_the_ends_of_their_range_do_not_lead_to_what_is_absent():
    logits = np.float32([[NEVER, 0.0, 0.3, 0.1, NEVER]] * 2)
    ends = np.array([0.0, np.nextafter(1.0, 0.0)])
    assert set(drawn(logits, ends, absent=True)) <= {1, 2, 3}
    assert drawn(logits, np.array([0.5, 0.99]), absent=True).tolist() == drawn(logits, np.array([0.5, 0.99])).tolist()


def test_by_hand_and_by_autograd_are_the_same():
    policy, seen = agent_of("ppo", "vector").policy, rows("vector", 64)
    graph = Graph(policy)
    ruled = policy.kernel.ruler()(seen)
    logits = graph.look(seen)[0]
    np.testing.assert_allclose(policy.kernel.mean(ruled), logits, rtol=1e-5, atol=1e-6)
    noise = np.linspace(0.01, 0.99, 64)
    actions = graph.drawn(logits, noise, seen)
    assert np.array_equal(policy.kernel.drawn(logits, noise, ruled), actions)
    settings = {"clip_range": 0.2, "ent_coef": 0.1, "vf_coef": 0.5, "normalize": True}
    draws = np.random.default_rng(1)
    batch = [draws.standard_normal(64).astype(np.float32) for _ in range(2)]
    old = graph.log_probs(logits, noise, actions, seen)
    policy.optimizer = FlatAdam(policy, lr=1e-3)
    policy.tensors_were_replaced()
    found = []
    for kernel, given in ((policy.kernel, ruled), (graph, seen)):
        loss = kernel.surrogate(**settings)
        losses = loss.forward(given, actions, batch[0], old, batch[1])
        loss.backward()
        found.append((losses, [p.grad.clone() for p in policy.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4, abs=1e-6)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert all(not bool(a[GONE].any()) for a in (policy.heads.actor.weight.grad, policy.heads.actor.bias.grad))


@pytest.mark.parametrize("algorithm", [PPO, DQN, QRDQN])
def test_training_leaves_the_rows_of_absent_choices_as_they_were(algorithm):
    settings = {"n_steps": 16, "batch_size": 64} if algorithm is PPO else {
        "learning_starts": 64, "batch_size": 32, "buffer_size": 400, "exploration_initial_eps": 0.7, "gradient_steps": 2,
        "target_update_interval": 40,
    }  # fmt: skip
    network = {"hidden": [8], **({"n_quantiles": 3} if algorithm is QRDQN else {})}
    learner = algorithm(env=make(CATCH, 8, 0), seed=0, policy_kwargs=network, **settings)
    head = learner.policy.heads.actor if algorithm is PPO else learner.policy.heads.critic
    before = head.weight.detach().clone()
    learner.learn(512)  # a choice that is absent would end it
    learner.env.close()
    moved = (head.weight.detach() != before).view(6, -1).any(1)
    assert moved.tolist() == [True, True, False, True, False, True]


@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn"])
def test_what_was_done_where_it_was_possible_is_not_learned_from_where_it_is_not(algorithm):
    settings = {"buffer_size": 400, "learning_starts": 16, "batch_size": 32, "gradient_steps": 2}
    learning = Learning((8,), num_worlds=8, algorithm=algorithm, hyperparameters=settings, replay="keep")
    agent, draws = (
        Agent.new(whole(make(CATCH, 1, 0).schema), {"hidden": [8]}, algorithm=algorithm),
        np.random.default_rng(0),
    )
    pictures = [
        agent.schema.unpack(draws.integers(0, 2, (200, *agent.schema.observation_space.shape)).astype(np.uint8))
        for _ in "ab"
    ]
    kept = {
        "observations": pictures[0], "next_observations": pictures[1], "actions": np.arange(200) % 6,
        "rewards": draws.standard_normal(200), "terminated": np.zeros(200, bool),
    }  # fmt: skip
    learner = Target(CATCH, learning, 0).learner(replace(agent, replay=kept))
    left = learner.replay_buffer.state().columns["actions"][: learner.replay_buffer.written]
    assert len(left) == 134 and set(left.tolist()) == {0, 1, 3, 5}
    before = learner.policy.heads.critic.weight.detach().clone()
    learner.learn(128)
    learner.env.close()
    moved = (learner.policy.heads.critic.weight.detach() != before).view(6, -1).any(1)
    assert moved.tolist() == [True, True, False, True, False, True]


def test_the_target_of_q_learning_is_the_best_of_what_is_present():
    learner = DQN(env=make(CATCH, 2, 0), seed=0, gamma=0.5, learning_rate=0.0, policy_kwargs={"hidden": [4]})
    for part in (learner.policy, learner.policy.target):
        with torch.no_grad():
            part.heads.critic.weight.zero_()
            part.heads.critic.bias.copy_(torch.tensor([1.0, 2.0, 90.0, 3.0, 90.0, 0.0]))
    seen = np.zeros((4, learner.policy.layout.size), np.uint8)
    learner._ruler, learner._moving = learner.policy.kernel.ruler(), learner.optimizer.names
    one = np.ones(4, np.float32)
    batch = Batch(np.concatenate([seen, seen]), np.array([0, 1, 3, 5]), one, one < 0)
    found = learner._update(batch)
    learner.env.close()
    # 1 + 0.5 * 3 = 2.5 against 1, 2, 3, 0: errors 1.5, 0.5, 0.5, 2.5 and Huber's 1, 0.125, 0.125, 2.
    assert found["loss"] == pytest.approx((1 + 0.125 + 0.125 + 2) / 4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_agent_moves_with_its_whole_head_and_the_targets_mask(algorithm):
    agent = agent_of(algorithm, "picture")
    there = agent.at(whole(agent.schema))
    assert agent.at(SCHEMAS["picture"]) is agent and there.schema == whole(agent.schema)
    states = agent.policy.state_dict(), there.policy.state_dict()
    assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert np.isin(there.act(rows("picture")), GONE).all()  # which it would have liked most
    back = there.at(agent.schema)
    assert np.array_equal(back.act(rows("picture")), agent.act(rows("picture")))
    agent.schema.require_same(there.schema)


@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn"])
def test_students_do_not_learn_what_absent_choices_are_worth(algorithm):
    agent = agent_of(algorithm, "picture")
    found = values(agent.policy, torch.from_numpy(rows("picture", 5)), torch.zeros(5))
    assert found.shape == (5, 3 * (3 if algorithm == "qrdqn" else 1)) and found.abs().max() < 40


def test_a_bundle_knows_what_is_absent(tmp_path):
    agent = agent_of("dqn", "picture")
    known = load(agent.save(tmp_path / "agent"))
    assert known.schema == agent.schema and known.schema.action[0].absent == ABSENT
    assert np.array_equal(known.act(rows("picture")), agent.act(rows("picture")))


@pytest.mark.parametrize("algorithm", ["ppo", "qrdqn"])
def test_a_deployed_policy_has_its_mask(algorithm):
    pytest.importorskip("onnx", reason="needs the packages of the extra export")
    from simreal_agents.export import TOLERANCE, Deployed, largest_difference, to_onnx

    agent = agent_of(algorithm, "picture")
    with torch.no_grad():
        action, *_ = Deployed(agent)({"observation": torch.from_numpy(rows("picture"))}).values()
    assert np.array_equal(action.numpy(), agent.act(rows("picture")))
    model = to_onnx(agent)
    assert largest_difference(model, agent, rows("picture", 64)) <= TOLERANCE
    assert largest_difference(model, agent.at(whole(agent.schema)), rows("picture", 64)) > 0.1


def test_sb3_is_not_given_what_it_cannot_mask(tmp_path):
    with pytest.raises(Unsupported, match="SB3's policies would make them"):
        save_zip(agent_of("ppo", "vector"), tmp_path / "agent.zip")


def test_where_nothing_is_absent_there_is_no_mask():
    policy = Agent.new(whole(SCHEMAS["vector"]), {"hidden": [4]}).policy
    assert policy.absent is None and not policy.heads.actor._forward_hooks
    assert not [name for name, _ in policy.named_buffers() if "absent" in name]
    assert agent_of("ppo", "vector").policy.state_dict().keys() == policy.state_dict().keys()


def test_every_task_leaves_out_its_own():
    shown = Schema((FORMS["picture"], Field("task", "1", ("a", "b"), 0.0, 1.0)), (replace(CHOICE, absent=()),), 0.1)
    space = Choices(np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]))
    policy = Policy(shown.observation_space, space, lambda _: 0.0, hidden=[8], tasks=2)
    seen = np.zeros((400, 52), np.float32)
    seen[:200, 50], seen[200:, 51] = 1, 1
    made = policy.act(seen, False, torch.Generator().manual_seed(0))
    assert set(made[:200]) == {0, 1, 2} and set(made[200:]) == {3, 4, 5}
    with pytest.raises(UserError, match="need a head for each"):
        absence(space)


def test_only_choices_can_be_absent_and_not_all_of_them():
    with pytest.raises(UserError, match="only choices may be absent"):
        Field("force", "1", ("x",), absent=("x",))
    with pytest.raises(UserError, match="not all of"):
        replace(CHOICE, absent=LABELS)
