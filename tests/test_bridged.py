"""Experiments between different games: in configs, on cards, in reports, and with one encoder for several games."""

import json
from dataclasses import replace

import every
import numpy as np
import pytest
import tiny
import yaml

import simreal as sr
from simreal.arms import check, require_bridge, require_view
from simreal.config import Experiment, domains
from simreal.evaluation import Evaluator, evaluate
from simreal.inspection import inspect
from simreal.learner import Source, Target
from simreal.memory import record
from simreal.schedule import Schedule
from simreal.strategies import MultiTask
from simreal.training import train
from simreal_agents.bundle import Agent, load
from simreal_envs.bridges import CHANNELS, GAMEPAD, Bridge
from simreal_envs.errors import UserError
from simreal_envs.tasks import find_task
from simreal_envs.view import own_schema, schema_of

UNION = {"channels": "union", "actions": "union"}
CATCH, DODGE, INVADERS = (sr.Domain(f"grid_{name}", bridge=UNION) for name in ("catch", "dodge", "invaders"))
SCHEDULE = Schedule(64, points=2, episodes=1)
CONFIG = """
name: games
task: grid_catch
seeds: 1
bridge: {channels: union, actions: union}
agent: {hidden: [8], num_worlds: 8, hyperparameters: {n_steps: 8, batch_size: 32, n_epochs: 2}}
sources:
  catch: {steps: 64}
targets:
  dodge: {task: grid_dodge, steps: 64}
strategies: {fine_tune: {}}
evaluation: {points: 2, episodes: 1}
tracking: {wandb: disabled}
video: 0
robustness: 0
workers: 1
"""


def breakout() -> sr.Domain:
    """A game that lacks what the grid games have."""
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    return sr.Domain("minatar:breakout", bridge=UNION)


def configured(**more) -> Experiment:
    return Experiment.model_validate({**yaml.safe_load(CONFIG), **more})


def test_the_experiments_bridge_is_that_of_every_domain_that_names_none():
    targets = {"dodge": {"task": "grid_dodge"}, "own": {"bridge": {"channels": "padding"}}}
    found = domains(configured(targets=targets))
    assert found["sources", "catch"].bridge == found["targets", "dodge"].bridge == Bridge("union", "union")
    assert found["targets", "own"].bridge == Bridge("padding", "native")
    assert domains(configured(bridge=None))["sources", "catch"] == sr.Domain("grid_catch")


def test_games_that_do_not_fit_are_told_what_makes_them_fit():
    targets = {"dodge": {"task": "grid_dodge", "bridge": {"channels": "padding"}}}
    with pytest.raises(
        UserError,
        match=r"targets.dodge: observation field 'grid' differs.*; `bridge: {channels: union, actions: union}`, or surgery or "
        "channel_adapter instead of fine_tune, makes games fit each other",
    ):
        check(configured(targets=targets, strategies={"fine_tune": {}, "surgery": {}}))
    check(configured(targets=targets), moves=False)  # as for a command that is given its agent
    check(configured(targets=targets, strategies={"surgery": {}, "channel_adapter": {}}))
    with pytest.raises(UserError, match="bridge: cartpole_swingup shows no picture"):
        check(configured(targets={"robot": {"task": "cartpole_swingup"}}))


def test_an_agent_that_does_not_fit_a_game_is_told_what_makes_it_fit():
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    here, there = (sr.Domain(f"minatar:{game}") for game in ("breakout", "space_invaders"))
    agent = Agent.new(schema_of(here))
    require_bridge(agent, here, "it")
    hint = r"it does not fit minatar:space_invaders.*; `bridge: {channels: union, actions: union}` for both, or one of"
    with pytest.raises(UserError, match=hint):
        require_bridge(agent, there, "it")


@pytest.mark.parametrize("named", [5, "home", [1]])
def test_an_agent_whose_card_names_no_domain_of_ours_is_refused_in_one_sentence(named):
    agent = Agent.new(sr.find_task("cartpole_swingup").schema, {"hidden": [4]})
    with pytest.raises(UserError, match="the domain that an agent's card names must be a mapping, not "):
        require_bridge(replace(agent, card={"domain": named}), sr.Domain("cartpole_swingup"), "it")


def test_nonsense_under_the_curriculum_of_a_card_is_told_with_the_card():
    home = sr.Domain("cartpole_swingup")
    agent = replace(Agent.new(schema_of(home), {"hidden": [4]}), card={"domain": home.to_dict() | {"curriculum": 5}})
    with pytest.raises(UserError, match=r"^the card's domain: curriculum takes {start: .., until: ..}, not 5$"):
        require_view(agent, home, "it")


FINE_TUNE = ("--strategy", "fine_tune", "--out", "out")
REFITS = {"surgery": {}, "channel_adapter": {}}


def refused(**more) -> str:
    with pytest.raises(UserError) as caught:
        check(configured(**more))
    return str(caught.value)


def test_games_that_act_at_other_rates_are_refused_whatever_moves_the_agents():
    pytest.importorskip("ale_py", reason="needs ale-py, of the extra atari")
    atari = {"targets": {"pong": {"task": "ale:pong@42"}}, "bridge": None}
    assert refused(**atari, strategies=REFITS) == (
        "targets.pong: control periods differ: source 'catch' acts every 0.1 s, target 'pong' every 0.0666667 s; "
        "surgery fits fields, not rates"
    )
    assert "bridge:" not in refused(**atari)  # which would not help
    check(configured(**atari, strategies={"scratch": {}}))


def test_actions_that_do_not_meet_are_refused_at_once():
    pole, robot = ({"there": {"task": task}} for task in ("gymnasium:CartPole-v1", "cartpole_swingup"))
    told = refused(bridge=None, sources=pole, targets=robot, strategies={"surgery": {}})
    assert told == (
        "targets.there: source 'there' takes a choice as action, target 'there' a vector: nothing makes one of the other"
    )
    pytest.importorskip("minigrid", reason="needs MiniGrid, of the extra games")
    maze = {"maze": {"task": "gymnasium:minigrid:MiniGrid-Empty-5x5-v0"}}
    assert refused(bridge=None, sources=maze, strategies={"surgery": {}}) == (
        "targets.dodge: source 'maze' and target 'dodge' share no choice: 0, 1, 2, 3, 4, 5, 6 against stay, left, right, fire; "
        "surgery's `rename` says which mean the same"
    )
    named = {"type": "surgery", "rename": {"action/left": "action/0"}}
    check(configured(bridge=None, sources=maze, strategies={"surgery": named}))
    check(
        configured(bridge=None, sources=maze, strategies={"both": [{"surgery": {"rename": named["rename"]}}, "l2sp"]})
    )
    assert "share no choice" in refused(
        bridge=None, sources=maze, strategies={"one": named, "other": "channel_adapter"}
    )


def test_several_games_with_one_encoder_must_show_and_take_the_same():
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    sources = {"catch": {"strategy": "multi_task"}, "breakout": {"task": "minatar:breakout"}}
    told = refused(sources=sources, targets={"dodge": {"task": "grid_dodge", "sources": ["catch"]}}, bridge=None)
    assert told.startswith("sources.catch.strategy: observation field 'grid' differs: source 'catch' has")
    assert told.endswith("; `bridge: {channels: union, actions: union}` makes games fit each other")
    check(configured(sources=sources))


def test_one_head_for_source_and_target_that_lack_different_choices_is_refused_with_a_way_out():
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    targets = {"breakout": {"task": "minatar:breakout"}}
    for strategy in ("source_mix", "pcgrad", "darc"):
        assert refused(targets=targets, strategies={"fine_tune": {}, "both": strategy}) == (
            "strategies.both: one head learns in both at once, and source 'catch' lacks down, up, target 'breakout' lacks "
            "down, fire, up; take a strategy that learns in the target alone, such as fine_tune, or a source with the strategy "
            "multi_task, which has a head for each"
        )
    check(configured(targets=targets, strategies={"fine_tune": {}, "careful": ["fine_tune", "l2sp"]}))
    check(configured(strategies={"both": "source_mix"}))  # dodge lacks what catch lacks


def test_one_head_along_a_sequence_of_games_that_lack_different_choices_is_refused():
    """From the second step on the source is the target before."""
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    games = {"space": "minatar:space_invaders", "wall": "minatar:breakout"}
    told = refused(
        sources={name: {"task": task, "steps": 64} for name, task in games.items()},
        targets={f"{name}_again": {"task": task, "sources": [name]} for name, task in games.items()},
        strategies={"both": "source_mix"}, sequence=["space_again", "wall_again"],
    )  # fmt: skip
    assert told.startswith(
        "strategies.both: one head learns in both at once, and target 'space_again' lacks down, up, target 'wall_again' lacks"
    )


def test_card_report_and_inspection_say_which_bridge_was_used(tmp_path, types):
    (tmp_path / "games.yaml").write_text(CONFIG)
    status, _, said = types("run", "games.yaml", "--out", "out")
    assert status == 0, said
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["sources"]["catch"]["bridge"] == report["targets"]["dodge"]["bridge"] == UNION
    bundle = tmp_path / "out/arms/catch/fine_tune/dodge/seed-0/agent"
    agent = load(bundle)
    assert agent.card["domain"]["bridge"] == UNION and agent.schema.action[0].absent == ("up", "down")
    shown = types("inspect", bundle)[1]
    assert '"channels": "union"' in " ".join(shown.split()) and "absent: up, down" in " ".join(shown.split())
    assert inspect(bundle)["card"]["domain"]["bridge"] == UNION


def test_an_agent_without_the_bridge_of_a_config_is_told_so_and_what_helps(tmp_path, types):
    def refused(*words):
        status, out, err = types(*words)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        return err

    (tmp_path / "games.yaml").write_text(CONFIG)
    for name, bridge in (("native", {}), ("union", UNION)):
        domain = sr.Domain("grid_catch", bridge=bridge)
        Agent.new(own_schema(domain), {"hidden": [8]}).save(tmp_path / name, {"domain": domain.to_dict()})
    for words in (["evaluate", "native", "games.yaml"], ["transfer", "native", "games.yaml", *FINE_TUNE]):
        said = refused(*words)
        assert "native was trained without a bridge, and here grid_dodge is under `bridge: {channels: union, " in said
        assert "one of the strategies surgery and channel_adapter, makes games fit each other" in said
    said = refused("evaluate", "union", "games.yaml", "bridge=", "targets.dodge.task=grid_invaders")
    assert "under `bridge: {channels: union, actions: union}`, and here grid_invaders is without a bridge" in said
    # What no bridge is to blame for is told where the agent begins.
    require_bridge(load(tmp_path / "native"), sr.Domain("grid_invaders"), "native")
    require_bridge(load(tmp_path / "union"), DODGE, "union")


@pytest.fixture(scope="module")
def agent():
    return sr.pretrain(CATCH, 64, learning=tiny.LEARNING, points=2, episodes=1)


def test_agents_are_evaluated_and_recorded_with_what_the_game_there_has(agent):
    there = breakout()
    assert evaluate(agent, there, episodes=1, deterministic=False).lengths.tolist()
    assert set(record(agent, there, 100, 0, num_worlds=4).actions) == {
        GAMEPAD.index(n) for n in ("stay", "left", "right")
    }
    evaluator = Evaluator(there, 1)
    assert evaluator.random().lengths.tolist()  # a choice that is absent would end it
    evaluator.close()
    assert set(record(None, CATCH, 256, 0).actions) == {GAMEPAD.index(n) for n in ("stay", "left", "right", "fire")}


@pytest.mark.parametrize("strategy", [sr.FineTune(), sr.ZeroShot(), sr.Kickstart()])
def test_strategies_move_agents_between_games_that_lack_different_choices(agent, strategy):
    here = Target(breakout(), tiny.LEARNING, 0)
    run = train(agent, here, strategy, SCHEDULE, source=CATCH)
    assert run.agent.schema.action[0].absent == ("up", "down", "fire")
    assert all(np.isfinite(row.return_mean) for row in run.curve)
    assert all(np.isfinite(t).all() for t in tiny.tensors(run.agent).values())
    if isinstance(strategy, sr.ZeroShot):
        assert not tiny.changed(tiny.tensors(agent), tiny.tensors(run.agent))


@pytest.fixture(scope="module")
def several():
    """One encoder for three games, two of which lack other choices than the third, and heads for each."""
    games = {"catch": CATCH, "dodge": DODGE, "breakout": breakout()}
    return train(None, Target(CATCH, tiny.LEARNING, 0, domains=games), MultiTask(), Schedule(256, points=2, episodes=1))


def test_one_encoder_learns_several_games_with_heads_of_their_own(several):
    schema = several.agent.schema
    assert schema.observation[0].labels == CHANNELS and schema.observation[-1].labels == ("catch", "dodge", "breakout")
    weight = tiny.tensors(several.agent)["heads.actor.weight"].reshape(3, len(GAMEPAD), 8)
    fresh = tiny.tensors(sr.Agent.new(schema, several.agent.policy.network))["heads.actor.weight"].reshape(weight.shape)
    assert weight.shape == fresh.shape
    grid, wall = ({GAMEPAD.index(n) for n in names} for names in (("up", "down"), ("up", "down", "fire")))
    learner = MultiTask().begin(
        None, Target(CATCH, tiny.LEARNING, 0, domains={"a": CATCH, "b": DODGE, "c": breakout()})
    )
    start = learner.policy.heads.actor.weight.detach().numpy().copy().reshape(weight.shape)
    learner.learn(128)
    learner.env.close()
    end = learner.policy.heads.actor.weight.detach().numpy().reshape(weight.shape)
    still = [{i for i in range(len(GAMEPAD)) if np.array_equal(end[task, i], start[task, i])} for task in range(3)]
    assert still == [grid, grid, wall]


@pytest.mark.parametrize(
    "strategy",
    [sr.ZeroShot(), sr.FineTune(), sr.FrozenEncoder(new_heads=True), sr.RandomEncoder(), sr.LinearProbe()],
)
def test_its_agent_moves_to_a_game_that_it_has_never_seen(several, strategy):
    source = Source("several", several.agent, CATCH)
    run = train(several.agent, Target(INVADERS, tiny.LEARNING, 0, sources=(source,)), strategy, SCHEDULE)
    assert run.agent.policy.network["tasks"] == 3 and run.agent.card["domain"]["bridge"] == UNION
    moved = tiny.changed(tiny.tensors(several.agent), tiny.tensors(run.agent))
    encoder = {name for name in moved if name.startswith("encoder.shared")}
    assert bool(encoder) == isinstance(strategy, sr.FineTune | sr.RandomEncoder)
    assert bool(moved) != isinstance(strategy, sr.ZeroShot)


def test_one_head_for_games_that_lack_different_choices_is_refused(agent):
    from simreal_envs.together import Together

    target = Target(CATCH, tiny.LEARNING, 0)
    parts = [target.worlds(domain, 4) for domain in (CATCH, breakout())]
    with pytest.raises(UserError, match="need a head for each, as multi_task makes them"):
        target.learner(worlds=Together(parts))
    for worlds in parts:
        worlds.close()


def test_values_of_absent_choices_go_with_agents_that_only_value(tmp_path):
    learning = every.learning("dqn")
    agent = sr.pretrain(CATCH, 64, learning=learning, points=2, episodes=1)
    run = train(agent, Target(breakout(), replace(learning), 0), sr.FineTune(), SCHEDULE)
    assert run.agent.schema.action[0].absent == ("up", "down", "fire")


@pytest.mark.parametrize(
    ("package", "here", "there"),
    [("minatar", "minatar:breakout", "minatar:seaquest"), ("ale_py", "ale:pong@42", "ale:freeway@42")],
)
def test_games_as_they_are_are_fitted_by_the_names_of_channels_and_choices(package, here, there):
    pytest.importorskip(package, reason="needs a package of the extras games and atari")
    ours, theirs = (find_task(name).schema for name in (here, there))
    agent = sr.Agent.new(ours, {"hidden": [4]}, seed=2)
    fitted, _ = sr.fit(agent, theirs)
    old, new = _by_label(agent), _by_label(fitted)
    for kind in old:
        assert old[kind].keys() & new[kind].keys()
        for label, weight in new[kind].items():
            if label in old[kind]:
                assert (weight == old[kind][label]).all()
            elif kind == "channel":
                assert not weight.any()
    assert new["choice"].keys() - old["choice"].keys() and fitted.schema == theirs


def _by_label(agent: sr.Agent) -> dict:
    """The weights of the first convolution by channel, of the head by choice."""
    policy, seen, done = agent.policy, agent.schema.observation[0].labels, agent.schema.action[0].labels
    kernels = policy.encoder.shared.cnns["image"][0].weight.unbind(1)
    return {
        "channel": dict(zip(seen, kernels, strict=True)),
        "choice": dict(zip(done, policy.heads.actor.weight, strict=True)),
    }
