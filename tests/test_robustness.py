"""Where an agent breaks: the choice of parameters and values, and what is found there."""

import json

import numpy as np
import pytest
import tiny

import simreal as sr
from simreal import robustness, stage_functions
from simreal.evaluation import EVALUATION_SEED
from simreal.robustness import Axis, chosen, sweep
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain, LogUniform, Scale, Uniform


def cartpole(engine="mujoco", **variation):
    named = {name.replace("__", "/"): value for name, value in variation.items()}
    return Domain("cartpole_swingup", engine=engine, variation=named)


@pytest.fixture(scope="module")
def agent():
    return sr.pretrain(tiny.CARTPOLE, 64, learning=tiny.LEARNING, points=2, episodes=1)


def test_the_parameters_where_the_target_leaves_the_sources_come_first_and_the_grid_goes_beyond_it():
    source = cartpole(
        pole__mass=Uniform(0.6, 1.4), slider__damping=LogUniform(0.03, 0.5), cart__mass=Scale(Uniform(0.9, 1.1))
    )
    target = cartpole(pole__mass=1.8, latency=0.02, cart__mass=1.05)
    x, y = chosen(target, [source], 5)
    # Latency is all of its way outside of the source, the mass a third of it.
    assert (x.parameter, x.unit, x.target, x.source) == ("latency", "s", 0.02, (0.0, 0.0))
    # 0 to 0.03, a half beyond the target, by multiples of the 5 ms that the engine takes; the nearest to the target is it.
    assert x.values == pytest.approx((0.0, 0.01, 0.015, 0.02, 0.03))
    assert (y.parameter, y.target, y.source) == ("pole/mass", 1.8, (0.6, 1.4))
    assert y.values == pytest.approx((0.6, 1.05, 1.5, 1.8, 2.4))


def test_where_the_target_is_inside_of_the_source_what_varies_most_comes_first_and_the_grid_covers_the_source():
    source = cartpole(
        pole__mass=Uniform(0.6, 1.4), slider__damping=LogUniform(0.03, 0.48), cart__mass=Uniform(0.9, 1.1)
    )
    damping, mass = chosen(cartpole(), [source], 5)
    assert (damping.parameter, mass.parameter) == ("slider/damping", "pole/mass")
    assert damping.values == (0.03, 0.06, 0.1, 0.24, 0.48)  # equal ratios; 0.12 gave way to the target's 0.1
    assert mass.values == (0.6, 0.8, 1.0, 1.2, 1.4)


def test_choices_are_the_values_where_there_is_nothing_between_them_and_bounds_hold():
    sign, strength = chosen(cartpole(actuator__sign=-1, actuator__strength=0.3), [cartpole()], 4)
    assert (sign.parameter, sign.values, sign.target, sign.source) == ("actuator/sign", (-1.0, 1.0), -1.0, (1.0, 1.0))
    assert strength.values == (0.05, 0.136, 0.3, 1.0)  # from its lower bound, by equal ratios, with the target's value


def test_several_sources_are_one_range_a_target_that_draws_has_no_value_and_one_parameter_is_a_line():
    sources = [cartpole(pole__mass=Uniform(0.5, 0.7)), cartpole(pole__mass=Uniform(1.2, 1.5))]
    (mass,) = chosen(cartpole(pole__mass=Uniform(1.0, 2.0)), sources, 5)
    assert (mass.source, mass.target) == ((0.5, 1.5), None)
    assert mass.values == pytest.approx((0.5, 1.06, 1.62, 2.19, 2.75))


@pytest.mark.parametrize(
    ("target", "sources"),
    [
        (cartpole("bullet"), [cartpole()]),  # nothing but the engine
        (cartpole(pole__mass=1.0), [cartpole()]),  # the nominal value
        (cartpole("bullet"), [cartpole(slider__armature=0.5)]),  # which Bullet has not
    ],
)
def test_without_a_parameter_to_move_there_is_no_grid(target, sources):
    assert chosen(target, sources, 5) == ()


def test_an_axis_goes_through_plain_data_and_back():
    for axis in chosen(cartpole(pole__mass=1.8), [cartpole(latency=Uniform(0, 0.02))], 3):
        assert Axis.from_dict(json.loads(json.dumps(axis.to_dict()))) == axis


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_every_cell_is_what_an_evaluation_there_gives(agent, engine, monkeypatch):
    monkeypatch.setitem(robustness.AT_A_TIME, engine, 6)  # two cells at a time, the last part half empty
    domain = cartpole(engine, pole__mass=3.0, actuator__strength=Uniform(0.5, 1.5))
    found = sweep(agent, domain, {"pole/mass": [0.5, 1.0, 2.0], "latency": [0.0]}, episodes=3)
    assert found.returns.shape == found.success.shape == (1, 3, 3)
    assert (found.x.parameter, found.x.target, found.y.parameter) == ("pole/mass", 3.0, "latency")
    for place, mass in enumerate((0.5, 1.0, 2.0)):
        there = cartpole(engine, pole__mass=mass, actuator__strength=Uniform(0.5, 1.5), latency=0.0)
        alone = sr.evaluate(agent, there, episodes=3, seed=EVALUATION_SEED)
        np.testing.assert_allclose(found.returns[0, place], alone.returns, atol=1e-6)
    plain = found.to_dict()
    np.testing.assert_allclose(plain["returns"], found.returns.mean(axis=2))
    assert plain["episodes"] == 3 and plain["success"] == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "one or two parameters"),
        ({"pole/mass": [1], "latency": [0], "gravity": [9]}, "one or two parameters"),
        ({"pole/mass": []}, "1 to 1,000 values"),
        (
            {"pole/mass": [0.5 + k / 1000 for k in range(1001)]},
            r"1 to 1,000 values, each once, not .*\.\.\..* \(1001\)",
        ),
        ({"pole/mass": [1, 1]}, "each once"),
        ({"pole/mass": 1}, "needs a list of numbers, not 1"),
        ({"pole/mass": ["heavy"]}, "needs a list of numbers, not .*heavy"),
        ({"pole/mas": [1]}, "did you mean 'pole/mass'"),
        ({"pole/mass": [1, 99]}, "outside of its bounds"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_a_sentence(agent, values, said):
    with pytest.raises(UserError, match=said):
        sweep(agent, cartpole(), values, episodes=1)


def test_the_report_has_the_grid_of_every_target_and_its_arms_median_seeds(finished):
    found = finished.report["robustness"]["light"]
    assert found["x"] == {
        "parameter": "pole/mass", "unit": "kg", "values": [0.7, 0.8, 0.85, 0.925, 1.0], "target": 0.8, "source": [1.0, 1.0],
    }  # fmt: skip
    assert found["y"] is None and found["episodes"] == robustness.EPISODES
    assert {(arm["source"], arm["strategy"]) for arm in found["arms"]} == {
        ("none", "scratch"), ("plain", "zero_shot"), ("plain", "fine_tune"),
    }  # fmt: skip
    for arm in found["arms"]:
        assert np.shape(arm["returns"]) == np.shape(arm["success"]) == (1, 5)
        who = (arm["source"], arm["strategy"], "light")
        assert arm["seed"] == stage_functions.median_seed(finished.out, who, [0, 1])
    arm = found["arms"][-1]
    agent = sr.load(finished.out / "arms" / arm["source"] / arm["strategy"] / "light" / f"seed-{arm['seed']}" / "agent")
    there = sr.evaluate(agent, cartpole(pole__mass=0.7), episodes=robustness.EPISODES)
    assert arm["returns"][0][0] == pytest.approx(there.returns.mean(), abs=1e-6)


def test_the_command_line_shows_where_an_agent_breaks(finished, types):
    def swept(*words):
        config, bundle = finished.cwd / "tiny.yaml", finished.out / "agents/plain/seed-0"
        return types("evaluate", bundle, config, "--episodes", "2", "--sweep", *words)

    shown = swept("pole/mass=0.5:2:4")[1].splitlines()
    assert shown[0] == "return (success) by pole/mass [kg]"
    assert [line.split()[0] for line in shown[1:]] == ["0.5", "1", "1.5", "2"]
    words = ("pole/mass=0.5:2:4", "latency=0:0.02:2")
    shown = swept(*words)[1].splitlines()
    assert shown[0] == "return (success): columns pole/mass [kg], rows latency [s]"
    assert shown[1].split() == ["0.5", "1", "1.5", "2"] and [line.split()[0] for line in shown[2:]] == ["0", "0.02"]
    found = json.loads(swept(*words, "--json")[1])
    assert (found["domain"], found["y"]["values"], np.shape(found["returns"])) == ("light", [0.0, 0.02], (2, 4))
    for words, says in (
        (["pole/mass=0.5"], "expected NAME=low:high:values"),
        (["pole/mass=0.5:2:99999999999999"], "the values of a sweep must be a whole number from 1 to 1000, not 99999999999999;"),
        (["pole/mass=0.5:2:4", "--episodes", "1000000000000"], "the episodes of a sweep must be a whole number from 1 to 100000"),
    ):  # fmt: skip
        status, _, err = swept(*words)
        assert status == 2 and says in err
