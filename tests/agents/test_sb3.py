"""Policies cross between SB3 and us with equal actions, and nothing in a file runs unless its reader says so."""

import base64
import inspect
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import cloudpickle
import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from kinds import CAMERA, GRID, KINDS, agent_of, observed, outputs, schema_of
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from simreal_agents.algorithms import ALGORITHMS
from simreal_agents.bundle import Agent, load
from simreal_agents.sb3 import load_zip, save_zip
from simreal_agents.sb3.names import KINDS as KINDS_OF_SB3
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.schema import Field, Schema, row
from simreal_envs.tasks import find_task


class Nothing(gymnasium.Env):
    """Random observations, for SB3 to wrap."""

    def __init__(self, observations=3, low=(-1.0,), high=(1.0,)):
        self.observation_space = spaces.Box(-np.inf, np.inf, (observations,), np.float32)
        self.action_space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(3.0, 5.0, 3).astype(np.float32), {}

    def step(self, action):
        return self.np_random.normal(3.0, 5.0, 3).astype(np.float32), 1.0, False, False, {}


def stock(env=None, algorithm=stable_baselines3.PPO, seed=0, **policy_kwargs):
    """A model of SB3's own whose actions are neither tiny nor all clipped."""
    settings = {"n_steps": 8, "batch_size": 8} if algorithm is stable_baselines3.PPO else {}
    model = algorithm("MlpPolicy", env or Nothing(), policy_kwargs=policy_kwargs or None, device="cpu", **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            width = parameter.shape[1] if parameter.ndim == 2 else 20
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / width**0.5)
    return model


def observations(count=200, size=3, scale=2.0):
    return (scale * np.random.default_rng(1).standard_normal((count, size))).astype(np.float32)


def largest(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max()


@pytest.fixture
def zip_of(tmp_path):
    def save(model, name="model.zip"):
        model.save(tmp_path / name)
        return tmp_path / name

    return save


def wrapped(**settings):
    """A VecNormalize that has seen rewards and observations far from standard."""
    venv = VecNormalize(DummyVecEnv([Nothing]), **settings)
    venv.seed(0)
    venv.reset()
    for _ in range(50):
        venv.step(np.zeros((1, 1)))
    return venv


def rewritten(path, **members):
    """The zip with members replaced."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**content, **{name.replace("__", "."): data for name, data in members.items()}}.items():
            archive.writestr(name, data)
    return path


# ---- in ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "hidden", "activation"),
    [
        ({}, [64, 64], "tanh"),
        ({"net_arch": [32, 16, 8], "activation_fn": nn.ReLU}, [32, 16, 8], "relu"),
        ({"net_arch": {"pi": [16], "vf": [16]}, "activation_fn": nn.ELU}, [16], "elu"),
        ({"net_arch": {"pi": [8, 24], "vf": [32, 16]}}, [32, 24], "tanh"),
    ],
    ids=["default", "relu", "elu", "towers of other widths"],
)
def test_actions_and_values_are_those_of_sb3(zip_of, schema, kwargs, hidden, activation):
    model = stock(**kwargs)
    imported = load_zip(zip_of(model))
    agent = imported.agent(schema)
    rows = observations()
    assert (agent.policy.network["hidden"], agent.policy.network["activation"]) == (hidden, activation)
    expected = model.predict(rows, deterministic=True)[0]
    assert np.mean(np.abs(expected) < 1.0) > 0.2 and expected.std() > 0.1
    assert largest(agent.act(rows), expected) < 1e-6
    with torch.no_grad():
        assert largest(agent.value(rows), model.policy.predict_values(torch.from_numpy(rows))[:, 0]) < 1e-5
    assert np.array_equal(agent.distribution(rows)[1], model.policy.log_std.detach().exp().numpy())
    assert "takes observations as they are" in imported.notes[0]


def test_a_critic_of_another_depth_is_left_behind_and_said_so(zip_of, schema):
    model = stock(net_arch={"pi": [16, 16], "vf": [16]})
    imported = load_zip(zip_of(model))
    assert (
        largest(imported.agent(schema).act(observations()), model.predict(observations(), deterministic=True)[0]) < 1e-6
    )
    assert not imported.critic and "critic was left behind" in imported.notes[0] and "warm it up" in imported.notes[0]


def test_units_that_fill_a_narrow_tower_up_never_learn(zip_of, schema, point_mass):
    from simreal_agents.bundle import load_into
    from simreal_agents.ppo import PPO

    agent = load_zip(zip_of(stock(net_arch={"pi": [8, 8], "vf": [16, 16]}))).agent(schema)
    ppo = PPO(env=point_mass(), policy_kwargs={"hidden": [16, 16]}, n_steps=16, batch_size=64, seed=0)
    load_into(ppo, agent)
    ppo.learn(512)
    layer = ppo.policy.linears("actor")[1]
    assert not layer.weight[8:].any() and not layer.weight[:, 8:].any() and not layer.bias[8:].any()
    assert largest(layer.weight[:8, :8].detach(), agent.policy.linears("actor")[1].weight[:8, :8].detach()) > 1e-4


def test_a2c_is_read_like_ppo(zip_of, schema):
    model = stock(algorithm=stable_baselines3.A2C)
    imported = load_zip(zip_of(model))
    assert (
        largest(imported.agent(schema).act(observations()), model.predict(observations(), deterministic=True)[0]) < 1e-6
    )
    assert imported.card["imported"]["algorithm"] == "a2c" and imported.card["algorithm"] == "ppo"


def test_actions_in_other_bounds_give_the_machine_the_same_command(zip_of):
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 5.0])
    model = stock(Nothing(low=low, high=high))
    labels = tuple(f"{i} ({a:g} to {b:g})" for i, (a, b) in enumerate(zip(low, high, strict=True)))
    fields = (Field("o", "1", ("x", "y", "z")),), (Field("action", "1", labels, -1.0, 1.0),)
    agent = load_zip(zip_of(model)).agent(Schema(*fields, 0.05))
    command = (low + high) / 2 + (high - low) / 2 * agent.act(observations())
    expected = model.predict(observations(), deterministic=True)[0]
    assert np.mean((expected > low) & (expected < high)) > 0.2
    assert largest(command, expected) < 5e-6  # of commands up to 5
    std = model.policy.log_std.detach().exp().numpy()
    assert largest(agent.distribution(observations())[1] * (high - low) / 2, std) < 1e-6


def test_bounds_that_a_zip_does_not_say_are_the_tasks(zip_of, schema):
    model = stock()
    path = zip_of(model)
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    del data["action_space"]
    imported = load_zip(rewritten(path, data=json.dumps(data)))
    assert any("bounds of its actions" in note for note in imported.notes)
    assert (
        largest(imported.agent(schema).act(observations()), model.predict(observations(), deterministic=True)[0]) < 1e-6
    )


def test_statistics_of_vecnormalize_come_along_when_trusted(zip_of, tmp_path, schema):
    venv = wrapped(gamma=0.9, epsilon=1e-3)
    venv.save(tmp_path / "stats.pkl")
    model = stock()
    agent = load_zip(zip_of(model), vec_normalize=tmp_path / "stats.pkl", trust=True).agent(schema)
    rows = observations(scale=60.0)
    normalized = venv.normalize_obs(rows)
    assert np.abs(normalized).max() == 10.0  # some are clipped
    assert largest(agent.act(rows), model.predict(normalized, deterministic=True)[0]) < 1e-6
    venv.old_reward = np.array([1.0])
    assert agent.reward_scale == pytest.approx(float(venv.normalize_reward(np.array([1.0]))[0]))


def test_reward_statistics_alone_leave_observations_as_they_are(zip_of, tmp_path, schema):
    wrapped(norm_obs=False).save(tmp_path / "stats.pkl")
    agent = load_zip(zip_of(stock()), vec_normalize=tmp_path / "stats.pkl", trust=True).agent(schema)
    assert not agent.policy.encoder.normalizer.enabled and agent.reward_scale != 1.0


def test_plain_settings_are_read_and_pickled_ones_only_when_trusted(zip_of):
    path = zip_of(stock())
    plain, trusted = load_zip(path).card["hyperparameters"], load_zip(path, trust=True).card["hyperparameters"]
    assert plain["n_steps"] == 8 and plain["gamma"] == 0.99 and plain["learning_rate"] == 3e-4
    assert "clip_range" not in plain and trusted == {**plain, "clip_range": 0.2}


def test_an_imported_agent_is_a_bundle_like_any_other(zip_of, tmp_path, schema):
    agent = load_zip(zip_of(stock())).agent(schema)
    agent.save(tmp_path / "bundle")
    again = load(tmp_path / "bundle")
    assert np.array_equal(again.act(observations()), agent.act(observations()))
    assert again.card["imported"]["file"] == "model.zip" and str(tmp_path) not in json.dumps(dict(again.card))


# ---- RL Zoo ------------------------------------------------------------------------------------------------------------

CONFIG = """!!python/object/apply:collections.OrderedDict
- - - normalize
    - true
  - - policy_kwargs
    - dict(log_std_init=-2, activation_fn=nn.ReLU)
"""


@pytest.fixture
def zoo(tmp_path):
    """A folder as RL Zoo writes it."""
    folder = tmp_path / "ppo" / "Thing-v0_1"
    inner = folder / "Thing-v0"
    inner.mkdir(parents=True)
    model = stock()
    model.save(folder / "Thing-v0.zip")
    stock(seed=1).save(folder / "best_model.zip")
    wrapped().save(str(inner / "vecnormalize.pkl"))
    (inner / "config.yml").write_text(CONFIG)
    args = CONFIG.splitlines()[0] + "\n- - - algo\n    - ppo\n  - - env\n    - Thing-v0\n  - - seed\n    - 3\n"
    (inner / "args.yml").write_text(args)
    return folder, model


def test_a_zoo_folder_brings_its_statistics_and_says_where_it_is_from(zoo, schema):
    folder, model = zoo
    imported = load_zip(folder, trust=True)
    rows = observations(scale=20.0)
    venv = VecNormalize.load(str(folder / "Thing-v0/vecnormalize.pkl"), DummyVecEnv([Nothing]))
    assert (
        largest(imported.agent(schema).act(rows), model.predict(venv.normalize_obs(rows), deterministic=True)[0]) < 1e-6
    )
    assert imported.card["imported"]["rl_zoo"] == {"algo": "ppo", "env": "Thing-v0", "seed": 3, "normalize": True}


def test_a_folder_of_the_hub_has_everything_beside_the_zip(zoo, schema):
    folder, _ = zoo
    inner = folder / "Thing-v0"
    (inner / "vecnormalize.pkl").rename(folder / "vec_normalize.pkl")
    (inner / "config.yml").rename(folder / "config.yml")
    (folder / "best_model.zip").unlink()
    (folder / "Thing-v0.zip").rename(folder / "ppo-Thing-v0.zip")
    imported = load_zip(folder, trust=True)
    assert imported.card["imported"]["file"] == "ppo-Thing-v0.zip" and imported.agent(schema).reward_scale != 1.0


def test_a_zoo_folder_without_what_it_needs_is_refused(zoo):
    folder, _ = zoo
    with pytest.raises(UserError, match=r"vecnormalize\.pkl is a pickle.*--trust.*Thing-v0\.zip alone"):
        load_zip(folder)
    (folder / "Thing-v0/vecnormalize.pkl").unlink()
    with pytest.raises(UserError, match=r"observations were normalized but has no vecnormalize\.pkl"):
        load_zip(folder)
    (folder / "Thing-v0.zip").rename(folder / "a.zip")
    (folder / "b.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"must hold one \.zip of a model, found a\.zip, b\.zip, best_model\.zip"):
        load_zip(folder)


# ---- nothing runs ------------------------------------------------------------------------------------------------------


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_payload_in_the_settings_runs_only_when_trusted(zip_of, tmp_path, schema):
    victim = tmp_path / "it_ran"
    path = zip_of(stock())
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    data["clip_range"] = {":type:": "x", ":serialized:": base64.b64encode(cloudpickle.dumps(Payload(victim))).decode()}
    rewritten(path, data=json.dumps(data))
    load_zip(path).agent(schema)
    assert not victim.exists()
    load_zip(path, trust=True)
    assert victim.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_a_payload_among_the_weights_never_runs(zip_of, tmp_path, trust):
    victim, buffer = tmp_path / "it_ran", io.BytesIO()
    torch.save({"log_std": Payload(victim)}, buffer)
    path = rewritten(zip_of(stock()), policy__pth=buffer.getvalue())
    with pytest.raises(UserError, match=r"more than tensors.*nothing of it was executed"):
        load_zip(path, trust=trust)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert victim.exists()  # the payload is a real one


def test_a_payload_in_the_statistics_or_in_yaml_does_not_run(zip_of, zoo, tmp_path):
    victim = tmp_path / "it_ran"
    (tmp_path / "stats.pkl").write_bytes(pickle.dumps(Payload(victim)))
    with pytest.raises(UserError, match=r"stats\.pkl is a pickle"):
        load_zip(zip_of(stock()), vec_normalize=tmp_path / "stats.pkl")
    folder, _ = zoo
    (folder / "Thing-v0/config.yml").write_text(f"a: !!python/object/apply:os.system ['touch {victim}']")
    with pytest.raises(UserError, match=r"config\.yml cannot be read"):
        load_zip(folder, trust=True)
    assert not victim.exists()


def test_members_that_point_outside_are_never_written(zip_of, tmp_path, schema):
    path = zip_of(stock())
    before = {file for file in tmp_path.rglob("*")} | {file for file in tmp_path.parent.iterdir()}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../outside.pth", b"x")
        archive.writestr("/tmp/outside.pth", b"x")
    load_zip(path, trust=True).agent(schema)
    assert {file for file in tmp_path.rglob("*")} | {file for file in tmp_path.parent.iterdir()} == before


# ---- refusals ----------------------------------------------------------------------------------------------------------


class Halved(FlattenExtractor):
    """Changes what the policy sees without a tensor of its own."""

    def forward(self, observations):
        return super().forward(observations) / 2


class HalvedFlattenExtractor(Halved):
    """One whose name has that of SB3's in it."""


def test_other_policies_are_refused_by_their_kind(zip_of, schema):
    wanted = {
        "use_sde": stable_baselines3.PPO("MlpPolicy", Nothing(), device="cpu", use_sde=True, n_steps=8, batch_size=8),
        "activation SiLU.*relu|ReLU": stock(activation_fn=nn.SiLU),
        "no hidden layer": stock(net_arch=[]),
        r"features extractor of its own .*\.Halved'": stock(features_extractor_class=Halved),
        r"features extractor of its own .*\.HalvedFlattenExtractor'": stock(
            features_extractor_class=HalvedFlattenExtractor
        ),
    }
    for words, model in wanted.items():
        for trust in (False, True):
            with pytest.raises(Unsupported, match=words):
                load_zip(zip_of(model), trust=trust)
    load_zip(zip_of(stock(features_extractor_class=FlattenExtractor)))
    with pytest.raises(Unsupported, match=r"explores by its state \(use_sde\)"):
        sde = stable_baselines3.SAC("MlpPolicy", Nothing(), device="cpu", buffer_size=10, use_sde=True)
        load_zip(zip_of(sde))
    with pytest.raises(UserError, match="has 5 observations but the task has 3"):
        load_zip(zip_of(stock(Nothing(observations=5)))).agent(schema)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("action_net.weight", torch.full((1, 64), torch.nan), "not all finite"),
        ("action_net.weight", torch.zeros(1, 63), "do not fit each other"),
        ("log_std", torch.zeros(2), "noise for 2 actions and means for 1"),
        ("log_std", torch.zeros(64, 1), r"explores by its state \(use_sde\)"),
        (7, torch.zeros(1), "does not hold named tensors"),
        ("mlp_extractor.policy_net.2.bias", None, "no tensor 'mlp_extractor.policy_net.2.bias'"),
        (
            "attention.weight",
            torch.zeros(1),
            r"is a stable_baselines3\.PPO with attention\.weight, which our policy does not have",
        ),
    ],
)
def test_weights_that_are_no_such_policy_are_refused(zip_of, name, tensor, words):
    model, buffer = stock(), io.BytesIO()
    weights = {**model.policy.state_dict(), name: tensor}
    torch.save({key: value for key, value in weights.items() if value is not None}, buffer)
    with pytest.raises(UserError, match=words):
        load_zip(rewritten(zip_of(model), policy__pth=buffer.getvalue()))


def test_a_policy_without_its_critics_or_with_one_of_another_shape_is_refused(zip_of):
    schema = schema_of("vector", "box")
    for algorithm in ("sac", "crossq"):
        model, buffer = trained(algorithm, schema), io.BytesIO()
        torch.save({n: t for n, t in model.policy.state_dict().items() if not n.startswith("critic")}, buffer)
        with pytest.raises(UserError, match=r"lacks a network, critic; PPO, A2C, .* can be imported"):
            load_zip(rewritten(zip_of(model), policy__pth=buffer.getvalue()))
    weights = model.policy.state_dict()
    for name, words in {
        "actor.latent_pi.0.scale": r"has encoder\.actor\.0\.scale of shape 5 x 1, where its layers ask for 5",
        "critic.qf0.0.scale": "the critics of the policy differ in shape",
    }.items():
        buffer = io.BytesIO()
        torch.save({**weights, name: torch.zeros(5, 1)}, buffer)
        with pytest.raises(UserError, match=words):
            load_zip(rewritten(zip_of(model), policy__pth=buffer.getvalue())).agent(schema)


def test_an_import_is_told_a_schema(zip_of):
    imported = load_zip(zip_of(stock()))
    for wrong in (None, "hopper"):
        with pytest.raises(UserError, match=r"the schema must be what sr\.find_task\(name\)\.schema gives, not"):
            imported.agent(wrong)


def test_settings_that_mean_nothing_are_one_sentence(zip_of):
    path = zip_of(trained("crossq", schema_of("vector", "box")))
    for settings, words in {
        "activation_fn": ("", "has the activation , which our policy does not know; valid: ELU, ReLU, Tanh"),
        "batch_norm_eps": ([1], r"batch_norm_eps must be a number, not \[1\]"),
    }.items():
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        data["policy_kwargs"] = {settings: words[0]}
        with pytest.raises(UserError, match=words[1]):
            load_zip(rewritten(path, data=json.dumps(data)))


def test_a_member_that_would_fill_the_memory_is_not_read(zip_of, monkeypatch):
    path = zip_of(stock())
    monkeypatch.setattr("simreal_agents.sb3.files.MAX_BYTES", 100)
    with pytest.raises(UserError, match=r"model\.zip: data has \d+ bytes unpacked; at most 100 are read"):
        load_zip(path)


def test_weights_that_are_packed_once_more_are_measured_unpacked(zip_of, monkeypatch):
    buffer, packed = io.BytesIO(), io.BytesIO()
    torch.save({"log_std": torch.zeros(1_000_000)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in plain.infolist():
            archive.writestr(member, plain.read(member), zipfile.ZIP_DEFLATED)
    path = rewritten(zip_of(stock()), policy__pth=packed.getvalue())
    monkeypatch.setattr("simreal_agents.sb3.files.MAX_BYTES", 1_000_000)
    with pytest.raises(
        UserError, match=r"model\.zip: policy\.pth has 400\d\d\d\d bytes unpacked; at most 1000000 are read"
    ):
        load_zip(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_that_repeats_one_number_is_measured_by_its_shape(zip_of, dtype):
    model, buffer = stock(), io.BytesIO()
    wide = torch.zeros(1, dtype=dtype).expand(1 << 40, 3)
    torch.save({**model.policy.state_dict(), "mlp_extractor.policy_net.0.weight": wide}, buffer)
    with pytest.raises(UserError, match=r"the tensors of policy\.pth have \d+ bytes; at most 268435456 are read"):
        load_zip(rewritten(zip_of(model), policy__pth=buffer.getvalue()))


@pytest.mark.parametrize("tensor", [torch.eye(3).to_sparse(), torch.empty(3, device="meta")])
def test_weights_are_plain_tensors(zip_of, tensor):
    model, buffer = stock(), io.BytesIO()
    torch.save({**model.policy.state_dict(), "mlp_extractor.policy_net.0.bias": tensor}, buffer)
    with pytest.raises(UserError, match=r"policy\.pth does not hold named tensors"):
        load_zip(rewritten(zip_of(model), policy__pth=buffer.getvalue()))


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_read(tmp_path, make):
    make(tmp_path / "model.zip")
    with pytest.raises(UserError, match=r"no SB3 zip that can be read at .*model\.zip \(it is no file\)"):
        load_zip(tmp_path / "model.zip")


def test_files_that_are_none_or_damaged_are_one_sentence(zip_of, tmp_path):
    whole = zip_of(stock()).read_bytes()
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    cases = {
        "no SB3 zip that can be read": tmp_path / "missing.zip",
        "is not an SB3 model, or was cut off": tmp_path / "cut.zip",
        "no item named 'data'.*PPO.save": tmp_path / "other.zip",
        "does not hold named tensors": rewritten(zip_of(stock(), "list.zip"), policy__pth=buffer.getvalue()),
        "data does not hold named settings": rewritten(zip_of(stock(), "data.zip"), data="[]"),
        r"empty\.zip is not an SB3 model": rewritten(zip_of(stock(), "empty.zip"), policy__pth=b""),
        r"junk\.zip is not an SB3 model": rewritten(zip_of(stock(), "junk.zip"), policy__pth=b"\x80\x02."),
    }
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    for words, path in cases.items():
        with pytest.raises(UserError, match=words) as error:
            load_zip(path)
        assert "\n" not in str(error.value)


def test_statistics_that_do_not_fit_are_refused(zip_of, tmp_path):
    path = zip_of(stock())
    for words, content in {
        "other observations than the policy's 3": VecNormalize(DummyVecEnv([lambda: Nothing(observations=4)])),
        "clips observations at 5": VecNormalize(DummyVecEnv([Nothing]), clip_obs=5.0),
        "cannot be read as a VecNormalize": {"a": 1},
    }.items():
        (tmp_path / "stats.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=words):
            load_zip(path, vec_normalize=tmp_path / "stats.pkl", trust=True)


# ---- out ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def learned(make_ppo):
    """An agent with statistics, whose card has hyperparameters."""
    ppo = make_ppo(network={"activation": "elu"}).learn(1024)
    return Agent.of(ppo)


def test_sb3_opens_an_export_and_acts_alike(learned, tmp_path):
    before = torch.get_rng_state()
    model_file, statistics = save_zip(learned, tmp_path / "out/agent.zip")
    assert torch.equal(torch.get_rng_state(), before)
    model = stable_baselines3.PPO.load(model_file)
    venv = VecNormalize.load(str(statistics), DummyVecEnv([Nothing]))
    rows = observations(scale=1.0)
    assert largest(model.predict(venv.normalize_obs(rows), deterministic=True)[0], learned.act(rows)) < 1e-6
    with torch.no_grad():
        values = model.policy.predict_values(torch.from_numpy(venv.normalize_obs(rows)))[:, 0]
    assert largest(values, learned.value(rows)) < 1e-5
    assert float(venv.normalize_reward(np.array([1.0]))[0]) == pytest.approx(learned.reward_scale)
    assert (model.n_steps, model.gamma, model.learning_rate) == (16, 0.99, 1e-3)
    assert model.num_timesteps == learned.card["env_steps"]
    model.set_env(venv)
    model.learn(32)  # and goes on learning


def test_an_agent_survives_the_way_out_and_in(learned, tmp_path, schema):
    model_file, statistics = save_zip(learned, tmp_path / "agent.zip")
    agent = load_zip(model_file, vec_normalize=statistics, trust=True).agent(schema)
    ours, theirs = learned.policy.state_dict(), agent.policy.state_dict()
    for name in ours:
        if name not in ("reward_scaler.mean",):
            assert torch.equal(ours[name], theirs[name]), name
    assert np.array_equal(agent.act(observations()), learned.act(observations()))


def test_an_agent_without_statistics_is_one_file(tmp_path, schema):
    agent = Agent.new(schema, {"normalize_observations": False, "hidden": [8]})
    assert save_zip(agent, tmp_path / "a.zip") == [tmp_path / "a.zip"]
    model = stable_baselines3.PPO.load(tmp_path / "a.zip")
    assert largest(model.predict(observations(), deterministic=True)[0], agent.act(observations())) < 1e-6


def test_nothing_is_overwritten_and_nothing_is_left_half(learned, tmp_path):
    with pytest.raises(UserError, match=r"must end in \.zip"):
        save_zip(learned, tmp_path / "a.onnx")
    (tmp_path / "a.vecnormalize.pkl").write_text("mine")
    with pytest.raises(UserError, match=r"a\.vecnormalize\.pkl exists already"):
        save_zip(learned, tmp_path / "a.zip")
    (tmp_path / "b.zip").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"b\.zip exists already"):
        save_zip(learned, tmp_path / "b.zip")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.vecnormalize.pkl", "b.zip"]
    assert (tmp_path / "a.vecnormalize.pkl").read_text() == "mine"


# ---- every algorithm, and every kind of observation and action ---------------------------------------------------------

WITH_SB3 = [
    pytest.param(*kind, id="-".join(kind), marks=[pytest.mark.filterwarnings("ignore")])
    for kind in KINDS
    if kind[0] in KINDS_OF_SB3
]


class Shown(gymnasium.Env):
    """What a schema shows, at random."""

    def __init__(self, schema):
        self.observation_space, self.action_space = schema.observation_space, schema.action_space
        self.schema, self.count = schema, 0

    def seen(self):
        self.count += 1
        return row(observed(self.schema, 1, self.count), 0)

    def reset(self, *, seed=None, options=None):
        return self.seen(), {}

    def step(self, action):
        return self.seen(), float(np.sum(action)), False, False, {}


def stock_class(algorithm):
    package = KINDS_OF_SB3[algorithm].where.partition(":")[0]
    pytest.importorskip(package, reason=f"pip install {package.replace('_', '-')}")
    return KINDS_OF_SB3[algorithm].load()


def judged(model, observations):
    """What decides the actions of a stock model: means before clipping, probabilities, or values."""
    tensor, _ = model.policy.obs_to_tensor(observations)
    model.policy.set_training_mode(False)
    with torch.no_grad():
        if isinstance(model, stable_baselines3.PPO):
            found = model.policy.get_distribution(tensor).distribution
            return (found.probs if hasattr(found, "probs") else found.mean).numpy()
        if hasattr(model, "actor"):
            return model.actor(tensor, deterministic=True).numpy() if not isinstance(model, stable_baselines3.TD3) else (
                model.actor(tensor).numpy()
            )  # fmt: skip
        if hasattr(model, "quantile_net"):
            return model.quantile_net(tensor).mean(dim=1).numpy()
        return model.q_net(tensor).numpy()


def trained(algorithm, schema, **settings):
    """A stock model that has learned for a few steps."""
    policy = {1: "MlpPolicy", 3: "CnnPolicy"}.get(len(schema.observation_space.shape or ()), "MultiInputPolicy")
    if algorithm == "ppo":
        settings = {"n_steps": 16, "batch_size": 8, **settings}
    else:
        settings = {"buffer_size": 64, "learning_starts": 8, "batch_size": 8, "train_freq": 1, **settings}
        if policy != "MlpPolicy" and not schema.choices:
            settings = {"policy_kwargs": {"share_features_extractor": True}, **settings}
    model = stock_class(algorithm)(policy, Shown(schema), device="cpu", seed=0, learning_rate=3e-3, **settings)
    return model.learn(24)


@pytest.mark.parametrize(("algorithm", "observation", "action"), WITH_SB3)
def test_a_trained_model_of_every_kind_comes_in(algorithm, observation, action, zip_of):
    schema = schema_of(observation, action)
    if observation == "mixed":  # SB3 sees pictures of bytes only, of 36 pixels and more
        schema = replace(schema, observation=tuple(f for f in schema.observation if f.name != GRID.name))
    model = trained(algorithm, schema)
    imported = load_zip(zip_of(model))
    agent = imported.agent(schema)
    seen = observed(schema, 50)
    assert agent.algorithm == algorithm and imported.critic
    assert largest(outputs(agent, seen), judged(model, seen)) < 2e-5
    expected = model.predict(seen, deterministic=True)[0]
    if schema.choices:
        assert np.mean(agent.act(seen) == expected) > 0.95 and agent.act(seen).dtype == np.int64
    else:
        assert largest(agent.act(seen), expected) < 2e-5  # of 5 N m
    state, theirs = agent.policy.state_dict(), model.policy.state_dict()
    for name in [n for n in state if n.startswith("target.") and n.endswith("bias")]:
        assert any(
            torch.equal(state[name].flatten()[: len(t)].sort().values, t.sort().values)  # QR-DQN has another order
            for t in theirs.values()
            if t.ndim == 1
        ), name
    if "heads.temperature" in state:
        assert torch.equal(state["heads.temperature"], model.log_ent_coef.detach())


@pytest.mark.parametrize("algorithm", ["sac", "tqc", "crossq"])
@pytest.mark.parametrize("ent_coef", [0.2, 1, 0.0])
def test_a_temperature_that_was_set_comes_in(algorithm, ent_coef, zip_of):
    schema = schema_of("vector", "box")
    agent = load_zip(zip_of(trained(algorithm, schema, ent_coef=ent_coef))).agent(schema)
    assert agent.policy.heads.temperature.exp().item() == pytest.approx(ent_coef)
    assert agent.card["hyperparameters"]["ent_coef"] == ent_coef


@pytest.mark.parametrize(("algorithm", "observation", "action"), WITH_SB3)
def test_an_agent_of_every_kind_goes_out_and_comes_back(algorithm, observation, action, tmp_path):
    schema = schema_of(observation, action)
    if observation == "mixed":
        schema = replace(schema, observation=tuple(f for f in schema.observation if f.name != GRID.name))
    network = {"activation": "relu"} if observation == "mixed" else {}
    agent = agent_of(algorithm, schema=schema, **network, **({} if observation == "vector" else {"cnn": "nature"}))
    if algorithm != "ppo":  # a stock class asks for the memory of its buffer when it loads
        agent = replace(agent, card={**agent.card, "hyperparameters": {"buffer_size": 64, "batch_size": 8}})
    stock_class(algorithm)
    files = save_zip(agent, tmp_path / "agent.zip")
    model = stock_class(algorithm).load(files[0])
    seen = observed(schema, 50)
    given = seen
    if len(files) > 1:
        given = VecNormalize.load(str(files[1]), DummyVecEnv([lambda: Shown(schema)])).normalize_obs(seen)
    assert largest(outputs(agent, seen), judged(model, given)) < 2e-5
    expected = model.predict(given, deterministic=True)[0]
    if schema.choices:
        assert np.mean(agent.act(seen) == expected) > 0.95 and len(set(expected)) == 3
    else:
        assert largest(agent.act(seen), expected) < 5e-5
    back = load_zip(files[0], vec_normalize=files[1] if len(files) > 1 else None, trust=True).agent(schema)
    assert largest(outputs(back, seen), outputs(agent, seen)) < 2e-5
    assert largest(back.value(seen), agent.value(seen)) < 2e-5
    if observation != "mixed":  # where SB3 has other layers
        state = back.policy.state_dict()
        for name, tensor in agent.policy.state_dict().items():
            assert torch.equal(state[name], tensor) or name.startswith("reward_scaler"), name
    model.set_env(DummyVecEnv([lambda: Shown(schema)]))
    if algorithm != "ppo":
        model.learning_starts = 4
        model.learn(8)  # and goes on learning
        assert model.replay_buffer.size() == 8


def test_an_export_acts_in_its_environment_where_actions_are_rescaled(zip_of, tmp_path):
    swing = find_task("gymnasium:Pendulum-v1").schema
    env = gymnasium.make("Pendulum-v1")  # torques within 2 N m
    stock = stable_baselines3.SAC("MlpPolicy", env, buffer_size=10, device="cpu", seed=0)
    (file, *_) = save_zip(load_zip(zip_of(stock)).agent(swing), tmp_path / "back.zip")
    rescaled = gymnasium.wrappers.RescaleAction(env, -1.0, 1.0)
    back = stable_baselines3.SAC.load(file, env=rescaled)
    seen, _ = env.reset(seed=0)
    told, _ = back.predict(seen, deterministic=True)
    np.testing.assert_allclose(rescaled.action(told), stock.predict(seen, deterministic=True)[0], atol=1e-5)
    with pytest.raises(ValueError, match="Action spaces do not match"):
        stable_baselines3.SAC.load(file, env=env)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "ppo"])
def test_what_a_card_does_not_say_is_the_stock_default(algorithm, tmp_path):
    (file, *_) = save_zip(agent_of(algorithm, action="choice" if "dqn" in algorithm else "box"), tmp_path / "agent.zip")
    model = stock_class(algorithm).load(file)
    assert model.buffer_size == inspect.signature(stock_class(algorithm)).parameters["buffer_size"].default
    assert model.replay_buffer.buffer_size == model.buffer_size


def test_an_agent_that_sees_with_other_convolutions_stays_here(tmp_path):
    with pytest.raises(
        Unsupported, match=r"NatureCNN, and this agent sees .* with the cnn 'small'; train it with agent.cnn"
    ):
        save_zip(agent_of("ppo", "camera", "choice"), tmp_path / "agent.zip")


@pytest.mark.parametrize(("algorithm", "action"), [("ppo", "choice"), ("sac", "box"), ("td3", "box")])
def test_a_critic_with_an_encoder_of_its_own_is_left_behind(algorithm, action, zip_of):
    schema = schema_of("camera", action)
    model = trained(algorithm, schema, policy_kwargs={"share_features_extractor": False})
    imported = load_zip(zip_of(model))
    assert not imported.critic and "share_features_extractor=False" in imported.notes[0]
    agent, seen = imported.agent(schema), observed(schema, 20)
    assert largest(outputs(agent, seen), judged(model, seen)) < 2e-5
    assert all(torch.equal(copy, online) for _, copy, online in getattr(agent.policy, "followed", ()))


def test_what_sb3_cannot_represent_is_said_in_one_sentence(tmp_path, zip_of, schema):
    mixed = schema_of("mixed", "choice")
    with pytest.raises(
        Unsupported, match=r"pictures of bytes from 0 to 255 and at least 36 x 36 pixels; grid has 6 x 7 x 3"
    ):
        save_zip(agent_of("ppo", "mixed", "choice"), tmp_path / "a.zip")
    seen = tuple(f for f in mixed.observation if f.name != GRID.name)
    with pytest.raises(Unsupported, match="only agents with activation relu can be written"):
        save_zip(agent_of("ppo", schema=replace(mixed, observation=seen), cnn="nature"), tmp_path / "a.zip")
    assert not list(tmp_path.glob("a*"))
    camera, choice = schema_of("camera", "choice"), schema_of("vector", "choice")
    path = zip_of(trained("dqn", camera))
    for wanted, words in {
        choice: "sees the pictures image, but those of the task are none",
        replace(camera, observation=(replace(CAMERA, grid=(64, 64)),)): "another size or number of channels",
        replace(
            camera, action=(replace(camera.action[0], labels=("a", "b"), high=1.0),)
        ): "between 3 actions but the task has a choice between 2",
        schema_of("camera", "box"): "chooses between 3 actions but the task has 3",
    }.items():
        with pytest.raises(UserError, match=words) as refusal:
            load_zip(path).agent(wanted)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("algorithm", ["sac", "td3", "dqn"])
def test_a_payload_in_the_settings_or_weights_of_any_algorithm_does_nothing(algorithm, tmp_path, zip_of):
    schema = schema_of("vector", "choice" if algorithm == "dqn" else "box")
    path, victim, buffer = zip_of(trained(algorithm, schema)), tmp_path / "it_ran", io.BytesIO()
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    payload = base64.b64encode(cloudpickle.dumps(Payload(victim))).decode()
    for key in ("policy_class", "policy_kwargs", "action_space", "lr_schedule", "replay_buffer_class"):
        data[key] = {**(data[key] if isinstance(data[key], dict) else {}), ":type:": "x", ":serialized:": payload}
    load_zip(rewritten(path, data=json.dumps(data))).agent(schema)
    torch.save({"log_ent_coef": Payload(victim)}, buffer)
    for member in ("policy__pth", "pytorch_variables__pth"):
        with pytest.raises(UserError, match=r"more than tensors.*nothing of it was executed"):
            load_zip(rewritten(zip_of(trained(algorithm, schema)), **{member: buffer.getvalue()}))
    assert not victim.exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert victim.exists()  # the payload is a real one


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": {}}, "hyperparameters of the agent's card: batch_size must be a whole number, got {}"),
        ({"batch_size": 0}, "PPO does not take the hyperparameters of the agent's card: AssertionError"),
        ({"learning_rate": [None]}, "PPO does not take the hyperparameters of the agent's card: AssertionError"),
    ],
)
def test_hyperparameters_that_stable_baselines3_does_not_take_are_refused_in_one_sentence(tmp_path, settings, says):
    agent = replace(agent_of("ppo"), card={"hyperparameters": settings})
    with pytest.raises(UserError, match=says):
        save_zip(agent, tmp_path / "agent.zip")
    assert not list(tmp_path.iterdir())
