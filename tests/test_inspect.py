import io
import json
import shutil

import numpy as np
import pytest
import tiny
import torch
from rich.console import Console

import simreal as sr
from simreal.inspection import inspect, print_inspection
from simreal_agents.bundle import Agent
from simreal_agents.bundle_files import card_checksum
from simreal_agents.surgery import fit
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks import find_task

SCHEMA = Schema(
    (Field("angle", "rad", ("hip", "knee")), Field("height", "m", ("z",))),
    (Field("torque", "N m", ("hip",), -2.0, 2.0),),
    0.02,
)
CURVE = [{"env_steps": 1000 * i, "return_mean": 10.0 * i, "return_std": 1.0, "success_rate": i / 20} for i in range(21)]
CARD = {
    "algorithm": "ppo", "seed": 7, "steps": 20000, "returns": CURVE, "hyperparameters": {"gamma": 0.99, "target_kl": None},
    "domain": {"task": "hop", "engine": "mujoco", "preset": "matched", "variation": {"friction": 0.5}},
    "strategy": {"name": "fine_tune", "lr_scale": 0.5}, "note": "kept for the paper",
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    agent = Agent.new(SCHEMA, {"hidden": [8, 4], "log_std_init": -1.0})
    agent.policy.encoder.normalizer.update(torch.tensor([[1.0, 2.0, 5.0], [3.0, 2.0, 5.0]]))
    return agent.save(tmp_path / "bundle", CARD)


def printed(found, width=110):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_inspection(found, console)
    return console.file.getvalue()


def test_the_data_is_what_the_agent_is(bundle):
    found = inspect(bundle)
    angle, height = found["observation"]
    assert (angle["name"], angle["unit"], angle["labels"], angle["low"]) == ("angle", "rad", ["hip", "knee"], None)
    assert (angle["mean"], height["mean"], height["rows"]) == ([2.0, 2.0], [5.0], [2.0])
    assert angle["std"] == pytest.approx([1.0, 1e-4])
    assert found["action"][0]["noise_std"] == pytest.approx([np.exp(-1)])
    assert found["parameters"] == {"actor": 3 * 8 + 8 + 8 * 4 + 4 + 4 + 1 + 1, "critic": 3 * 8 + 8 + 8 * 4 + 4 + 4 + 1}
    assert found["files"] == {name: (bundle / name).stat().st_size for name in ("card.json", "weights.safetensors")}
    assert found["card"]["note"] == "kept for the paper" and found["verified"] is True


def test_the_page_says_what_a_person_asks(bundle):
    text = printed(inspect(bundle))
    for words in (
        'PPO, hop on mujoco (matched), variation {"friction": 0.5}, strategy fine_tune {"lr_scale": 0.5}, 20,000 steps, seed 7',
        "3 - 8 - 4 - 1, tanh", "0.02 s (50 Hz)", "verified: weights", "hip, knee", "N m", "-2 to 2", "0.368", "gamma 0.99",
        "target_kl None", "note: \"kept for the paper\"",
    ):  # fmt: skip
        assert " ".join(words.split()) in " ".join(text.split()), words
    curve = [line.split() for line in text.splitlines() if "(std 1)" in line]
    assert (
        len(curve) == 9
        and curve[0][:2] == ["0", "0"]
        and curve[-1][:2] == ["20,000", "200"]
        and curve[-1][-1] == "100%"
    )
    assert max(map(len, text.splitlines())) <= 110


def test_an_agent_without_normalizer_or_training_is_shown_too(tmp_path):
    folder = Agent.new(SCHEMA, {"hidden": [8], "normalize_observations": False}).save(tmp_path / "new")
    text = printed(inspect(folder))
    assert "an agent that has not been trained" in text and "rows seen" not in text and "made of" not in text


def test_agents_of_every_algorithm_and_of_pictures_are_shown(tmp_path):
    choose = Schema(SCHEMA.observation, (Field("move", "1", ("left", "right", "jump"), discrete=True),), 0.02)
    eye = Field("eye", "1", ("red", "green"), 0, 255, grid=(12, 12), dtype="uint8")
    see = Schema((eye, *SCHEMA.observation), choose.action, 0.02)
    for algorithm, schema, words in (
        ("sac", SCHEMA, ("3 - 8 - 1, relu; 2 critics of the same shape", "replay buffer not kept", "in the actor")),
        ("tqc", SCHEMA, ("2 critics",)),
        ("crossq", SCHEMA, ("2 critics with layers of 1024",)),
        ("td3", SCHEMA, ("2 critics",)),
        ("dqn", choose, ("3 - 8 - 3, relu; the value of every action", "one of", "left, right, jump")),
        ("qrdqn", choose, ("the value of every action, 200 quantiles",)),
        ("ppo", choose, ("3 - 8 - 3, relu; a value function", "left, right, jump")),
        ("ppo", see, ("pictures - 8 - 3", "12 x 12 pixels: red, green", "in the encoder of both", "hip, knee")),
        ("dqn", see, ("pictures - 8 - 3", "12 x 12 pixels: red, green")),
    ):
        agent = Agent.new(schema, {"hidden": [8], "activation": "relu"}, algorithm=algorithm)
        found = inspect(agent.save(tmp_path / f"{algorithm}{len(schema.observation)}"))
        text = " ".join(printed(found, width=160).split())
        for part in words:
            assert part in text, (algorithm, part)
        parameters = sum(p.numel() for p in agent.policy.parameters())
        assert sum(found["parameters"].values()) == parameters
        assert ("replay buffer" in text) == (algorithm != "ppo")


def test_a_network_whose_card_leaves_settings_out_is_shown_as_it_is(bundle):
    card = json.loads((bundle / "card.json").read_text())
    del card["network"]["activation"]
    card["card_sha256"] = card_checksum(card)
    (bundle / "card.json").write_text(json.dumps(card))
    found = inspect(bundle)
    assert found["card"]["network"]["activation"] == "tanh" and "3 - 8 - 4 - 1, tanh" in printed(found)


def test_a_replay_buffer_that_was_kept_is_shown(tmp_path):
    shapes = {"observations": (7, 3), "next_observations": (7, 3), "actions": (7, 1), "rewards": 7, "terminated": 7}
    columns = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    agent = Agent.new(SCHEMA, {"hidden": [8]}, algorithm="sac")
    found = inspect(Agent(agent.policy, agent.schema, agent.card, columns).save(tmp_path / "kept"))
    assert found["card"]["replay"]["transitions"] == 7 and "replay.safetensors" in found["files"]
    assert "replay buffer 7 transitions" in " ".join(printed(found).split())


def test_the_experience_that_an_agent_carries_is_shown(tmp_path):
    agent = sr.pretrain(tiny.CARTPOLE, 64, learning=tiny.LEARNING, points=2, episodes=1)
    found = inspect(agent.save(tmp_path / "bundle"))
    steps = len(agent.experience["rewards"])
    assert f"experience {steps:,} transitions from the end of its training" in " ".join(printed(found).split())


def test_surgery_and_ancestors_are_shown(bundle, tmp_path):
    from simreal_agents.bundle import load

    fitted, _ = fit(load(bundle), observation=(Field("angle", "deg", ("knee", "hip")), Field("touch", "1", ("foot",))))
    text = printed(inspect(fitted.save(tmp_path / "fitted")), width=140)
    made_of = text[text.index("made of") :]
    assert "PPO, hop on mujoco" in made_of and "return 200" in made_of
    for words in (
        "rescaled",
        "rad -> deg",
        "created",
        "weights 0",
        "dropped",
        "taken as 5 (its mean)",
        "up to float32 rounding",
    ):
        assert words in made_of


@pytest.mark.parametrize(
    "card",
    [
        {"returns": {1: 2.5}}, {"returns": [1, 2]}, {"returns": [{"env_steps": "many", "return_mean": 1.0, "return_std": 0.0}]},
        {"surgery": {"rows": [{}], "says": ""}}, {"ancestors": [{"strategy": 3, "sha256": 7}]}, {"steps": "few"}, {"strategy": "mine"},
        {"returns": []},
    ],
)  # fmt: skip
def test_a_card_that_its_author_filled_in_otherwise_is_shown_as_it_is(tmp_path, card):
    text = printed(inspect(Agent.new(SCHEMA, {"hidden": [8]}).save(tmp_path / "own", card)))
    assert "observes" in text
    if not {"steps", "strategy"} & card.keys() and card != {"returns": []}:
        assert "also in the card" in text


def test_a_card_cannot_steer_the_terminal_or_use_markup(tmp_path):
    evil = Schema((Field("\x1b[2Jangle", "[red]", ("[link=http://x]hip",)),), SCHEMA.action, 0.02)
    text = printed(
        inspect(Agent.new(evil, {"hidden": [8]}).save(tmp_path / "evil", {"note\x1b]0;title\x07": "\x1b[31m"}))
    )
    assert not {c for c in text if not c.isprintable()} - {"\n"}
    assert "?[2Jangle" in text and "[red]" in text and "[link=http://x]hip" in text


def test_the_command_prints_the_page_or_json_and_refuses_what_is_damaged(bundle, monkeypatch, types):
    monkeypatch.setenv("COLUMNS", "110")
    status, out, err = types("inspect", bundle)
    assert (status, err) == (0, "") and out == printed(inspect(bundle))
    status, out, err = types("inspect", bundle, "--json")
    assert (status, err) == (0, "") and json.loads(out) == inspect(bundle)
    data = bytearray((bundle / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle / "weights.safetensors").write_bytes(data)
    status, out, err = types("inspect", bundle)
    assert (status, out) == (2, "") and "does not match its sha256" in err and err.count("\n") == 1
    with pytest.raises(UserError, match="there is no bundle"):
        inspect(bundle / "nowhere")


# ---- simreal fit ------------------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path):
    """A folder with an agent for the cart-pole and a config whose target is the pendulum."""
    Agent.new(find_task("cartpole_swingup").schema, {"hidden": [8]}).save(tmp_path / "agent", {"algorithm": "ppo"})
    (tmp_path / "pendulum.yaml").write_text(
        "task: pendulum_swingup\nagent: {hidden: [8], num_worlds: 8, hyperparameters: {n_steps: 8, batch_size: 32}}\n"
        "sources: {plain: {steps: 64}}\ntargets: {light: {steps: 64, variation: {rod/mass: 0.8}}}\nstrategies: {fine_tune: {}}\n"
        "evaluation: {points: 2, episodes: 2}\n"
    )
    return tmp_path


def test_an_agent_is_fitted_and_then_transfers_like_any_other(work, types):
    refused = types("transfer", "agent", "pendulum.yaml", "--strategy", "fine_tune", "--out", "arm")
    assert refused[0] == 2 and "observation fields" in refused[2]
    status, out, err = types("fit", "agent", "pendulum.yaml", "--out", "fitted")
    assert (
        (status, err) == (0, "")
        and "cart_velocity" in out
        and "no action is shared" in out
        and out.endswith("bundle: fitted\n")
    )
    status, out, err = types("fit", "agent", "pendulum.yaml", "--target", "light", "--out", "again", "--json")
    assert status == 0 and json.loads(out)["rows"][0]["fate"] == "matched"
    assert (work / "again/weights.safetensors").read_bytes() == (work / "fitted/weights.safetensors").read_bytes()
    status, out, err = types("transfer", "fitted", "pendulum.yaml", "--strategy", "fine_tune", "--out", "arm")
    assert status == 0, err
    first, second = json.loads((work / "arm/agent/card.json").read_text())["ancestors"]
    assert "surgery" not in first and second["surgery"]["rows"]


def test_mistakes_with_fit_are_one_sentence_and_write_nothing(work, types):
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    (work / "full").mkdir()
    shutil.copy(work / "pendulum.yaml", work / "full")
    for words, says in (
        (["agent", "pendulum.yaml", "--out", "agent"], "is the agent itself"),
        (["agent", "pendulum.yaml", "--out", "full"], "is neither empty nor"),
        (["agent", "pendulum.yaml", "--target", "ligth", "--out", "x"], "did you mean 'light'"),
        (["nowhere", "pendulum.yaml", "--out", "x"], "there is no bundle at nowhere"),
        (["agent", "pendulum.yaml", "task=hopper", "targets.light.variation={}", "--out", "x"], "share no observation"),
    ):
        status, out, err = types("fit", *words)
        assert (status, out, err.count("\n")) == (2, "", 1) and says in err, err
    assert {path: path.read_bytes() for path in before} == before and not (work / "x").exists()
