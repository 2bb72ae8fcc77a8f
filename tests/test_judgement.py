import numpy as np
import pytest

from simreal import judgement
from simreal.config_files import load
from simreal.diagnostics import Curves, diagnose
from simreal.finished import read
from simreal.judgement import judged_together, outside, score
from simreal.results import build_report
from simreal_envs.variation import Domain


def test_reasons_say_which_domain_was_forgotten(several, monkeypatch):
    called = []

    def listening(*curves, source, **settings):
        called.append(source)
        return diagnose(*curves, source=source, **settings)

    monkeypatch.setattr(judgement, "diagnose", listening)
    build_report(several.out)
    first = "plain (the first of its sources)"  # of those that `careful` averages
    alone = [first, "the source", first, "the source"]
    assert called == [*alone, first, "the domain before", "the source", "the domain before"]


def test_a_step_of_a_sequence_knows_the_worlds_of_all_steps_before_it(several, monkeypatch):
    found = []

    def listening(*curves, evidence, **settings):
        found.append(evidence[0]["outside"].get("pole/mass"))
        return diagnose(*curves, evidence=evidence, **settings)

    monkeypatch.setattr(judgement, "diagnose", listening)
    folder = read(load(several.out / "config.yaml"), several.out)
    sources, returning = (
        ["plain", "plain+robust"],
        folder.experiment.model_copy(update={"sequence": ("heavy", "light", "heavy")}),
    )
    for experiment, step in ((folder.experiment, 2), (returning, 3)):
        for source in sources:
            key = (source, "careful" if "+" in source else "taught", "heavy", step)
            seeds = folder.arms[(*key[:3], 0)]
            judgement.judge(
                key, seeds, folder.control("heavy"), experiment, folder.scales["heavy"], None, before="light"
            )
    assert found == [
        (1.5, 0.8, 1.0, "kg"),
        (1.5, 0.8, 1.2, "kg"),
        None,
        None,
    ]  # at last it was in the heavy world before


def test_what_an_early_warning_saved_is_counted_to_the_last_step_that_an_arm_would_have_made(several):
    folder = read(load(several.out / "config.yaml"), several.out)
    mark = {"percent": 0, "env_steps": 0, "p": {"value": 0.9, "low": 0.8, "high": 1.0}}
    said = {"early_warning": {"on_negative": "stop", "threshold": 0.7, "at": [mark], "acted": mark}}
    key = ("plain", "taught", "heavy", 0)
    seeds = {seed: (rows, one | said) for seed, (rows, one) in folder.arms[key].items()}
    last = next(iter(seeds.values()))[0][-1].env_steps
    spec = folder.experiment.targets["heavy"].model_copy(update={"steps": last - 5})  # rollouts are whole
    experiment = folder.experiment.model_copy(update={"targets": {**folder.experiment.targets, "heavy": spec}})
    named, _ = judgement.judge(key, seeds, folder.control("heavy"), experiment, folder.scales["heavy"], None)
    assert named["early_warning"]["saved_steps"] == len(seeds) * last


def test_parameters_of_a_target_that_its_sources_never_had_are_named():
    source = Domain("cartpole_swingup", variation={"pole/mass": {"uniform": [0.6, 1.4]}, "gravity": 5.0})
    target = Domain("cartpole_swingup", variation={"pole/mass": 1.8, "cart/mass": {"scale": {"uniform": [0.5, 1.2]}}})
    # gravity is nominal again, and the cart's range reaches farther down (0.5 kg) than up (0.2 kg) from the nominal 1 kg
    cart, gravity = (0.5, 1.0, 1.0, "kg"), (9.81, 5.0, 5.0, "m/s^2")
    assert outside([source], target) == {"pole/mass": (1.8, 0.6, 1.4, "kg"), "cart/mass": cart, "gravity": gravity}
    wider = Domain("cartpole_swingup", variation={"pole/mass": {"uniform": [0.6, 2.0]}})
    assert outside([source, wider], target) == {"cart/mass": cart}
    assert outside([], target) == outside([Domain("reacher")], target) == {}


def test_a_game_has_a_score_on_the_scales_that_are_known():
    seeds = {seed: ((), {"score": score}) for seed, score in enumerate((9.8, 14.7))}
    found = score(seeds, Domain("grid_catch"), 0.95)["score"]  # random actions earn -4.9
    assert found.keys() == {"raw", "random_normalized"}
    assert (found["raw"]["value"], found["random_normalized"]["value"]) == pytest.approx((12.25, 2.5))
    assert found["raw"]["low"] < 9.8 and found["raw"]["high"] > 14.7  # two seeds say little
    assert score({**seeds, 2: ((), {})}, Domain("grid_catch"), 0.95) == {}  # of an arm that was made before


def test_only_the_score_of_a_whole_game_is_beside_a_humans():
    pytest.importorskip("ale_py", reason="ale-py is in the extra `atari`")
    seeds = {seed: ((), {"score": 14.8}) for seed in (0, 1)}
    whole = score(seeds, Domain("ale:freeway"), 0.95)["score"]
    assert whole["human_normalized"]["value"] == pytest.approx(0.5)  # (14.8 - 0) / (29.6 - 0)
    one_life = Domain("ale:breakout", preset="nature15"), Domain("ale:breakout", variation={"lives/terminal": 1})
    assert all(score(seeds, domain, 0.95)["score"].keys() == {"raw"} for domain in one_life)
    again = Domain("ale:breakout", preset="nature15", variation={"lives/terminal": 0})
    assert "human_normalized" in score(seeds, again, 0.95)["score"]


def test_arms_with_the_same_numbers_are_two_verdicts_and_the_first_step_of_a_sequence_is_none_of_its_own():
    scratch, other = (Curves([0, 1], [[0.0, end]] * 5, range(5)) for end in (1.0, 0.5))
    verdict = diagnose(other, scratch, random_return=0, reference_return=1, rng=np.random.default_rng(0))
    one, two = ({"source": "plain", "strategy": name, "target": "light"} for name in ("fine_tune", "l2sp"))
    entries, multiplicity = judged_together([(one, verdict), (two, verdict), (dict(one), verdict)])
    assert [entry["strategy"] for entry in entries] == ["fine_tune", "l2sp", "fine_tune"]
    assert multiplicity["verdicts"] == 2
