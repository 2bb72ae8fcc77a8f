"""Settings become a learner, of any algorithm."""

import shutil
from dataclasses import replace

import every
import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.config import AgentConfig
from simreal.hyperparameters import HYPERPARAMETERS, OffPolicyHyperparameters
from simreal.learner import Learning, Target, at_once, require_fit, schedule
from simreal.schedule import Schedule
from simreal.training import train
from simreal_agents.algorithms import find_algorithm
from simreal_agents.ppo import PPO
from simreal_envs.errors import UserError
from simreal_envs.tasks import find_task

PENDULUM = sr.Domain("pendulum_swingup")
SHORT = Schedule(96, points=2, episodes=1)


def home(algorithm):
    """A domain that an algorithm can act in."""
    return PENDULUM if "box" in HYPERPARAMETERS[algorithm].actions else every.CHOICES


def learner(algorithm, agent=None, modules=("encoder", "trunk", "heads"), domain=None, **hyperparameters):
    made = Target(domain or home(algorithm), every.learning(algorithm, **hyperparameters), 0).learner(agent, modules)
    made.env.close()
    return made


def trained(algorithm, **hyperparameters):
    return train(
        None, Target(home(algorithm), every.learning(algorithm, **hyperparameters), 0), sr.Scratch(), SHORT
    ).agent


@pytest.fixture(scope="module")
def sac():
    return trained("sac")


@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
def test_every_default_of_a_config_is_something_that_the_algorithm_takes(algorithm):
    settings = Learning(algorithm=algorithm, num_worlds=16)
    made = Target(home(algorithm), settings, 0).learner()
    made.env.close()
    assert type(made) is find_algorithm(algorithm)
    given = HYPERPARAMETERS[algorithm]().model_dump()
    for name, value in {**made.hyperparameters, **made.policy.network}.items():
        if name in given and name != "target_entropy":  # auto becomes a number
            assert value == given[name], name
    assert made.policy.network["hidden"] == [64, 64]


@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
def test_every_algorithm_trains_moves_and_is_measured(algorithm):
    source = trained(algorithm)
    there = Target(home(algorithm), every.learning(algorithm), 1)
    moved = train(source, there, sr.FineTune(), SHORT, source=home(algorithm))
    assert moved.curve[0].env_steps == 0 and moved.curve[-1].env_steps >= 96
    assert np.isfinite(
        [moved.evidence[k] for k in ("critic_bias", "policy_std", "policy_kl", "source_return_after")]
    ).all()
    assert moved.evidence["policy_kl"] == 0.0 <= moved.evidence["end"]["policy_kl"]
    assert tiny.changed(tiny.tensors(source), tiny.tensors(moved.agent)) >= {"heads.critic.weight", "heads.critic.bias"}
    assert moved.agent.card["ancestors"][-1]["algorithm"] == algorithm


@pytest.mark.parametrize(
    "algorithm", [name for name, model in HYPERPARAMETERS.items() if "image" in model.observations]
)
def test_pictures_and_numbers_together_are_learned_from_and_measured(algorithm):
    domain = every.LAMP if "discrete" in HYPERPARAMETERS[algorithm].actions else every.DIAL
    there = Target(domain, replace(every.learning(algorithm), hidden=(8, 8)), 0)
    run = train(None, there, sr.Scratch(), SHORT)
    fields = [field.name for field in run.agent.schema.observation if not field.grid]
    assert list(run.evidence["normalizer_shift"]) == fields and len(fields) == 1  # a picture has no statistics
    assert run.agent.policy.layout.images
    moved = train(run.agent, there, sr.FrozenEncoder(thaw_at=0.5), SHORT)
    names = tiny.changed(tiny.tensors(run.agent), tiny.tensors(moved.agent))
    assert "heads.critic.weight" in names and any(name.startswith("encoder.shared.") for name in names)


@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
@pytest.mark.parametrize(
    "domain", [PENDULUM, every.CHOICES, every.LAMP, every.DIAL], ids=["box", "discrete", "pictures", "pictures-box"]
)
def test_what_an_algorithm_is_said_to_see_and_do_is_what_it_takes(algorithm, domain):
    schema = find_task(domain.task).schema
    try:
        require_fit(algorithm, schema, "here")
        fits = True
    except UserError as error:
        fits = False
        assert str(error).startswith(f"{algorithm} ") and "here" in str(error) and "use one of ppo" in str(error)
    policy = find_algorithm(algorithm).policy_class_
    if fits:
        policy(schema.observation_space, schema.action_space, lambda _: 0.0, hidden=[8, 8])
    else:
        with pytest.raises(UserError):
            policy(schema.observation_space, schema.action_space, lambda _: 0.0, hidden=[8, 8])


def test_an_algorithm_that_cannot_act_somewhere_is_refused_before_worlds_are_made():
    with pytest.raises(
        UserError, match="sac takes a vector as its action, but actions in gymnasium:CartPole-v1 are choices"
    ):
        Target(every.CHOICES, every.learning("sac"), 0).learner()


def test_an_agent_of_another_algorithm_is_refused_with_what_to_do(sac):
    with pytest.raises(UserError, match="learned with sac and cannot go on with ppo: set algorithm: sac"):
        learner("ppo", sac, domain=PENDULUM)


@pytest.mark.parametrize(("name", "half"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_schedules_begin_at_the_rate_and_end_at_0(name, half):
    rate = schedule(2e-3, name)
    ends = (2e-3, 2e-3) if name == "constant" else (2e-3, 0.0)
    assert (rate(1.0), rate(0.0)) == pytest.approx(ends)
    assert rate(0.5) == pytest.approx(2e-3 * half)
    assert rate(0.75) == pytest.approx(2e-3 * {"constant": 1, "linear": 0.75, "cosine": (2 + 2**0.5) / 4}[name])


def test_a_rate_that_is_a_schedule_itself_takes_no_other_one():
    with pytest.raises(UserError, match="learning_rate is a function of the progress itself: leave out"):
        learner("sac", learning_rate=lambda remaining: 1e-3, learning_rate_schedule="linear")


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "dqn"])
def test_a_schedule_reaches_the_optimizer_and_the_card(algorithm):
    options = {"learning_rate": 1e-3, "learning_rate_schedule": "linear", "lr_scale": {"encoder": 0.1}}
    target = Target(home(algorithm), every.learning(algorithm, **options), 0)
    made, rates = target.learner(), {}
    made.progress_hooks.append(
        lambda learner, progress: rates.update(
            {learner.num_timesteps: [g["lr"] for g in learner.optimizer.param_groups]}
        )
    )
    made.learn(192)
    made.env.close()
    scales = [0.1 if group["name"].startswith("encoder") else 1.0 for group in made.optimizer.param_groups]
    assert max(rates) >= 128
    for steps in [steps for steps in rates if steps >= 64]:  # those of the update that came last
        assert rates[steps] == pytest.approx([1e-3 * scale * (1 - steps / 192) for scale in scales])
    card = train(None, target, sr.Scratch(), SHORT).agent.card["hyperparameters"]
    assert card["learning_rate_schedule"] == "linear" and card["lr_scale"] == {"encoder": 0.1}


def test_options_reach_the_groups_that_they_name():
    made = learner("sac", weight_decay=0.01, group_max_grad_norm={"critic": 0.5, "heads.critic": 0.1})
    groups = {group["name"]: group for group in made.optimizer.param_groups}
    assert {name for name, group in groups.items() if group["weight_decay"] == 0.0} == {
        "heads.log_std",
        "heads.temperature",
    }
    norms = {name: group["max_grad_norm"] for name, group in groups.items() if group["max_grad_norm"] is not None}
    assert norms == {"encoder.critic": 0.5, "heads.critic": 0.1}


def test_weight_decay_shrinks_what_the_losses_do_not_hold():
    sizes = []
    for decay in (0.0, 1.0):
        made = learner("ppo", weight_decay=decay, learning_rate=1e-2, dropout=0.2)
        assert made.policy.network["dropout"] == 0.2
        made = Target(PENDULUM, every.learning("ppo", weight_decay=decay, learning_rate=1e-2), 0).learner()
        made.learn(4 * tiny.ROLLOUT)
        made.env.close()
        sizes.append(made.policy.encoder.critic[0].weight.square().sum().item())
    assert sizes[1] < 0.9 * sizes[0]


def test_what_a_replay_buffer_holds_goes_with_the_agent_if_it_is_kept(sac, tmp_path):
    keep = replace(every.learning("sac"), replay="keep")
    run = train(None, Target(PENDULUM, keep, 0), sr.Scratch(), SHORT)
    assert sac.replay is None
    agent = sr.load(run.agent.save(tmp_path / "kept"))
    assert {name: column.tobytes() for name, column in agent.replay.items()} == {
        name: column.tobytes() for name, column in run.agent.replay.items()
    }
    assert len(agent.replay["rewards"]) == 96
    for learning, held in ((keep, 96), (every.learning("sac"), 0)):
        made = Target(PENDULUM, learning, 1).learner(agent)
        made.env.close()
        assert len(made.replay_buffer) == held
    small = replace(keep, hyperparameters={**keep.hyperparameters, "buffer_size": 64})
    made = Target(PENDULUM, small, 1).learner(agent)
    made.env.close()
    assert np.array_equal(
        np.sort(made.replay_buffer.state().columns["rewards"]), np.sort(agent.replay["rewards"][-64:])
    )


def test_a_kept_replay_buffer_that_was_changed_is_refused(tmp_path):
    keep = replace(every.learning("sac"), replay="keep")
    folder = train(None, Target(PENDULUM, keep, 0), sr.Scratch(), SHORT).agent.save(tmp_path / "kept")
    shutil.copytree(folder, tmp_path / "whole")
    data = bytearray((folder / "replay.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "replay.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"replay.safetensors does not match its sha256"):
        sr.load(folder)
    strange = sr.load(folder.parent / "whole")
    replace(strange, replay={"rewards": strange.replay["rewards"]}).save(folder.parent / "strange")
    with pytest.raises(UserError, match=r"does not hold this agent's transitions"):
        sr.load(folder.parent / "strange")
    (folder / "replay.safetensors").unlink()
    with pytest.raises(UserError, match=r"replay.safetensors is missing"):
        sr.load(folder)


def test_there_is_nothing_to_keep_without_a_replay_buffer():
    with pytest.raises(UserError, match="ppo has no replay buffer to keep"):
        Learning(replay="keep")
    with pytest.raises(UserError, match="ppo has no replay buffer to keep"):
        sr.Agent.of(learner("ppo"), replay=True)
    with pytest.raises(UserError, match="unknown algorithm 'sax'; did you mean 'sac'"):
        Learning(algorithm="sax")


def test_an_agent_that_can_act_does_not_begin_at_random():
    agent, away = trained("td3"), {}
    for name, given in (("moved", agent), ("new", None)):
        made = Target(PENDULUM, every.learning("td3", learning_starts=200), 0).learner(given)
        made.learn(64)
        made.env.close()
        columns = made.replay_buffer.state().columns
        best = (given or sr.Agent.of(made)).act(columns["observations"][:64])
        away[name] = np.abs(columns["actions"][:64] - best).mean()
    assert away["moved"] < 0.2 < 0.35 < away["new"]  # noise of 0.1, against any action at all
    greedy = trained("dqn")
    known, unknown = learner("dqn", greedy), learner("dqn", greedy, ["encoder", "trunk"])
    assert known.exploration_schedule(1.0) == known.exploration_final_eps < unknown.exploration_schedule(1.0)
    assert (known.uniform_start, unknown.uniform_start) == (False, True)


def test_targets_that_follow_come_along_with_what_they_follow(sac):
    made = learner("sac", sac)
    ours, theirs = made.policy.state_dict(), sac.policy.state_dict()
    names = [name for name in theirs if name.startswith("target.")]
    assert names and all(np.array_equal(ours[name], theirs[name]) for name in names)


def test_a_section_of_a_config_becomes_the_same_learning_as_its_data():
    config = AgentConfig(algorithm="tqc", hidden=(16,), num_worlds=4, hyperparameters={"n_quantiles": 5}, replay="keep")
    learning = Learning.of(config)
    assert learning == Learning.of(config.model_dump(mode="json"))
    assert (learning.algorithm, learning.hidden, learning.replay, learning.options) == ("tqc", (16,), "keep", {})
    assert learning.hyperparameters["n_quantiles"] == 5
    assert isinstance(config.hyperparameters, OffPolicyHyperparameters)


@pytest.mark.parametrize("threads", [1, 2])
def test_updates_run_on_as_many_torch_threads_as_they_are_to_and_the_card_says_so(threads, monkeypatch, tmp_path):
    seen, before = set(), torch.get_num_threads()
    monkeypatch.setattr(PPO, "train", lambda learner: seen.add(torch.get_num_threads()))
    learning = Learning((8, 8), num_worlds=4, torch_threads=threads)
    run = train(None, Target(PENDULUM, learning, 0), sr.Scratch(), SHORT)
    assert seen == {threads} and torch.get_num_threads() == before
    assert sr.load(run.agent.save(tmp_path / "agent")).card["torch_threads"] == threads
    with pytest.raises(UserError, match="torch_threads must be a whole number from 1 to 256, not 0"):
        Learning(torch_threads=0)


@pytest.mark.parametrize(("said", "torchs", "expected"), [(None, 1, 6), ("1", 1, 1), ("1", 2, 2), ("3", 1, 3)])
def test_threads_that_share_products_are_all_cores_or_as_many_as_were_said(said, torchs, expected, monkeypatch):
    monkeypatch.setattr("simreal.learner.cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    target = Target(PENDULUM, Learning((8, 8), num_worlds=4, torch_threads=torchs), 0)
    assert target.learner().threads == expected


def test_one_training_run_uses_all_cores_where_it_pays_and_an_experiment_one_each(monkeypatch):
    monkeypatch.setattr("simreal.learner.cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cheetah, pole, bullet = sr.Domain("halfcheetah"), sr.Domain("cartpole_swingup"), sr.Domain("halfcheetah", "bullet")
    assert at_once(cheetah, 64) == {"num_workers": 0, "num_threads": 6}
    assert at_once(pole, 64) == {"num_workers": 0, "num_threads": 1}
    assert at_once(bullet, 64)["num_workers"] == 4 and at_once(bullet, 20)["num_workers"] == 1
    assert at_once(bullet, 64, processes=False)["num_workers"] == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert at_once(pole, 64)["num_threads"] == at_once(cheetah, 64)["num_threads"] == 2
    assert at_once(bullet, 64)["num_workers"] == 2


@pytest.mark.parametrize(
    ("algorithm", "given", "says"),
    [
        ("ppo", {"gamma": 2}, "hyperparameters.gamma: must be less than or equal to 1, not 2"),
        ("ppo", {"batch_size": 0}, "hyperparameters.batch_size: must be greater than or equal to 2, not 0"),
        ("dqn", {"learning_rate": -1}, "hyperparameters.learning_rate: must be greater than 0, not -1"),
        ("sac", {"learning_rate": "1e-3"}, "hyperparameters.learning_rate: must be a number, not '1e-3'"),
        ("td3", {"gamma": float("nan")}, "hyperparameters.gamma: must be a finite number, not nan"),
        ("sac", {"batch_size": 16.5}, "hyperparameters.batch_size: must be a whole number, not 16.5"),
        (
            "sac",
            {"target_entropy": float("nan")},
            "hyperparameters.target_entropy: must be a number from -1000000 to 1000000 or auto",
        ),
        ("sac", {"gamma": lambda _: 0.9}, "hyperparameters.gamma: must be a valid number, not <function"),
        ("sac", [1], "hyperparameters must be a mapping of names to values"),
    ],
)
def test_a_script_is_told_what_a_config_is_told(algorithm, given, says):
    with pytest.raises(UserError, match=says):
        Learning(algorithm=algorithm, hyperparameters=given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hidden": 64}, "hidden must list the widths"),
        ({"hidden": [16, 0]}, "hidden.1: must be greater than or equal to 1, not 0"),
        ({"activation": "rely"}, "activation: unknown value 'rely'; did you mean 'relu'"),
        ({"cnn": "big"}, "cnn: unknown value 'big'; valid: grid, nature, small"),
        ({"hidden": [8] * 17}, "hidden: must have at most 16 entries, not 17"),
        ({"num_worlds": "4"}, "num_worlds must be a whole number"),
        ({"num_worlds": 10**9}, "num_worlds must be a whole number from 1 to 65536, not 1000000000"),
        ({"torch_threads": 10**9}, "torch_threads must be a whole number from 1 to 256, not 1000000000"),
    ],
)
def test_a_network_and_worlds_that_cannot_be_made_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        Learning(**given)


def test_a_hyperparameter_that_an_algorithm_does_not_have_is_refused_by_name():
    with pytest.raises(UserError, match="unknown hyperparameter of td3 'learnin_rate'; did you mean 'learning_rate'"):
        learner("td3", learnin_rate=1e-3)
    with pytest.raises(UserError, match="unknown hyperparameter of dqn 'ent_coef'"):
        learner("dqn", ent_coef=0.1)


def test_what_stable_baselines3_takes_beyond_a_config_reaches_the_algorithm():
    made = learner("sac", learning_rate=lambda remaining: 0.5 * remaining, train_freq=(2, "step"), verbose=0)
    assert made.lr_schedule(0.5) == 0.25 and made.train_freq.frequency == 2
