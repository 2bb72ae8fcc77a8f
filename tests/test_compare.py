from dataclasses import replace

import pytest
import tiny

import simreal as sr
from simreal_envs.errors import UserError

SETTINGS = {"learning": tiny.LEARNING, "points": 2, "episodes": 2}
HEAVY = sr.Domain("cartpole_swingup", variation=sr.Shift({"pole/mass": 2.0, "actuator/strength": 0.8}))


@pytest.fixture(scope="module")
def runs():
    """The example of a user's program: agents from a randomized source, two ways to move them, a control arm."""
    source = sr.Domain("cartpole_swingup", variation=sr.Randomization({"pole/mass": sr.Uniform(0.5, 1.5)}))
    agents = [sr.pretrain(source, steps=64, seed=seed, **SETTINGS) for seed in range(2)]
    strategies = {"scratch": sr.Scratch(), "frozen": sr.FrozenEncoder(thaw_at=0.5), "fine_tune": sr.FineTune(0.3)}
    return {
        name: [sr.transfer(agents[s], HEAVY, strategy, steps=128, seed=s, **SETTINGS) for s in range(2)]
        for name, strategy in strategies.items()
    }


def test_a_verdict_prints_and_is_the_same_every_time(runs):
    for name in ("frozen", "fine_tune"):
        verdict = sr.diagnose(runs[name], scratch=runs["scratch"])
        assert isinstance(verdict, sr.Verdict)
        assert str(verdict).startswith("inconclusive") and "area" in str(verdict)
        assert verdict == sr.diagnose(runs[name], scratch=runs["scratch"])
        assert verdict.reasons


def test_settings_reach_the_verdict(runs):
    verdict = sr.diagnose(runs["frozen"], scratch=runs["scratch"], min_seeds=2, margin=1e6, random_return=-20.0)
    assert (verdict.label, verdict.margin) == ("neutral", 1e6)
    assert verdict.scale == pytest.approx(20 + max(best(runs, "frozen"), best(runs, "scratch")))


def test_the_unit_of_rewards_does_not_change_a_verdict(runs):
    def paid_in(unit, some):
        columns = ("return_mean", "stochastic_return_mean")
        rows = [
            [replace(row, **{name: unit * getattr(row, name) for name in columns}) for row in run.curve] for run in some
        ]
        return [replace(run, curve=tuple(curve)) for run, curve in zip(some, rows, strict=True)]

    def area(unit):
        sides = [paid_in(unit, runs[name]) for name in ("frozen", "scratch")]
        return sr.diagnose(sides[0], scratch=sides[1], min_seeds=2, random_return=-20.0 * unit).area

    assert area(0.001).value == pytest.approx(area(1.0).value) != 0


def best(runs, name):
    curves = [[row.return_mean for row in run.curve] for run in runs[name]]
    return max(sum(returns) / len(returns) for returns in zip(*curves, strict=True))


def test_the_control_arm_cannot_be_forgotten(runs):
    with pytest.raises(TypeError, match="scratch"):
        sr.diagnose(runs["frozen"])
    with pytest.raises(UserError, match="a transfer without a control arm proves nothing"):
        sr.diagnose(runs["frozen"], scratch=[])


def test_arms_the_wrong_way_round_are_refused(runs):
    with pytest.raises(UserError, match=r"scratch= must be runs of Scratch\(\), not of FineTune\(lr_scale=0\.3"):
        sr.diagnose(runs["scratch"], scratch=runs["fine_tune"])


def test_only_what_belongs_together_is_compared(runs):
    one, other = runs["fine_tune"]
    with pytest.raises(UserError, match="one strategy at a time"):
        sr.diagnose([one, runs["frozen"][1]], scratch=runs["scratch"])
    with pytest.raises(UserError, match="in different ones"):
        sr.diagnose([replace(one, domain=tiny.CARTPOLE), other], scratch=runs["scratch"])
    with pytest.raises(UserError, match="same steps and evaluation points"):
        sr.diagnose([replace(one, curve=one.curve[:1]), other], scratch=runs["scratch"])
    with pytest.raises(UserError, match="each seed once"):
        sr.diagnose([one, one], scratch=runs["scratch"])
