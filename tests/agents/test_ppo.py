import copy

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from kinds import differing, tensors
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from twins import collect, update_of_ppo_alike

from simreal_agents.ppo import PPO
from simreal_agents.vecenv import SB3Worlds
from simreal_envs.errors import Unsupported, UserError


class TwoDials(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size of 100")
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 64, "n_epochs": 4},
        {"batch_size": 100, "n_epochs": 2, "ent_coef": 0.01, "vf_coef": 0.3, "network": {"activation": "elu"}},
        {"batch_size": 64, "n_epochs": 10, "target_kl": 0.002, "learning_rate": 5e-3},
        {"batch_size": 64, "n_epochs": 2, "normalize_advantage": False, "max_grad_norm": 0.05},
    ],
)
def test_an_update_equals_stock_sb3_on_the_same_rollout_and_order(make_ppo, point_mass, settings, monkeypatch):
    ours = make_ppo(**settings)
    ours.learn(600)  # trained statistics
    stock = {"learning_rate": 1e-3, "n_steps": 16, **{k: v for k, v in settings.items() if k != "network"}}
    update_of_ppo_alike(ours, SB3Worlds(point_mass()), monkeypatch, **stock)


def test_a_rollout_equals_what_sb3_computes_from_the_same_actions(make_ppo):
    ppo = make_ppo(scale_rewards=False)
    ppo.learn(600)
    buffer = collect(ppo)
    flat = [torch.from_numpy(a.reshape(-1, a.shape[-1])) for a in (buffer.observations, buffer.actions)]
    with torch.no_grad():
        values, log_probs, _ = ppo.policy.evaluate_actions(*flat)
    np.testing.assert_allclose(buffer.values.ravel(), values[:, 0], atol=2e-5)
    np.testing.assert_allclose(buffer.log_probs.ravel(), log_probs, atol=2e-4)
    assert np.abs(buffer.actions).max() > 1.0, "actions are stored unclipped"


def test_a_truncated_world_is_bootstrapped_with_the_value_of_its_final_observation(make_ppo, point_mass):
    class Remembering(point_mass):
        def step(self, actions):
            result = super().step(actions)
            self.finals = [*getattr(self, "finals", []), self.final_observation.copy()]
            self.ends = [*getattr(self, "ends", []), result[3] & ~result[2]]
            return result

    worlds = Remembering()
    ppo = make_ppo(env=worlds, scale_rewards=False)
    reference = RolloutBuffer(16, ppo.observation_space, ppo.action_space, n_envs=16, gamma=0.99, gae_lambda=0.95)
    buffer = collect(ppo)
    ends = np.array(worlds.ends)
    assert 0 < ends.sum() < 16
    with torch.no_grad():
        finals = ppo.policy.predict_values(torch.from_numpy(np.array(worlds.finals).reshape(-1, 3))).numpy()
        last = ppo.policy.predict_values(torch.from_numpy(ppo._last_obs))
    reference.rewards[:] = buffer.rewards + 0.99 * finals.reshape(ends.shape) * ends
    reference.values[:], reference.episode_starts[:] = buffer.values, buffer.episode_starts
    reference.compute_returns_and_advantage(last, ppo._last_episode_starts)
    np.testing.assert_allclose(buffer.advantages, reference.advantages, atol=1e-5)
    np.testing.assert_allclose(buffer.returns, reference.returns, atol=1e-5)


def test_learning_rate_scales_survive_learning_saving_and_loading(make_ppo, point_mass, tmp_path):
    ppo = make_ppo(lr_scale={"encoder": 0.1, "encoder.critic": 0.5, "heads": 2.0})
    expected = {"encoder.actor": 1e-4, "encoder.critic": 5e-4, "trunk.actor": 1e-3, "heads.log_std": 2e-3}
    ppo.learn(600)
    ppo.freeze(["trunk.critic"], normalizer="keep")
    ppo.save(tmp_path / "model.zip")
    loaded = PPO.load(tmp_path / "model.zip", env=point_mass())
    assert not differing(tensors(ppo), tensors(loaded))
    assert loaded.policy.encoder.normalizer.frozen
    assert torch.equal(ppo._noise.get_state(), loaded._noise.get_state())
    before = tensors(loaded)
    loaded.learn(600)
    for model in (ppo, loaded):
        rates = {group["name"]: group["lr"] for group in model.optimizer.param_groups}
        assert {name: pytest.approx(rate) for name, rate in expected.items()}.items() <= rates.items()
    changed = differing(before, tensors(loaded))
    assert "trunk.actor.0.weight" in changed
    assert not any(name.startswith(("trunk.critic", "encoder.normalizer")) for name in changed)


@pytest.mark.parametrize("normalizer", ["keep", "update"])
def test_frozen_tensors_are_bit_equal_after_training_and_move_after_thawing(make_ppo, normalizer):
    ppo = make_ppo(loss_terms=[lambda policy, batch: sum(p.square().sum() for p in policy.parameters())])
    ppo.learn(600)
    before = tensors(ppo)
    ppo.freeze(["encoder", "heads.log_std"], normalizer=normalizer)
    ppo.learn(600)
    changed = differing(before, tensors(ppo))
    frozen = ("encoder.actor", "encoder.critic", "heads.log_std")
    assert not any(name.startswith(frozen) for name in changed)
    assert {"trunk.actor.0.weight", "heads.actor.bias"} <= changed
    assert ("encoder.normalizer.mean" in changed) == (normalizer == "update")
    ppo.thaw()
    assert ppo.optimizer.group("encoder.actor")["step"] == 0
    ppo.learn(600)
    assert {"encoder.actor.0.weight", "heads.log_std", "encoder.normalizer.mean"} <= differing(before, tensors(ppo))


def test_an_extra_loss_adds_its_gradient(make_ppo):
    shapes = {}

    def pull(policy, batch):
        shapes.update({name: tuple(tensor.shape) for name, tensor in batch.items()})
        return 1e3 * policy.heads.actor.bias.square().sum()

    plain, pulled = make_ppo(), make_ppo(loss_terms=[pull])
    for ppo in (plain, pulled):
        ppo.policy.heads.actor.bias.data.fill_(0.5)
        ppo.learn(600)
    assert abs(pulled.policy.heads.actor.bias.item()) < abs(plain.policy.heads.actor.bias.item()) - 0.005
    vectors = dict.fromkeys(("advantages", "old_log_probs", "returns", "which"), (64,))
    assert shapes == {"observations": (64, 3), "actions": (64, 1), **vectors}


def test_progress_reaches_the_worlds_and_the_hooks_before_every_rollout(make_ppo, point_mass):
    seen = []
    worlds = point_mass()
    make_ppo(env=worlds, progress_hooks=[lambda ppo, progress: seen.append((ppo.num_timesteps, progress))]).learn(1024)
    assert seen == [(0, 0.0), (256, 0.25), (512, 0.5), (768, 0.75)]
    assert worlds.progress == 0.75
    assert set(worlds.progress_seen) <= {0.0, 0.25, 0.5, 0.75}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_stops_training_before_it_reaches_the_weights(make_ppo, point_mass, value):
    worlds = point_mass()
    ppo = make_ppo(env=worlds)
    ppo.learn(256)
    before = tensors(ppo)
    worlds.poison = value
    with pytest.raises(FloatingPointError, match="world 1 returned an observation that is not finite"):
        ppo.learn(256)
    assert not differing(before, tensors(ppo))


def test_a_final_observation_that_is_not_finite_stops_training_as_well(make_ppo, point_mass):
    class Ending(point_mass):
        def step(self, actions):
            found = super().step(actions)
            self.final_observation[3] = np.nan
            return found

    with pytest.raises(FloatingPointError, match="world 3 returned an observation that is not finite"):
        make_ppo(env=Ending()).learn(512)


def test_a_loss_that_is_not_finite_stops_training(make_ppo):
    ppo = make_ppo(loss_terms=[lambda policy, batch: policy.heads.actor.bias.sum() * float("nan")])
    before = tensors(ppo)
    with pytest.raises(FloatingPointError, match="gradient norm is nan"):
        ppo.learn(256)
    assert not any(name.startswith(("encoder", "trunk", "heads")) for name in differing(before, tensors(ppo)))


def test_seconds_add_up_to_the_wall_time_and_episodes_are_counted(make_ppo):
    ppo = make_ppo()
    ppo.learn(2048)
    assert set(ppo.seconds) == {"physics", "inference", "update", "other"}
    assert all(value > 0 for value in ppo.seconds.values())
    lengths = {episode["l"] for episode in ppo.ep_info_buffer}
    assert 40 in lengths and max(lengths) == 40


def test_stock_vector_environments_work_too():
    stock = PPO(env=make_vec_env("Pendulum-v1", 2), n_steps=32, batch_size=32, n_epochs=1, seed=0)
    stock.learn(64)
    action, _ = stock.predict(np.zeros(3, np.float32), deterministic=True)
    assert action.shape == (1,)


def test_gymnasium_vector_environments_need_same_step_autoreset():
    same_step = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
    envs = gymnasium.make_vec("Pendulum-v1", 4, **same_step)
    ppo = PPO(env=envs, n_steps=210, batch_size=210, n_epochs=1, seed=0).learn(840)
    assert [episode["l"] for episode in ppo.ep_info_buffer] == [200] * 4
    with pytest.raises(UserError, match="SAME_STEP"):
        PPO(env=gymnasium.make_vec("Pendulum-v1", 4))


def test_what_is_not_supported_says_so(make_ppo):
    for settings, says in (
        ({"device": "cuda"}, "computes on the CPU, got device 'cuda'"),
        ({"use_sde": True}, "supports neither use_sde nor clip_range_vf"),
        ({"clip_range_vf": 0.2}, "supports neither use_sde nor clip_range_vf"),
    ):
        with pytest.raises(Unsupported, match=says):
            make_ppo(**settings)
    with pytest.raises(Unsupported, match="Box or Discrete of one axis, not in MultiDiscrete"):
        PPO(env=DummyVecEnv([lambda: TwoDials()]))
    with pytest.raises(UserError, match="did you mean 'trunk'"):
        make_ppo(lr_scale={"trunc": 1.0})
    with pytest.raises(UserError, match=r"did you mean 'heads\.actor'"):
        make_ppo().freeze(["head.actor"])


def test_it_learns_to_reach_a_goal(make_ppo, point_mass):
    settings = {"n_steps": 32, "batch_size": 256, "n_epochs": 8, "learning_rate": 3e-3, "gamma": 0.95, "seed": 1}
    ppo = make_ppo(env=point_mass(32), hidden=(64, 64), **settings)
    ppo.learn(30_000)
    # Zero force scores about -25, a random policy worse; the best controller is about 1.2 s away from any goal.
    assert np.mean([episode["r"] for episode in ppo.ep_info_buffer]) > -12.0


def test_a_copied_model_state_does_not_share_memory_with_the_learner(make_ppo):
    ppo = make_ppo()
    kept = copy.deepcopy(ppo.policy.state_dict())
    ppo.learn(256)
    assert "trunk.actor.0.weight" in differing(kept, tensors(ppo))
