"""Arms that act on their early warning: real runs of a tiny cart-pole."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

import simreal as sr
from simreal import early
from simreal.arms import check
from simreal.config_files import parse
from simreal.diagnostics.early_warning import MARKS, Warning
from simreal.early import EarlyWarning, summary
from simreal.plan import plan
from simreal.schedule import Schedule
from simreal.training import train
from simreal_envs.errors import UserError

SCHEDULE = Schedule(tiny.ROLLOUT * 20, points=3, episodes=2, marks=MARKS)
STEPS = {mark: tiny.ROLLOUT * 20 * mark // 100 for mark in MARKS}
WARN = "early_warning: {on_negative: warn}"
ALWAYS, NEVER = 1e-9, 1 - 1e-9


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def agent():
    return sr.pretrain(tiny.CARTPOLE, 64, learning=tiny.LEARNING, points=2, episodes=2)


@pytest.fixture(scope="module")
def plain(agent):
    """The run that nobody warns."""
    return run(agent)


def run(agent, warning=None, strategy=None, **more):
    return train(agent, tiny.target(), strategy or sr.FineTune(), SCHEDULE, early=warning, **more)


def returns(run, since=0):
    return [row.return_mean for row in run.curve if row.env_steps >= since]


def only_at(percent):
    """A warning that is sure at one mark and sure of the contrary at all others, whatever it sees."""
    logits = {mark: 20.0 if mark == percent else -20.0 for mark in MARKS}
    return lambda mark: Warning((), np.zeros(0), np.ones(0), np.array([[logits[mark]]]))


def test_the_marks_join_the_evaluations(plain):
    assert [row.env_steps for row in plain.curve] == [*STEPS.values(), 640, 1280]
    assert "early_warning" not in plain.evidence


def test_a_warning_says_so_and_changes_no_bit(agent, plain, caplog):
    warned = run(agent, EarlyWarning("warn", ALWAYS))
    assert returns(plain) == returns(warned)
    assert not tiny.changed(tiny.tensors(plain.agent), tiny.tensors(warned.agent))
    said = warned.evidence["early_warning"]
    assert [(mark["percent"], mark["env_steps"]) for mark in said["at"]] == list(STEPS.items())
    assert all(0 <= mark["p"]["low"] <= mark["p"]["value"] <= mark["p"]["high"] <= 1 for mark in said["at"])
    assert said["acted"] == said["at"][0]
    assert [line for line in caplog.messages if "will probably turn out negative" in line and "0 %" in line]
    assert said["source_return"] == agent.card["returns"][-1]["return_mean"]


def test_a_schedule_may_have_other_marks_at_which_nobody_is_asked(agent):
    schedule = replace(SCHEDULE, marks=(*MARKS, 30))
    run = train(agent, tiny.target(), sr.FineTune(), schedule, early=EarlyWarning("warn"))
    assert tiny.ROLLOUT * 6 in [row.env_steps for row in run.curve]
    assert [one["percent"] for one in run.evidence["early_warning"]["at"]] == list(MARKS)


def test_below_the_threshold_nothing_happens(agent, plain, caplog):
    calm = run(agent, EarlyWarning("stop", NEVER))
    assert calm.evidence["early_warning"]["acted"] is None
    assert returns(calm) == returns(plain) and "negative" not in caplog.text


@pytest.mark.parametrize("percent", [0, 10])
def test_who_stops_keeps_what_was_learned_and_its_curve_goes_on_flat(agent, plain, monkeypatch, percent):
    monkeypatch.setattr(early, "fitted", only_at(percent))
    stopped = run(agent, EarlyWarning("stop"))
    last = STEPS[percent]
    assert [row.env_steps for row in stopped.curve] == [row.env_steps for row in plain.curve]
    before = [row.return_mean for row in plain.curve if row.env_steps <= last]
    assert returns(stopped)[: len(before)] == before
    assert set(returns(stopped, last)) == {before[-1]}
    assert stopped.evidence["early_warning"]["acted"]["percent"] == percent
    assert stopped.agent.card["ancestors"] == agent.lineage


@pytest.mark.parametrize("percent", [0, 10])
def test_who_falls_back_goes_on_as_scratch_does(agent, monkeypatch, percent):
    monkeypatch.setattr(early, "fitted", only_at(percent))
    schedule = Schedule(SCHEDULE.steps, points=11, episodes=1, marks=MARKS)  # every second rollout, and the first
    target = tiny.target()
    fallen = train(agent, target, sr.FineTune(), schedule, early=EarlyWarning("fall_back"))
    plain = train(agent, target, sr.FineTune(), schedule)
    scratch = train(None, target, sr.Scratch(), schedule)
    left = STEPS[percent]
    curves = [{row.env_steps: row.return_mean for row in one.curve} for one in (fallen, plain, scratch)]
    for step in curves[0]:
        if step <= left:
            assert curves[0][step] == curves[1][step]  # up to the mark it is the transfer
        elif step - left in curves[2]:
            assert curves[0][step] == curves[2][step - left]  # from there on it is scratch
    assert [row.env_steps for row in fallen.curve] == [row.env_steps for row in scratch.curve]
    assert "ancestors" not in fallen.agent.card
    assert len(fallen.evidence["early_warning"]["at"]) == MARKS.index(percent) + 1


@pytest.mark.parametrize(("action", "percent"), [("fall_back", 10), ("stop", 5)])
def test_a_run_that_was_killed_ends_with_the_same_bits(agent, monkeypatch, tmp_path, action, percent):
    monkeypatch.setattr(early, "fitted", only_at(percent))
    whole = run(agent, EarlyWarning(action))
    for kill_at in (2, 3, 5, 4):
        told = []

        def report(share, text, told=told, kill_at=kill_at):
            told.append(share)
            if len(told) == kill_at:
                raise Killed

        try:
            pieces = run(agent, EarlyWarning(action), checkpoints=tmp_path, report=report)
            break
        except Killed:
            continue
    else:
        pieces = run(agent, EarlyWarning(action), checkpoints=tmp_path)
    assert returns(pieces) == returns(whole)
    assert not tiny.changed(tiny.tensors(pieces.agent), tiny.tensors(whole.agent))
    assert pieces.evidence["early_warning"] == whole.evidence["early_warning"]


def test_in_python_the_marks_come_with_the_warning(agent):
    more = {"learning": tiny.LEARNING, "points": 2, "episodes": 1, "early": sr.EarlyWarning("stop", ALWAYS)}
    moved, scratch = (
        sr.transfer(agent, tiny.CARTPOLE, way, SCHEDULE.steps, **more) for way in (sr.FineTune(), sr.Scratch())
    )
    assert [row.env_steps for row in moved.curve] == [row.env_steps for row in scratch.curve] == [*STEPS.values(), 1280]
    assert moved.evidence["early_warning"]["acted"] and "early_warning" not in scratch.evidence


@pytest.mark.parametrize("strategy", [sr.Scratch(), sr.ZeroShot()])
def test_who_moves_nothing_or_learns_nothing_is_not_asked(agent, strategy):
    assert "early_warning" not in run(agent, EarlyWarning("stop", ALWAYS), strategy).evidence


# -- the report --------------------------------------------------------------------------------------------------------


def evidence(acted, action="stop"):
    mark = {"percent": 5, "env_steps": 50, "p": {"value": 0.8, "low": 0.6, "high": 0.9}}
    first = {"percent": 0, "env_steps": 0, "p": {"value": 0.4, "low": 0.2, "high": 0.6}}
    return {
        "early_warning": {
            "on_negative": action,
            "threshold": 0.7,
            "at": [first, mark],
            "acted": mark if acted else None,
        }
    }


def test_the_summary_says_what_was_saved():
    found = summary([(3, evidence(True)), (4, evidence(False)), (5, evidence(True))], 1000)
    assert found["at"][0]["p"] == pytest.approx({"value": 0.4, "low": 0.2, "high": 0.6})
    assert [(at["percent"], at["env_steps"], at["seeds"]) for at in found["at"]] == [(0, 0, 3), (5, 50, 3)]
    assert found["action"] == "stop" and [one["seed"] for one in found["acted"]] == [3, 5]
    assert found["saved_steps"] == 1900
    assert "2 of 3 seeds" in found["says"] and "saved 1,900" in found["says"] and "at 5 %" in found["says"]


def test_a_warning_saves_nothing_and_silence_is_said():
    warned = summary([(0, evidence(True, "warn"))], 1000)
    assert warned["saved_steps"] == 0 and "went on all the same" in warned["says"]
    assert "No early warning" in summary([(0, evidence(False))], 1000)["says"]
    assert summary([(0, {})], 1000) is None


# -- the stages of an experiment ---------------------------------------------------------------------------------------


def stages(tmp_path, more=""):
    experiment, _ = parse(tiny.CONFIG + more)
    return {stage.name: stage for stage in plan(experiment, check(experiment), tmp_path, {})}


def test_all_arms_share_the_marks_and_those_that_learn_with_a_source_are_asked(tmp_path):
    off, warn, stop = (stages(tmp_path, more) for more in ("", WARN, WARN.replace("warn}", "stop}")))
    arms = [name for name in off if name.startswith("arms/")]
    assert all(warn[name].kwargs["evaluation"]["marks"] == list(MARKS) for name in arms)
    asked = {name for name in arms if "early_warning" in warn[name].kwargs}
    assert asked == {name for name in arms if "/fine_tune/" in name}
    assert all("marks" not in stage.kwargs.get("evaluation", {}) for stage in off.values())
    # What is not asked has been computed already when another action is wanted, and sources know nothing of it.
    assert {name for name in arms if warn[name].key != stop[name].key} == asked
    assert all(off[name].key == warn[name].key for name in off if name.startswith(("agents/", "references/")))


# -- what a user may write ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("early_warning: {on_negative: stopp}", "stop"),
        ("early_warning: {threshold: 1.5}", "less than 1"),
        ("early_warning: {treshold: 0.5}", "threshold"),
    ],
)
def test_mistakes_in_a_config_are_named(text, says):
    with pytest.raises(UserError, match=says):
        parse(tiny.CONFIG + text)


def test_off_may_be_written_as_yaml_reads_it():
    experiment, _ = parse(tiny.CONFIG + "early_warning: {on_negative: off}")
    assert experiment.early_warning.on_negative == "off"
    with pytest.raises(UserError, match="on_negative"):
        EarlyWarning("explode")
    with pytest.raises(UserError, match="threshold"):
        EarlyWarning("warn", 1.0)
