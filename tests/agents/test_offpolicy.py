"""What SAC, TD3 and TQC have in common: experience, what may move, and a state to continue from."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from kinds import differing, tensors

from simreal_agents import bundle
from simreal_agents.algorithms import find_algorithm
from simreal_agents.sac import SAC
from simreal_agents.vecenv import SB3Worlds
from simreal_envs.errors import Unsupported, UserError

ALL = pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
TOWERS = {
    "actor": ("encoder.actor", "trunk.actor", "heads.actor"),
    "critic": ("encoder.critic", "trunk.critic", "heads.critic"),
}


@pytest.fixture
def make_learner(point_mass):
    """Build a small learner over the point masses; keyword arguments override."""

    def build(algorithm="sac", env=None, seed=0, network=None, **kwargs):
        settings = {"learning_starts": 64, "batch_size": 32, "buffer_size": 5000, "learning_rate": 1e-3, **kwargs}
        network = {"hidden": [16, 16], **(network or {})}
        return find_algorithm(algorithm)(
            env=point_mass(8) if env is None else env, seed=seed, policy_kwargs=network, **settings
        )

    return build


def test_updates_keep_step_with_transitions(make_learner):
    learner = make_learner(train_freq=3)
    learner.learn(192)
    assert learner.rollout_size == 24
    # Rollouts end at 24, 48, 72, ..: 72 is the first one beyond learning_starts.
    assert learner._n_updates == 192 - 48
    fewer = make_learner(gradient_steps=2)
    fewer.learn(128)
    assert fewer._n_updates == 2 * 8


def test_before_learning_starts_actions_are_uniform(make_learner):
    learner = make_learner(learning_starts=1000)
    before = tensors(learner)
    learner.learn(1000)
    actions = learner.replay_buffer.state().columns["actions"][:1000, 0]
    assert np.histogram(actions, 4, (-1, 1))[0].min() > 200
    assert {name.split(".")[1] for name in differing(before, tensors(learner))} == {"normalizer"}


def test_a_replay_buffer_is_no_pickle_but_goes_with_the_agent(make_learner, tmp_path):
    learner, other = make_learner(), make_learner(seed=1)
    learner.learn(160)
    for refused in (learner.save_replay_buffer, learner.load_replay_buffer):
        with pytest.raises(Unsupported, match=r"Agent\.of\(learner, replay=True\).*\.replay_buffer\.add\("):
            refused(tmp_path / "replay")
    folder = bundle.Agent.of(learner, replay=True).save(tmp_path / "agent")
    other.replay_buffer.add(**bundle.load(folder).replay)
    for name, column in learner.replay_buffer.state().columns.items():
        np.testing.assert_array_equal(other.replay_buffer.state().columns[name][:160], column[:160])


def test_a_call_that_ends_before_learning_starts_says_so(make_learner, caplog):
    learner = make_learner(learning_starts=64, train_freq=3)  # rollouts of 24 steps
    learner.learn(48)
    assert [record.getMessage() for record in caplog.records] == [
        "simreal: warning: SAC learns nothing in this call: it ends at step 48, and updates begin after learning_starts=64"
    ]
    learner.learn(0, reset_num_timesteps=False)
    learner.learn(10, reset_num_timesteps=False)  # up to 72
    make_learner(learning_starts=64, train_freq=3).learn(64)
    assert learner._n_updates > 0 and len(caplog.records) == 1


def test_a_truncated_episode_goes_on_in_the_buffer_and_a_terminated_one_does_not(make_learner, point_mass):
    class Short(point_mass):
        limit = 7

        def step(self, actions):
            if self.age[0] == 3:
                self.state[0, 0] = 4.0  # beyond 3 m
            result = super().step(actions)
            self.finals = [*getattr(self, "finals", []), self.final_observation.copy()]
            self.ends = [*getattr(self, "ends", []), (result[2].copy(), result[3].copy())]
            return result

    worlds = Short(4)
    make_learner(env=worlds, learning_starts=1000).learn(80)
    learner = make_learner(env=worlds, learning_starts=1000)
    worlds.finals, worlds.ends = [], []
    learner.learn(80)
    columns, (terminated, truncated) = learner.replay_buffer.state().columns, np.array(worlds.ends).swapaxes(0, 1)
    assert 0 < terminated.sum() < 80 and 0 < (truncated & ~terminated).sum() < 80
    np.testing.assert_array_equal(columns["terminated"][:80], terminated.ravel())
    np.testing.assert_allclose(columns["next_observations"][:80], np.array(worlds.finals).reshape(80, 3), rtol=1e-6)


@ALL
@pytest.mark.parametrize(("frozen", "moving"), [("actor", "critic"), ("critic", "actor")])
def test_a_tower_learns_while_the_other_one_is_frozen(make_learner, algorithm, frozen, moving):
    learner = make_learner(algorithm)
    learner.learn(128)
    before = tensors(learner)
    learner.freeze([frozen])
    learner.learn(64, reset_num_timesteps=False)
    changed = differing(before, tensors(learner))
    still = (*TOWERS[frozen], "heads.log_std") if frozen == "actor" else TOWERS[frozen]
    assert not any(name.startswith(still) for name in changed)
    assert all(any(name.startswith(part) for name in changed) for part in TOWERS[moving])
    if algorithm != "td3":
        assert ("heads.temperature" in changed) == (frozen == "critic")


def test_learning_rate_scales_hold(make_learner):
    learner = make_learner(lr_scale={"critic": 0.0})
    before = tensors(learner)
    learner.learn(128)
    changed = differing(before, tensors(learner))
    assert "heads.actor.weight" in changed and "heads.critic.weight" not in changed


@ALL
def test_the_length_of_gradients_is_bounded(make_learner, algorithm):
    learner = make_learner(algorithm, max_grad_norm=1e-13)  # far below Adam's epsilon
    before = tensors(learner)
    learner.learn(128)
    for name, tensor in tensors(learner).items():
        if not name.startswith("encoder.normalizer"):
            torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-5)


@ALL
def test_a_gradient_that_is_not_finite_leaves_the_weights(make_learner, algorithm):
    learner = make_learner(algorithm)
    learner.learn(128)
    before = tensors(learner)
    learner.replay_buffer.state().columns["rewards"][:] = np.inf
    with pytest.raises(FloatingPointError, match="left as they were"):
        learner.train(1, 32)
    assert not differing(before, tensors(learner))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_stops_training(make_learner, point_mass, value):
    worlds = point_mass(8)
    learner = make_learner(env=worlds)
    learner.learn(128)
    before, written = tensors(learner), learner.replay_buffer.written
    worlds.poison = value
    with pytest.raises(FloatingPointError, match="world 1 returned an observation that is not finite"):
        learner.learn(64, reset_num_timesteps=False)
    assert not differing(before, tensors(learner)) and learner.replay_buffer.written == written


def test_extra_losses_are_told_actions_as_the_worlds_took_them():
    seen, modes = [], {"autoreset_mode": AutoresetMode.SAME_STEP}
    worlds = gymnasium.make_vec("Pendulum-v1", 2, vectorization_mode="sync", vector_kwargs=modes)  # torques to 2 N m
    settings = {"learning_starts": 8, "batch_size": 16, "buffer_size": 64}
    learner = SAC(
        env=SB3Worlds(worlds), seed=0, policy_kwargs={"hidden": [8]}, **settings,
        loss_terms=[lambda policy, batch: seen.append(batch["actions"])],
    )  # fmt: skip
    learner.learn(32)
    kept = learner.replay_buffer.state().columns["actions"]
    assert torch.cat(seen).abs().max() > 1.5 and np.abs(kept).max() <= 1.0
    worlds.close()


def test_extra_losses_see_observations_that_the_networks_can_read():
    modes = {"autoreset_mode": AutoresetMode.SAME_STEP}
    worlds = gymnasium.make_vec("InvertedPendulum-v5", 2, vectorization_mode="sync", vector_kwargs=modes)
    assert worlds.single_observation_space.dtype == np.float64
    settings = {"learning_starts": 8, "batch_size": 16, "buffer_size": 64}
    learner = SAC(
        env=SB3Worlds(worlds), seed=0, policy_kwargs={"hidden": [8]}, **settings,
        loss_terms=[lambda policy, batch: policy.actor_features(batch["observations"]).square().mean()],
    )  # fmt: skip
    learner.learn(32)
    worlds.close()


def test_actions_reach_the_worlds_in_their_own_units():
    same_step = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
    envs = gymnasium.make_vec("Pendulum-v1", 2, **same_step)  # torques within 2 N m
    learner = SAC(env=envs, seed=0, learning_starts=20, batch_size=16, policy_kwargs={"hidden": [8]}, buffer_size=1000)
    learner.learn(60)
    stored = learner.replay_buffer.state().columns["actions"][:60]
    assert 0.9 < np.abs(stored).max() <= 1.0
    assert np.abs(learner.policy.act(np.full((1, 3), 1e3, np.float32))).max() <= 2.0
    np.testing.assert_allclose(learner.policy.kernel.applied(np.array([[-1.0], [0.5]])), [[-2.0], [1.0]])


def test_what_is_not_supported_says_so(make_learner):
    for settings, says in (
        ({"device": "cuda"}, "computes on the CPU, got device 'cuda'"),
        ({"use_sde": True}, "SAC has no use_sde"),
        ({"n_steps": 3}, "learns from single steps, got n_steps=3"),
        ({"optimize_memory_usage": True}, "SAC has no optimize_memory_usage"),
        ({"train_freq": (1, "episode")}, "train_freq counts steps of all worlds, not episodes"),
    ):
        with pytest.raises(Unsupported, match=says):
            make_learner(**settings)
    with pytest.raises(UserError, match="n_critics must be at least 1"):
        make_learner(network={"n_critics": 0})
    with pytest.raises(UserError, match="did you mean 'relu'"):
        make_learner(network={"activation": "rely"})
    with pytest.raises(UserError, match="batch_size and train_freq"):
        make_learner(batch_size=0)
    with pytest.raises(UserError, match="top_quantiles_to_drop_per_net"):
        make_learner("tqc", network={"n_quantiles": 3}, top_quantiles_to_drop_per_net=3)
