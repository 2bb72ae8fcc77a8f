"""What every learner has: options per part of the network, parts drawn anew, and a state to continue from."""

import copy
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from kinds import LEARNERS, differing, learner_of, tensors, worlds_of
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from simreal_agents.additions import Addition
from simreal_agents.algorithms import ALGORITHMS, find_algorithm
from simreal_agents.bundle import Agent, load, load_into
from simreal_agents.ppo import PPO
from simreal_agents.sac import SAC
from simreal_agents.sb3.names import KINDS
from simreal_agents.vecenv import SB3Worlds
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.variation import Domain, Randomization, Uniform
from simreal_envs.worlds import make


def learner(dropout=0.0, seed=3):
    worlds = make(Domain("cartpole_swingup", variation=Randomization({"pole/mass": Uniform(0.05, 0.2)})), 8, seed)
    network = {"hidden": [16, 8]} | ({"dropout": dropout} if dropout else {})
    return PPO(env=worlds, n_steps=8, batch_size=32, n_epochs=2, seed=seed, policy_kwargs=network)


every_learner = pytest.mark.parametrize(("algorithm", "form"), LEARNERS)
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@every_learner
def test_a_run_that_was_cut_in_two_ends_with_the_same_bits(algorithm, form):
    states = []

    def keep(learner, progress):
        if learner.num_timesteps == 96:
            states.append(copy.deepcopy(learner.training_state()))

    straight = learner_of(algorithm, form, progress_hooks=[keep]).learn(160)
    again = learner_of(algorithm, form, seed=7)
    again.learn(64)  # whatever it did before is forgotten
    again.restore_training_state(states[0])
    again.learn(64, reset_num_timesteps=False)
    assert straight.num_timesteps == again.num_timesteps == 160
    assert straight._n_updates == again._n_updates > 0
    assert not differing(tensors(straight), tensors(again))
    for one, other in zip(*(run.optimizer.snapshot()["moments"] for run in (straight, again)), strict=True):
        assert torch.equal(one, other)
    assert [e["r"] for e in straight.ep_info_buffer] == [e["r"] for e in again.ep_info_buffer]
    np.testing.assert_equal(*(run.training_state()["counters"] for run in (straight, again)))
    if algorithm != "ppo":
        for name, column in straight.replay_buffer.state().columns.items():
            assert np.array_equal(column, again.replay_buffer.state().columns[name]), name


@every_algorithm
def test_same_seed_gives_the_same_bits_and_leaves_global_random_state_alone(algorithm):
    torch.manual_seed(5)
    np.random.seed(5)
    global_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    learners = [learner_of(algorithm, seed=seed) for seed in (1, 1, 2)]
    begun = [tensors(ours) for ours in learners]
    runs = [tensors(ours.learn(96)) for ours in learners]
    for one, same, other in (begun, runs):
        assert not differing(one, same) and "heads.critic.weight" in differing(one, other)
    assert torch.equal(global_state[0], torch.get_rng_state())
    assert np.array_equal(global_state[1], np.random.get_state()[1])


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "td3", "dqn"])
def test_as_many_threads_as_there_are_lead_to_the_same_bits(algorithm):
    def trained(threads):
        made = small(algorithm, doubles(algorithm == "dqn"), hidden=[128, 128], batch=256)
        made.threads = threads
        return tensors(made.learn(600))

    assert not differing(trained(1), trained(2))


@pytest.mark.parametrize("threads", [1, 2])
def test_what_an_addition_computes_has_the_threads_that_torch_has(threads, monkeypatch):
    class Listener(Addition):
        seen: ClassVar[set[int]] = set()

        def gradient(self, optimizer):
            self.seen.add(torch.get_num_threads())

    monkeypatch.setattr("simreal_agents.products._AMD", True)
    torch.set_num_threads(2)
    try:
        learner = small("ppo", doubles(False))
        learner.threads = threads
        learner.attach("listener", Listener())
        learner.learn(8)
        assert Listener.seen == {2}
    finally:
        torch.set_num_threads(1)


@every_learner
def test_a_frozen_encoder_stands_still_until_it_is_thawed(algorithm, form):
    ours = learner_of(algorithm, form).learn(64)
    before = tensors(ours)
    ours.freeze(["encoder"], normalizer="keep")
    ours.learn(64, reset_num_timesteps=False)
    moved = differing(before, tensors(ours))
    assert not any(name.startswith("encoder") for name in moved)
    parts = ["trunk.critic", "heads.critic", *([] if "dqn" in algorithm else ["trunk.actor", "heads.actor"])]
    assert all(any(name.startswith(part) for name in moved) for part in parts)
    ours.thaw()
    ours.learn(64, reset_num_timesteps=False)
    moved = {name.split(".")[1] for name in differing(before, tensors(ours)) if name.startswith("encoder")}
    towers = {"critic"} if "dqn" in algorithm else {"actor", "critic"}
    assert moved == (towers if form == "vector" else {"shared"}) | ({"normalizer"} if form != "picture" else set())


@pytest.mark.parametrize(("algorithm", "form"), [kind for kind in LEARNERS if kind[0] != "ppo"])
def test_an_extra_loss_adds_its_gradient_to_every_part_that_it_reaches(algorithm, form):
    shapes, shared = {}, ["encoder.shared.linear.bias"] if form != "vector" else []
    names = ["heads.critic.bias", *([] if "dqn" in algorithm else ["heads.actor.bias"]), *shared]

    def pull(policy, batch):
        shapes.update({name: tuple(tensor.shape) for name, tensor in batch.items()})
        return sum(1e6 * (policy.get_parameter(name) - 5.0).square().sum() for name in names)

    ours = learner_of(algorithm, form, loss_terms=[pull]).learn(48)
    groups = {name: ours.optimizer.group(".".join(name.split(".")[:2])) for name in names}
    before, steps = tensors(ours), {name: group["step"] for name, group in groups.items()}
    ours.train(6, 16)
    for name, group in groups.items():
        # Adam's steps are as long as the learning rate while the gradient hardly changes.
        moved, done = tensors(ours)[name] - before[name], group["step"] - steps[name]
        assert done > 0
        np.testing.assert_allclose(moved, done * 1e-3, rtol=0.02, err_msg=name)
    size = ours.policy.layout.size
    assert shapes == {
        "observations": (16, size), "next_observations": (16, size), "rewards": (16,), "terminated": (16,),
        "actions": (16,) if "dqn" in algorithm else (16, 1),
    }  # fmt: skip


@every_learner
def test_a_bundle_and_a_zip_bring_it_back(algorithm, form, tmp_path):
    ours = learner_of(algorithm, form, lr_scale={"encoder": 0.5}).learn(64)
    agent = load(Agent.of(ours).save(tmp_path / "agent"))
    assert agent.algorithm == algorithm and agent.card["hyperparameters"]["batch_size"] == 16
    assert not differing(tensors(ours), tensors(agent))
    seen, _ = worlds_of(algorithm, form).reset(seed=3)
    rows = ours.policy.layout.flatten(seen)
    assert np.array_equal(agent.act(seen), ours.policy.act(rows))
    assert np.array_equal(agent.value(seen), ours.policy.value(rows))
    drawn = [
        one.act(given, False, torch.Generator().manual_seed(0)) for one, given in ((agent, seen), (ours.policy, rows))
    ]
    assert np.array_equal(*drawn)
    other = learner_of(algorithm, form, seed=5)
    load_into(other, agent)
    assert not {name for name in differing(tensors(ours), tensors(other)) if not name.startswith("reward_scaler")}
    ours.save(tmp_path / "model.zip")
    again = type(ours).load(tmp_path / "model.zip", env=worlds_of(algorithm, form))
    assert not differing(tensors(ours), tensors(again)) and again.hyperparameters == ours.hyperparameters
    for one, other in ((ours._noise, again._noise), (ours._order, again._order)):
        assert torch.equal(one.get_state(), other.get_state())
    again.learn(64)


@every_algorithm
def test_a_part_is_drawn_anew_as_the_seed_had_it_and_its_target_with_it(algorithm):
    ours = learner_of(algorithm)
    fresh = tensors(ours)
    learned = tensors(ours.learn(96))
    ours.reinitialize(["critic"])
    now, drawn = tensors(ours), {name for name in fresh if ".critic." in name}
    assert differing(fresh, learned) & drawn == differing(learned, now) and not differing(fresh, now) & drawn
    assert {"heads.critic.weight"} <= differing(learned, now)
    assert ours.optimizer.group("heads.critic")["step"] == 0
    assert "dqn" in algorithm or ours.optimizer.group("heads.actor")["step"] > 0


def interrupted(make_learner, at, total):
    """The weights of a run that was cut in two, with a new learner for the second part."""
    first, states = make_learner(), []
    first.progress_hooks.append(
        lambda ppo, progress: states.append(copy.deepcopy(ppo.training_state())) if ppo.num_timesteps == at else None
    )
    first.learn(total)
    second = make_learner()
    second.learn(64)  # whatever it did before is forgotten
    second.restore_training_state(states[0])
    second.learn(total - at, reset_num_timesteps=False)
    assert second.num_timesteps == first.num_timesteps == total
    return first, second


def test_a_run_with_dropout_that_was_cut_in_two_ends_with_the_same_bits():
    first, second = interrupted(lambda: learner(0.2), at=192, total=448)
    assert differing(tensors(first), tensors(second)) == set()
    for a, b in zip(first.optimizer.snapshot()["moments"], second.optimizer.snapshot()["moments"], strict=True):
        assert torch.equal(a, b)
    assert first._n_updates == second._n_updates
    assert [e["r"] for e in first.ep_info_buffer] == [e["r"] for e in second.ep_info_buffer]


def test_what_is_frozen_scaled_and_bounded_continues_so():
    def make_learner():
        ppo = learner()
        ppo.freeze(["encoder"], normalizer="keep")
        ppo.set_lr_scale({"heads.critic": 0.5})
        ppo.set_options(["trunk"], weight_decay=0.1, max_grad_norm=0.05)
        return ppo

    first, _ = interrupted(make_learner, at=128, total=256)
    fresh = learner()
    fresh.learn(64)
    fresh.restore_training_state(first.training_state())
    assert fresh.optimizer.group("encoder.actor")["frozen"] and fresh.policy.encoder.normalizer.frozen
    assert not fresh.policy.encoder.actor[0].weight.requires_grad
    assert fresh.optimizer.group("heads.critic")["lr_scale"] == 0.5
    assert fresh.optimizer.group("trunk.actor")["weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"hidden": [8, 8]}, r"another learner: encoder.actor.0.weight is \[16, 5\] there and \[8, 5\] here"),
        ({"hidden": [16]}, r"another learner: trunk.actor.0.weight is \[8, 16\] there and missing here"),
        ({"num_worlds": 4}, "the snapshot is of 8 worlds .* these are 4 worlds"),
        ({"algorithm": SAC}, "the training state is of another learner: "),
    ],
)
def test_a_state_of_another_learner_is_refused_and_changes_nothing(other, says):
    settings = {"algorithm": PPO, "num_worlds": 8, "hidden": [16, 8]} | other
    domain = Domain("cartpole_swingup", variation=Randomization({"pole/mass": Uniform(0.05, 0.2)}))
    there = settings["algorithm"](
        env=make(domain, settings["num_worlds"], 0), policy_kwargs={"hidden": settings["hidden"]}
    )
    here = learner().learn(64)
    before = tensors(there)
    with pytest.raises(UserError, match=says) as refusal:
        there.restore_training_state(here.training_state())
    assert "\n" not in str(refusal.value)
    assert not differing(before, tensors(there)) and there.num_timesteps == 0


@pytest.mark.parametrize("wrong", [None, {}, {"policy": {}}, "state"])
def test_what_is_no_training_state_is_refused(wrong):
    with pytest.raises(UserError, match=r"what training_state\(\) of a learner like this one gives"):
        learner().restore_training_state(wrong)


@pytest.mark.parametrize("told", [{"encoder.shared": 0.1}, {"heads.temperature": 0.1}])
def test_what_is_told_to_a_part_that_the_network_lacks_is_refused(told):
    ppo = learner()
    (name,) = told
    with pytest.raises(UserError, match=f"lr_scale: the network has no '{name}'; .*valid: encoder.actor, "):
        ppo.set_lr_scale(told)
    with pytest.raises(UserError, match=f"set_options: the network has no '{name}'"):
        ppo.set_options([name], weight_decay=0.1)
    for call in (ppo.freeze, ppo.thaw, ppo.reinitialize):
        with pytest.raises(UserError, match=f"{call.__name__}: the network has no '{name}'"):
            call(["trunk", name])
    assert not any(group["frozen"] for group in ppo.optimizer.param_groups)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1, "x", None, True, [1.0]])
def test_scales_and_options_are_finite_numbers(wrong):
    ppo = learner()
    before = ppo.optimizer.snapshot()["groups"]
    with pytest.raises(UserError, match="lr_scale of 'trunk' must be a finite number that is not negative, got"):
        ppo.set_lr_scale({"trunk": wrong})
    with pytest.raises(UserError, match="lr_scale of 'trunk' must be at most 10,000, got 1e\\+300"):
        ppo.set_lr_scale({"trunk": 1e300})
    for option in ("weight_decay", "eps", *(["max_grad_norm"] if wrong is not None else [])):
        with pytest.raises(UserError, match=f"{option} must be a finite number that is not negative, got"):
            ppo.set_options(["trunk"], **{option: wrong})
    with pytest.raises(UserError, match="betas must be two numbers from 0 to below 1, got"):
        ppo.set_options(["trunk"], betas=(0.9, wrong))
    assert ppo.optimizer.snapshot()["groups"] == before


def test_numbers_of_any_kind_are_numbers():
    ppo = learner()
    ppo.set_lr_scale({"trunk": np.float32(0.5), "heads": 2, "encoder": 0})
    ppo.set_options(["trunk"], max_grad_norm=np.float32(0.25), betas=[0.5, 0.9], weight_decay=0)
    assert ppo.optimizer.group("trunk.actor")["lr_scale"] == 0.5
    ppo.set_options(["trunk"], max_grad_norm=None)
    ppo.learn(64)


@pytest.mark.parametrize("wrong", [0.1, None, "encoder", [("encoder", 0.1)]])
def test_a_scale_is_told_for_parts(wrong):
    said = r"lr_scale says for parts of the network by how much .* as \{'encoder': 0.1\}, got"
    with pytest.raises(UserError, match=said):
        learner().set_lr_scale(wrong)
    if wrong is not None:
        with pytest.raises(UserError, match=said):
            PPO(env=SB3Worlds(make(Domain("cartpole_swingup"), 2)), lr_scale=wrong)


def test_what_is_no_name_of_a_part_is_refused():
    ppo = learner()
    with pytest.raises(UserError, match="lr_scale: unknown module 1; valid: "):
        ppo.set_lr_scale({1: 0.1})
    with pytest.raises(UserError, match=r"freeze: parts of a network are named, as \['encoder'\], got 3"):
        ppo.freeze(3)


@pytest.mark.parametrize("wrong", [lambda policy, batch: None, [3], None])
@pytest.mark.parametrize("what", ["loss_terms", "progress_hooks"])
def test_losses_and_hooks_are_lists_of_functions(what, wrong):
    with pytest.raises(UserError, match=rf"{what} must be a list of functions of \(.*\), got"):
        PPO(env=SB3Worlds(make(Domain("cartpole_swingup"), 2)), **{what: wrong})


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize("wrong", ["100", None, float("nan"), -1, [64]])
def test_a_learner_is_told_a_number_of_steps(algorithm, wrong):
    learner = find_algorithm(algorithm)(env=make(Domain("cartpole_swingup"), 2))
    with pytest.raises(UserError, match="total_timesteps must be a finite number that is not negative, got"):
        learner.learn(wrong)


@pytest.mark.parametrize(
    ("algorithm", "settings", "says"),
    [
        ("dqn", {}, "DQN: The algorithm only supports .*Discrete.* as action spaces but Box"),
        ("ppo", {"n_steps": 1, "num_worlds": 1}, "PPO: `n_steps \\* n_envs` must be greater than 1"),
    ],
)
def test_what_stock_algorithms_assert_is_a_sentence(algorithm, settings, says):
    worlds = make(Domain("cartpole_swingup"), settings.pop("num_worlds", 2))
    with pytest.raises(UserError, match=says):
        find_algorithm(algorithm)(env=worlds, **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"policy": "MlpPolicyy"}, "PPO: Policy MlpPolicyy unknown"),
        ({"env": 3}, "PPO: The environment is of type <class 'int'>, not a Gymnasium environment"),
        ({"learning_rate": -1}, "PPO: Invalid learning rate: -1.0"),
        ({"seed": "a"}, "PPO: seed must be a whole number, got 'a'"),
        ({"seed": 1.5}, "PPO: seed must be a whole number, got 1.5"),
        ({"seed": -1}, "a seed must be a whole number that is not negative, got -1"),
        ({"policy_kwargs": ["hidden"]}, r"policy_kwargs must be a mapping .* not \['hidden'\]"),
        ({"policy_kwargs": {"hidden": 64}}, "hidden must list at least one positive layer width, .* got 64"),
        ({"policy_kwargs": {"hidden": "64"}}, "hidden must list at least one positive layer width, .* got '64'"),
        ({"policy_kwargs": {"hidden": [64.5]}}, r"hidden must list at least one positive layer width, .* got \[64.5\]"),
        ({"policy_kwargs": {"hidden": None}}, "hidden must list at least one positive layer width, .* got None"),
        ({"policy_kwargs": {"dropout": "a"}}, "dropout must be a number from 0 to below 1, got a"),
    ],
)
def test_settings_of_the_wrong_kind_are_one_sentence(settings, says):
    with pytest.raises(UserError, match=says) as refusal:
        PPO(**{"policy": "MlpPolicy", "env": make(Domain("cartpole_swingup"), 2), "n_steps": 32, **settings})
    assert "\n" not in str(refusal.value)


class Watcher(BaseCallback):
    """Remembers what it is told of every step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        self.seen.append({name: copy.copy(self.locals[name]) for name in ("new_obs", "rewards", "dones", "infos")})
        return True


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize("monitored", [True, False])
def test_callbacks_are_told_what_stock_learners_tell_them(algorithm, monitored):
    worlds = SB3Worlds(make(Domain("pendulum_swingup"), 3, seed=0))
    settings = {"n_steps": 64} if algorithm == "ppo" else {"learning_starts": 10_000}
    learner = find_algorithm(algorithm)(env=VecMonitor(worlds) if monitored else worlds, **settings)
    watcher = Watcher()
    learner.learn(3_000, callback=[watcher, StopTrainingOnMaxEpisodes(2)])  # of each of the worlds
    dones = np.array([step["dones"] for step in watcher.seen])
    assert dones.sum() == 6 and dones[-1].all() and len(learner.ep_info_buffer) == 6
    last = watcher.seen[-1]
    assert last["new_obs"].shape == (3, 3) and last["rewards"].shape == (3,)
    assert all(info["TimeLimit.truncated"] and info["terminal_observation"].shape == (3,) for info in last["infos"])
    assert all(("episode" in info) == monitored for info in last["infos"])
    assert watcher.seen[0]["infos"] == [{}] * 3


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), None, "x"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_predicting_from_what_is_no_number_is_refused(wrong, deterministic):
    with pytest.raises(UserError, match="observations must be finite numbers, got"):
        learner().predict([0.0, 1.0, 0.0, 0.0, wrong], deterministic=deterministic)


@pytest.mark.parametrize("wrong", [{"heads.temperature": 2}, {"trunc": 2}, {"heads": -1}])
def test_scales_that_are_refused_change_nothing(wrong):
    ppo = learner()
    ppo.set_lr_scale({"encoder": 0.1})
    before = [group["lr_scale"] for group in ppo.optimizer.param_groups]
    with pytest.raises(UserError):
        ppo.set_lr_scale({"trunk": 0.5, **wrong})
    assert [group["lr_scale"] for group in ppo.optimizer.param_groups] == before


def test_one_name_may_stand_by_itself():
    ppo = learner()
    ppo.freeze("encoder")
    assert [group["frozen"] for group in ppo.optimizer.param_groups if group["name"].startswith("encoder.")] == [
        True
    ] * 2
    ppo.set_options("trunk", weight_decay=0.1)
    assert ppo.optimizer.group("trunk.critic")["weight_decay"] == 0.1


def test_worlds_without_a_snapshot_cannot_be_continued(point_mass):
    ppo = PPO(env=SB3Worlds(point_mass(4)), n_steps=8, batch_size=32)
    ppo.learn(32)
    with pytest.raises(Unsupported, match="PointMass has no snapshot"):
        ppo.training_state()


def test_the_actor_stands_still_while_the_critic_warms_up():
    ppo = learner()
    ppo.learn(128)
    ppo.freeze(["actor"])
    before = tensors(ppo)
    ppo.learn(128)
    moved = differing(before, tensors(ppo))
    assert not any(".actor" in name or "log_std" in name for name in moved)
    assert {"encoder.critic.0.weight", "trunk.critic.0.weight", "heads.critic.weight"} <= moved
    ppo.thaw(["actor"])
    ppo.learn(128)
    assert "heads.actor.weight" in differing(before, tensors(ppo))


@pytest.mark.parametrize("names", [["encoder"], "encoder.critic", ["actor"]])
def test_what_a_frozen_encoder_is_given_stands_still_with_it(names):
    ppo = learner()
    ppo.learn(64)
    ppo.freeze(names)
    before = tensors(ppo)
    ppo.learn(64)
    assert not any(name.startswith("encoder.normalizer") for name in differing(before, tensors(ppo)))
    ppo.freeze([], normalizer="update")
    ppo.learn(64)
    assert "encoder.normalizer.mean" in differing(before, tensors(ppo))


def test_freezing_something_else_leaves_stopped_statistics_stopped():
    ppo = learner()
    ppo.freeze(["encoder"], normalizer="keep")
    ppo.freeze(["heads.actor"])
    ppo.learn(64)
    assert ppo.policy.encoder.normalizer.frozen and not ppo.policy.encoder.normalizer.count.any()
    ppo.freeze([], normalizer="update")
    ppo.learn(64)
    assert ppo.policy.encoder.normalizer.count.all() and ppo.optimizer.group("encoder.actor")["frozen"]


@pytest.mark.parametrize(
    ("names", "rest"),
    [(["trunk"], True), (["encoder.actor"], True), (["encoder"], False), (["actor", "critic"], False)],
)
def test_stopped_statistics_rest_until_all_of_the_encoder_is_thawed(names, rest):
    ppo = learner()
    ppo.freeze(["encoder", "trunk"], normalizer="keep")
    ppo.thaw(names)
    ppo.learn(64)
    assert ppo.policy.encoder.normalizer.frozen == rest
    assert bool(ppo.policy.encoder.normalizer.count.any()) != rest
    ppo.thaw()
    assert not ppo.policy.encoder.normalizer.frozen


def test_weight_decay_shrinks_only_what_it_was_set_for():
    ppo = learner()
    ppo.set_options(["trunk.critic"], weight_decay=0.5)
    before = tensors(ppo)
    ppo.optimizer.zero_grad()
    ppo.optimizer.clipped_step(1.0)
    assert differing(before, tensors(ppo)) == {"trunk.critic.0.weight"}  # its bias is zero
    shrunk = before["trunk.critic.0.weight"] * (1 - 3e-4 * 0.5)
    torch.testing.assert_close(tensors(ppo)["trunk.critic.0.weight"], shrunk)


def test_weight_decay_equals_adamw():
    ppo = learner()
    ppo.set_options(weight_decay=0.3)
    twin = [p.detach().clone().requires_grad_() for g in ppo.optimizer.param_groups for p in g["params"]]
    adamw = torch.optim.AdamW(twin, lr=3e-4, weight_decay=0.3, eps=1e-5)
    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        for mine, other in zip((p for g in ppo.optimizer.param_groups for p in g["params"]), twin, strict=True):
            mine.grad.copy_(torch.randn(mine.shape, generator=draw))
            other.grad = mine.grad.clone()
        ppo.optimizer.clipped_step(1e9)
        adamw.step()
    for mine, other in zip((p for g in ppo.optimizer.param_groups for p in g["params"]), twin, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_a_group_is_bounded_by_itself():
    ppo = learner()
    ppo.set_options(["critic"], max_grad_norm=0.1)
    ppo.optimizer.gradients.fill_(1.0)
    ppo.optimizer.clipped_step(1e9)
    for name in ppo.optimizer.names:
        norm = float(torch.cat([p.grad.ravel() for p in ppo.optimizer.group(name)["params"]]).norm())
        assert norm == pytest.approx(0.1, rel=1e-4) if "critic" in name else norm > 0.9, name


def test_only_the_groups_that_are_named_step():
    ppo = learner()
    ppo.optimizer.gradients.fill_(1.0)
    before = tensors(ppo)
    ppo.optimizer.clipped_step(0.5, ["heads.critic"])
    assert differing(before, tensors(ppo)) == {"heads.critic.weight", "heads.critic.bias"}
    assert ppo.optimizer.group("heads.actor")["step"] == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda ppo: ppo.set_options(["trunc"], weight_decay=0.1), "did you mean 'trunk'"),
        (lambda ppo: ppo.set_options(weigth_decay=0.1), "did you mean 'weight_decay'"),
        (lambda ppo: ppo.set_options(weight_decay=-1.0), "weight_decay must be a finite number that is not negative"),
        (lambda ppo: ppo.reinitialize(["critics"]), "did you mean 'critic'"),
        (lambda ppo: ppo.attach("mine", 3), "what is attached as 'mine' must be .* not 3"),
        (lambda ppo: PPO(env=ppo.env, n_stepz=8), "PPO: unknown setting 'n_stepz'; did you mean 'n_steps'"),
        (lambda ppo: PPO(env=ppo.env, n_steps=7.5), "PPO: n_steps must be a whole number, got 7.5"),
        (lambda ppo: PPO(env=ppo.env, max_grad_norm="a"), "PPO: max_grad_norm must be a number, got 'a'"),
        (lambda ppo: SAC(env=ppo.env, max_grad_norm="a"), "SAC: max_grad_norm must be a number, got 'a'"),
        (lambda ppo: SAC(env=ppo.env, buffer_size="a"), "SAC: buffer_size must be a whole number, got 'a'"),
        (lambda ppo: SAC(env=ppo.env, tau=lambda _: 1), "SAC: tau must be a number, got <function"),
        (lambda ppo: SAC(env=ppo.env, gamma=float("nan")), "SAC: gamma must be a number, got nan"),
        (
            lambda ppo: SAC(env=ppo.env, policy_kwargs={"n_critics": "a"}),
            "policy_kwargs: n_critics must be a whole number, got 'a'",
        ),
    ],
)
def test_mistakes_are_named(call, says):
    with pytest.raises(UserError, match=says):
        call(learner())


def test_a_state_that_is_kept_in_memory_stays_what_it_was():
    ppo = learner()
    ppo.learn(64)
    before, state = tensors(ppo), ppo.training_state()
    ppo.learn(64, reset_num_timesteps=False)
    after = tensors(ppo)
    for _ in range(2):
        ppo.restore_training_state(state)
        assert not differing(before, tensors(ppo))
        ppo.learn(64, reset_num_timesteps=False)
        assert not differing(after, tensors(ppo))


def test_numbers_of_numpy_are_numbers(tmp_path):
    settings = {"n_steps": np.int64(8), "gamma": np.float32(0.9), "batch_size": np.float64(32), "seed": np.int64(3)}
    agent = Agent.of(PPO(env=learner().env, **settings))
    card = load(agent.save(tmp_path / "agent", {"seed": np.int64(3)})).card
    assert (card["seed"], card["hyperparameters"]["n_steps"], card["hyperparameters"]["batch_size"]) == (3, 8, 32)
    assert agent.copy().card["hyperparameters"]["gamma"] == float(np.float32(0.9))


def test_dropout_leaves_acting_alone_and_has_a_seed():
    one, two = learner(0.5), learner(0.5)
    rows = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    assert np.array_equal(one.policy.act(rows), one.policy.act(rows))
    one.learn(128)
    torch.manual_seed(5)  # nobody listens
    two.learn(128)
    assert differing(tensors(one), tensors(two)) == set()


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_a_network_setting_of_stable_baselines3_is_refused_by_name(algorithm):
    with pytest.raises(UserError, match=r"policy_kwargs: unknown network setting .net_arch.; .*hidden"):
        algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [32]})


@every_algorithm
def test_the_settings_of_a_network_serve_several_learners(algorithm):
    env = gymnasium.make("CartPole-v1" if "dqn" in algorithm else "Pendulum-v1")
    network = {"hidden": [8, 8]}
    for seed in range(2):
        find_algorithm(algorithm)(env=env, seed=seed, policy_kwargs=network)
    assert network == {"hidden": [8, 8]}


@every_algorithm
def test_a_policy_of_stable_baselines3_is_refused_with_what_reads_its_zip(algorithm, tmp_path):
    stock = pytest.importorskip(KINDS[algorithm].where.partition(":")[0]) and KINDS[algorithm].load()
    env = gymnasium.make("CartPole-v1" if "dqn" in algorithm else "Pendulum-v1")
    stock("MlpPolicy", env, device="cpu", **({} if algorithm == "ppo" else {"buffer_size": 10})).save(
        tmp_path / "stock"
    )
    for attempt in (
        lambda: find_algorithm(algorithm).load(tmp_path / "stock"),
        lambda: find_algorithm(algorithm)(stock.policy_aliases["MlpPolicy"], env),
    ):
        with pytest.raises(Unsupported, match=rf"^{algorithm.upper()} needs simreal_agents\..* got s.*load_zip reads"):
            attempt()


def test_statistics_that_would_stay_behind_are_refused():
    def env(**settings):
        return VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]), **settings)

    for algorithm in ("ppo", "sac"):
        with pytest.raises(Unsupported, match=r"VecNormalize would stay behind .* norm_obs=False"):
            small(algorithm, env())
        small(algorithm, env(norm_obs=False)).learn(8)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize(
    ("loss", "says"),
    [(lambda w: 1.0, "gave a float$"), (lambda w: w.square().sum(1), r"gave a Tensor of shape \(8,\)$")],
)
def test_what_is_no_loss_is_named(algorithm, loss, says):
    def pulls(policy, batch):
        return loss(policy.trunk.actor[0].weight)

    ours = small(algorithm, gymnasium.make("Pendulum-v1"))
    ours.loss_terms.append(pulls)
    with pytest.raises(UserError, match=f"a loss term gives a scalar tensor or None, and .*pulls {says}"):
        ours.learn(32)


def doubles(choice):
    """Two copies of an environment of Gymnasium whose observations are float64, as those of MuJoCo are."""
    env = gymnasium.make("CartPole-v1" if choice else "Pendulum-v1")
    wide = gymnasium.spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float64)
    return gymnasium.wrappers.TransformObservation(env, lambda seen: seen.astype(np.float64), wide)


def small(algorithm, env, seed=0, hidden=(8, 8), batch=8):
    """A learner of any algorithm over an environment of Gymnasium."""
    starts = {"learning_starts": 2 * batch, "batch_size": 2 * batch}
    settings = {"n_steps": batch, "batch_size": batch} if algorithm == "ppo" else starts
    network = {"hidden": list(hidden)} | ({"critic_width": 8} if algorithm == "crossq" else {})
    return find_algorithm(algorithm)("MlpPolicy", env, seed=seed, policy_kwargs=network, **settings)


@every_algorithm
def test_a_learner_predicts_from_observations_of_any_number_type(algorithm):
    ours = small(algorithm, doubles("dqn" in algorithm)).learn(32)
    seen = ours.env.reset()
    assert seen.dtype == np.float64
    for given in (seen, list(seen[0])):
        acted, _ = ours.predict(given, deterministic=True)
        same, _ = ours.predict(np.asarray(given, np.float32), deterministic=True)
        np.testing.assert_array_equal(acted, same)


@every_algorithm
def test_predictions_that_are_drawn_have_a_seed_and_leave_global_random_state_alone(algorithm):
    ours = small(algorithm, gymnasium.make("CartPole-v1" if "dqn" in algorithm else "Pendulum-v1"))
    ours.exploration_rate = 0.5  # DQN's
    seen, before = np.tile(ours.env.reset(), (64, 1)), torch.get_rng_state()

    def drawn(seed):
        ours.set_random_seed(seed)
        return [ours.predict(seen)[0] for _ in range(2)]

    one, same, other = drawn(1), drawn(1), drawn(2)
    np.testing.assert_array_equal(one, same)
    assert torch.equal(before, torch.get_rng_state())
    if algorithm != "td3":  # whose policy has no noise
        assert (one[0] != one[1]).any() and (one[0] != other[0]).any()
