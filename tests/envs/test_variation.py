"""Distributions, variations and domains as values."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreal_envs.errors import UserError
from simreal_envs.parameters import UNSUPPORTED, Draws
from simreal_envs.tasks import TASKS
from simreal_envs.variation import (
    Choice,
    Constant,
    Curriculum,
    Domain,
    Interval,
    LogUniform,
    Normal,
    Randomization,
    Scale,
    Shift,
    Startup,
    Uniform,
    Varied,
    draw_all,
    variation_from_dict,
)

QUARTILES = np.array([0.25, 0.5, 0.75])
PARAMETERS = {p.name: p for p in TASKS["cartpole_swingup"].parameters}
# Parameters whose nominal value is not zero, so that multiples of it mean something.
SCALABLE = ["cart/mass", "pole/mass", "slider/damping", "gravity", "actuator/strength"]

finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-3, 1e3)
plain_distributions = st.one_of(
    st.builds(Constant, finite),
    st.tuples(finite, finite).map(lambda pair: Uniform(*sorted(pair))),
    st.tuples(positive, positive).map(lambda pair: LogUniform(*sorted(pair))),
    st.builds(Normal, finite, st.floats(0, 1e3)),
    st.lists(finite, min_size=1, max_size=5).map(Choice),
)
distributions = st.one_of(plain_distributions, plain_distributions.map(Scale))
drawn = distributions.filter(lambda d: not isinstance(d.of if isinstance(d, Scale) else d, Constant))
with_modes = st.one_of(distributions, drawn.map(Startup), st.builds(Interval, drawn, st.floats(1e-3, 100.0)))
mild = st.one_of(  # multiples of nominal that every parameter in SCALABLE allows
    st.floats(0.5, 2.0).map(lambda x: Scale(Constant(x))),
    st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0)).map(lambda pair: Scale(Uniform(*sorted(pair)))),
    st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0)).map(lambda pair: Scale(LogUniform(*sorted(pair)))),
    st.lists(st.floats(0.5, 2.0), min_size=1, max_size=4).map(lambda options: Scale(Choice(options))),
    st.floats(0.0, 0.1).map(lambda std: Scale(Normal(1.0, std))),
)


# -- distributions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "quartiles"),
    [
        (Constant(3.0), [3.0, 3.0, 3.0]),
        (Uniform(2.0, 6.0), [3.0, 4.0, 5.0]),
        (LogUniform(1.0, 16.0), [2.0, 4.0, 8.0]),
        (Normal(10.0, 2.0), [10 - 2 * 0.6744897502, 10.0, 10 + 2 * 0.6744897502]),
        (Choice([5.0, 1.0]), [5.0, 1.0, 1.0]),
        (Scale(1.5), [3.0, 3.0, 3.0]),
        (Scale(Uniform(0.5, 1.5)), [1.5, 2.0, 2.5]),
        (Scale(Choice([-1.0, 1.0])), [-2.0, 2.0, 2.0]),
    ],
    ids=str,
)
def test_quartiles_are_where_the_distribution_says_for_a_nominal_value_of_two(distribution, quartiles):
    assert np.allclose(distribution.values(QUARTILES, 2.0), quartiles, atol=1e-9)


@given(distributions, st.lists(st.floats(1e-16, 1 - 1e-16), min_size=1, max_size=20), st.floats(-10, 10))
def test_values_keep_to_the_declared_bounds(distribution, quantiles, nominal):
    values = distribution.values(np.array(quantiles), nominal)
    low, high = distribution.bounds(nominal)
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    assert values.shape == (len(quantiles),) and values.dtype == np.float64
    assert low - slack <= values.min() and values.max() <= high + slack


def test_the_bounds_are_reached_at_the_extreme_quantiles():
    for distribution in (Uniform(2.0, 6.0), LogUniform(1.0, 16.0), Normal(0.0, 2.0), Choice([1.0, 3.0])):
        extremes = distribution.values(np.array([1e-15, 1 - 1e-15]), 1.0)
        assert np.allclose(extremes, distribution.bounds(1.0), rtol=1e-9)


def test_every_option_of_a_choice_is_equally_likely():
    values = Choice([1.0, 2.0, 4.0]).values((np.arange(3000) + 0.5) / 3000, 1.0)
    assert [np.count_nonzero(values == option) for option in (1.0, 2.0, 4.0)] == [1000, 1000, 1000]


def test_a_scale_of_a_negative_nominal_value_keeps_its_bounds_in_order():
    assert Scale(Uniform(0.5, 2.0)).bounds(-1.0) == (-2.0, -0.5)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Uniform(2.0, 1.0), "needs low <= high"),
        (lambda: Uniform(float("nan"), 1.0), "needs low <= high"),
        (lambda: LogUniform(0.0, 1.0), "needs low > 0"),
        (lambda: LogUniform(2.0, 1.0), "needs low <= high"),
        (lambda: Normal(0.0, -1.0), "needs std >= 0"),
        (lambda: Choice([]), "at least one option"),
        (lambda: Choice(3.0), "at least one option, and finite numbers only, not 3.0"),
        (lambda: Choice([1.0, "two"]), r"finite numbers only, not \[1.0, 'two'\]"),
        (lambda: Choice([1.0, float("nan")]), r"finite numbers only, not \[1.0, nan\]"),
        (lambda: Constant("heavy"), r"^Constant\(value='heavy'\) takes numbers, not 'heavy'$"),
        (lambda: Uniform("a", "b"), "takes numbers, not 'a'"),
        (lambda: LogUniform(1.0, None), "takes numbers, not None"),
        (lambda: Normal(True, 1.0), "takes numbers, not True"),
        (lambda: Randomization(["gravity"]), r"^Randomization takes parameter: value pairs, not \['gravity'\]$"),
        (lambda: Shift({"gravity": Uniform(9.0, 10.0)}), "Shift: gravity must be a number.*use Randomization"),
        (lambda: Shift({"gravity": Scale(Uniform(0.9, 1.0))}), "Shift: gravity must be a number.*use Randomization"),
        (lambda: Shift({"gravity": "strong"}), "gravity: expected a number or one of {constant, uniform"),
        (lambda: Shift({"gravity": True}), "gravity: expected a number"),
        (lambda: Shift({"gravity": float("inf")}), "gravity: expected a finite number, not inf"),
        (lambda: Startup(1.0), "Startup: 1.0 is a fixed value; there is nothing to draw"),
        (lambda: Interval(Scale(2.0), 1.0), "is a fixed value; there is nothing to draw"),
        (lambda: Interval(Uniform(0, 1), True), "every must be a positive number of seconds, not True"),
        (lambda: Interval(Uniform(0, 1), 0.0), "every must be a positive number of seconds, not 0.0"),
        (lambda: Startup(Interval(Uniform(0, 1), 1.0)), "a value has one mode"),
        (
            lambda: Scale(Startup(Uniform(0, 1))),
            r"^Scale: when a value is drawn stands around its scale, Startup\(Scale\(",
        ),
        (
            lambda: Randomization({"gravity": {"scale": {"uniform": [0.9, 1], "mode": "startup"}}}),
            r"^gravity: when a value is drawn stands around its scale, .* {scale: .., mode: startup}, not inside of it",
        ),
        (lambda: Uniform(Scale(0.9), 1.0), "takes numbers, not Scale.*; a scale stands around it"),
        (lambda: Shift({"gravity": Startup(Uniform(9.0, 10.0))}), "Shift: gravity must be a number.*use Randomization"),
        (lambda: Curriculum(Shift({"gravity": 9.0})), r"^Curriculum: what widens is a Randomization, not Shift\("),
        (lambda: Curriculum(Randomization(), start=1.5), r"start must be in \[0, 1\]"),
        (lambda: Curriculum(Randomization(), until=0.0), r"until in \(0, 1\]"),
        (lambda: Curriculum(Randomization(), "slow"), "Curriculum: start must be a number, not 'slow'"),
        (lambda: Curriculum(Randomization(), until=None), "Curriculum: until must be a number, not None"),
    ],
)
def test_a_distribution_that_makes_no_sense_is_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"curriculum": 5}, r"^curriculum takes {start: .., until: ..}, not 5$"),
        ({"curriculum": [1, 2]}, r"^curriculum takes {start: .., until: ..}, not \[1, 2\]$"),
        ({"curriculum": {"begin": 0.5}}, "^unknown key of curriculum 'begin'; valid: start, until$"),
        ({"curriculum": {"start": {"at": 1}}}, "^Curriculum: start must be a number, not {'at': 1}$"),
        ({"observe": 5}, r"^observe takes {history: .., actions: ..}, not 5$"),
        ({"observe": {"ranges": 5}}, r"^observe: ranges must be pairs of numbers \(low, high\), not 5$"),
        ({"observe": {"ranges": [["a", "b"]]}}, "^observe: ranges must be pairs of numbers"),
        (
            {"observe": {"parameters": ["gravity"], "ranges": [[11, 9]]}},
            r"pairs of numbers \(low, high\), not \[\[11, 9",
        ),
        ({"observe": {"parameters": 5}}, "^observe: parameters must be a list of names, not 5$"),
        ({"observe": {"tasks": [5], "task": 5}}, r"^observe: tasks must be a list of names, not \[5\]$"),
        ({"variation": 5}, "^expected parameter: value pairs, not 5$"),
        ({"varation": {"gravity": 9.0}}, "^unknown key of a domain 'varation'; did you mean 'variation'?"),
        ({5: 6}, "^unknown key of a domain '5'; valid: "),
    ],
)
def test_nonsense_in_a_domains_plain_form_is_told_in_one_sentence(part, sentence):
    plain = Domain("cartpole_swingup", variation=Randomization({"pole/mass": Uniform(0.5, 2.0)})).to_dict()
    with pytest.raises(UserError, match=sentence):
        Domain.from_dict(plain | part)


# -- as values ---------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(["a", "b/c", "*/mass"]), with_modes, max_size=3))
def test_a_variation_survives_its_plain_form(values):
    fixed = all(isinstance(v.of if isinstance(v, Scale) else v, Constant) for v in values.values())
    variation = (Shift if fixed else Randomization)(values)
    again = variation_from_dict(json.loads(json.dumps(variation.to_dict())))
    assert again == variation and hash(again) == hash(variation) and type(again) is type(variation)


@given(
    st.dictionaries(st.sampled_from(SCALABLE), mild, max_size=4),
    st.sampled_from(["mujoco", "bullet"]),
    st.sampled_from(["matched", "engine_default"]),
    st.none() | st.tuples(st.floats(0, 1), st.floats(0.01, 1)),
)
def test_a_domain_survives_its_plain_form(values, engine, preset, curriculum):
    if curriculum:
        variation = Curriculum(Randomization(values), *curriculum)
    else:
        variation = variation_from_dict(Randomization(values).to_dict())
    domain = Domain("cartpole_swingup", engine, variation, preset)
    again = Domain.from_dict(json.loads(json.dumps(domain.to_dict())))
    assert again == domain and hash(again) == hash(domain)


def test_a_plain_mapping_becomes_a_shift_or_a_randomization():
    assert Domain("cartpole_swingup", variation={"pole/mass": 2}).variation == Shift({"pole/mass": 2.0})
    drawn = Domain("cartpole_swingup", variation={"pole/mass": {"uniform": [1, 2]}, "gravity": 9}).variation
    assert drawn == Randomization({"pole/mass": Uniform(1.0, 2.0), "gravity": 9.0})
    assert Domain("cartpole_swingup").variation == Domain("cartpole_swingup", variation=None).variation == Shift()


def test_domains_with_other_values_tasks_engines_or_presets_are_not_equal():
    domains = {
        Domain("cartpole_swingup"),
        Domain("quadruped"),
        Domain("cartpole_swingup", "bullet"),
        Domain("cartpole_swingup", preset="engine_default"),
        Domain("cartpole_swingup", variation={"pole/mass": 2.0}),
        Domain("cartpole_swingup", variation={"pole/mass": {"scale": 2.0}}),
        Domain("cartpole_swingup", variation=Randomization({"pole/mass": 2.0})),
    }
    assert len(domains) == 7


def test_a_variation_prints_as_what_one_would_type():
    variation = Randomization({"friction": Uniform(0.5, 1.0), "trunk/mass": Scale(1.2)})
    assert eval(repr(variation)) == variation


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            {"gravity": {"unifrom": [1, 2]}},
            r"target\.gravity: unknown distribution 'unifrom'; did you mean 'uniform'\?",
        ),
        ({"gravity": {"uniform": [1]}}, r"target\.gravity: uniform takes two numbers, not \[1\]"),
        ({"gravity": {"uniform": ["a", 2]}}, r"target\.gravity: uniform takes numbers, not \['a', 2\]"),
        ({"gravity": {"uniform": [1, 2], "normal": [1, 2]}}, "expected a number or one of"),
        ({"gravity": [1, 2]}, r"target\.gravity: expected a number or one of {constant, uniform.*}, not \[1, 2\]"),
        ({"gravity": {"scale": {"choice": []}}}, "at least one option"),
        ([1], "target: expected parameter: value pairs"),
        ({3: 1.0}, "a parameter is named by a word such as 'friction', not by 3"),
        (
            {"gravity": {"uniform": [1, 2], "mode": "startpu"}},
            r"target\.gravity: unknown mode 'startpu'; did you mean 'startup'\?",
        ),
        (
            {"gravity": {"uniform": [1, 2], "every": 2.0}},
            r"target\.gravity: `every: seconds` belongs to `mode: interval`, not to mode reset",
        ),
        ({"gravity": {"uniform": [1, 2], "mode": "interval"}}, r"target\.gravity: `mode: interval` needs `every:`"),
        (
            {"gravity": {"uniform": [1, 2], "mode": "interval", "evry": 2}},
            r"target\.gravity: unknown key of a distribution 'evry'; did you mean 'every'\?",
        ),
        ({"gravity": {"uniform": [1, 2], "modes": "startup"}}, r"'modes'; did you mean 'mode'\?"),
        ({"gravity": {"uniform": [2, 1]}}, r"target\.gravity: Uniform\(low=2.0, high=1.0\) needs low <= high"),
        ({"gravity": {"scale": {"log_uniform": [0, 1]}}}, r"target\.gravity: LogUniform.* needs low > 0"),
        (
            {"gravity": {"uniform": [1, 2], "mode": "interval", "every": -1}},
            r"target\.gravity: .*positive number of seconds",
        ),
        (
            {"gravity": {"constant": 1, "mode": "startup"}},
            r"target\.gravity: .*a fixed value; there is nothing to draw",
        ),
        ({"gravity": {"mode": "startup"}}, r"target\.gravity: expected a number or one of"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused_with_its_place(data, sentence):
    with pytest.raises(UserError, match=sentence):
        variation_from_dict(data, "target")


# -- domains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"task": "cartpole"}, r"unknown task 'cartpole'; did you mean 'cartpole_swingup'\?"),
        ({"engine": "mujuco"}, r"unknown engine 'mujuco'; did you mean 'mujoco'\? valid: bullet, mujoco"),
        ({"preset": "match"}, r"unknown preset 'match'; did you mean 'matched'\?"),
        (
            {"variation": {"pole/mas": 1}},
            r"unknown parameter of cartpole_swingup 'pole/mas'; did you mean 'pole/mass'\?",
        ),
        ({"variation": {"pole/mass": 50}}, r"pole/mass = 50 \[kg\] is outside of its bounds 0.05 to 5"),
        ({"variation": {"pole/mass": {"normal": [1, 1]}}}, r"pole/mass = -2 to 4 \[kg\] is outside"),
        ({"variation": {"pole/mass": {"scale": {"uniform": [1, 9]}}}}, r"pole/mass = 1 to 9 \[kg\] is outside"),
        ({"variation": {"*/mass": 0.07}}, r"cart/mass = 0.07 \[kg\] is outside"),
        ({"variation": {"latency": 0.001}}, "latency = 0.001.*rounded to multiples of 0.005"),
        ({"variation": {"latency": Choice([0.0, 0.001, 0.02])}}, "latency = 0.001.*rounded to multiples of 0.005"),
        ({"variation": {"actuator/sign": 0}}, r"actuator/sign must be one of -1, 1, not 0"),
        (
            {"variation": {"actuator/sign": {"uniform": [-1, 1]}}},
            r"cartpole_swingup: actuator/sign must be one of -1, 1, not drawn from {'uniform': \[-1.0, 1.0\]}; "
            r"{choice: \[-1, 1\]} draws one of them",
        ),
        (
            {"variation": {"actuator/sign": {"choice": [-1, 0, 1]}}},
            r"actuator/sign must be one of -1, 1, not 0",
        ),
    ],
)
def test_a_domain_is_checked_when_it_is_made(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        Domain(**{"task": "cartpole_swingup", **arguments})


@pytest.mark.parametrize(
    "drawn",
    [
        Uniform(-1, 11),  # the middle is a choice
        Normal(5, 1),
        Scale(Uniform(-11, 1)),
        Startup(Uniform(-1, 11)),
        Interval(Uniform(-1, 11), every=1.0),
    ],
)
def test_nothing_between_two_choices_is_drawn_whatever_the_middle_is(drawn):
    with pytest.raises(UserError, match=r"quadruped: actuator/failed must be one of -1, 0, .*, not drawn from"):
        Domain("quadruped", variation={"actuator/failed": drawn})


@pytest.mark.parametrize("fixed", [3, Uniform(3, 3), Choice([-1, 3]), Scale(Choice([1, -3])), Startup(Choice([-1, 3]))])
def test_choices_of_a_parameter_are_accepted(fixed):
    (varied,) = Domain("quadruped", variation={"actuator/failed": fixed}).resolve()
    drawn = varied.distribution.values(np.array([0.01, 0.99]), -1.0)
    assert set(drawn.tolist()) <= {-1.0, 3.0}


def test_a_parameter_that_the_engine_does_not_have_is_refused_there_and_only_there():
    assert PARAMETERS["hinge/armature"].supported("bullet") == UNSUPPORTED
    Domain("cartpole_swingup", "mujoco", {"hinge/armature": 0.01})
    with pytest.raises(UserError, match="hinge/armature is not supported by the engine 'bullet'"):
        Domain("cartpole_swingup", "bullet", {"hinge/armature": 0.01})


@pytest.mark.parametrize(
    ("name", "every", "sentence"),
    [
        ("gravity", 0.005, r"gravity every 0.005 s: expected at least a control step \(0.02 s\)"),
        ("gravity", 6.0, r"less than an episode \(5 s\)"),
        ("timestep", 1.0, "timestep cannot change in the middle of an episode"),
    ],
)
def test_an_interval_that_would_never_come_or_cannot_is_refused(name, every, sentence):
    bounds = {p.name: (p.nominal, p.high) for p in TASKS["cartpole_swingup"].parameters}[name]
    with pytest.raises(UserError, match=sentence):
        Domain("cartpole_swingup", variation={name: {"uniform": bounds, "mode": "interval", "every": every}})


def test_delays_are_rounded_to_the_steps_that_a_timestep_makes():
    long, short = {"timestep": 0.008}, {"timestep": Uniform(0.00125, 0.008)}
    for values in (
        {"latency": 0.004, **long},
        {"time*": 0.008, "latency": 0.003},
        {**long, "observation/delay": 0.015},
    ):
        with pytest.raises(UserError, match=r"would do nothing: it is rounded to multiples of 0.0(08|32)"):
            Domain("cartpole_swingup", variation=values)
    Domain("cartpole_swingup", variation=Randomization({"latency": 0.001, **short}))
    Domain("cartpole_swingup", variation={"latency": 0.002, "timestep": 0.002})


def test_a_multiple_of_a_nominal_value_of_zero_is_refused_in_every_mode():
    with pytest.raises(UserError, match="a multiple of hinge/frictionloss would do nothing"):
        Domain("cartpole_swingup", variation={"hinge/frictionloss": Startup(Scale(Uniform(0, 1)))})


def test_a_multiple_of_no_load_is_refused_though_its_body_has_some_mass():
    assert 0 < next(p for p in TASKS["quadruped"].parameters if p.name == "payload").nominal < 0.01
    with pytest.raises(UserError, match=r"a multiple of payload .* give values in kg, from 0 to 8"):
        Domain("quadruped", variation={"payload": {"scale": {"uniform": [0.5, 1.5]}}})


def test_patterns_expand_and_later_entries_win():
    varied = Domain("cartpole_swingup", variation={"*/mass": {"scale": 2}, "pole/mass": 3.0}).resolve()
    assert {v.parameter.name: v.distribution for v in varied} == {"cart/mass": Scale(2.0), "pole/mass": Constant(3.0)}


# -- curricula ---------------------------------------------------------------------------------------------------------


def test_a_curriculum_widens_linearly_and_then_stays():
    curriculum = Curriculum(Randomization(), start=0.2, until=0.5)
    assert np.allclose([curriculum.width(p) for p in (-1, 0, 0.25, 0.5, 0.9, 2)], [0.2, 0.2, 0.6, 1, 1, 1])
    assert Randomization().width(0.0) == Shift().width(0.0) == 1.0


@pytest.mark.parametrize("name", ["pole/mass", "hinge/frictionloss"])
def test_a_narrow_draw_is_the_full_draw_pulled_towards_nominal(name):
    draws = Draws(0, np.arange(50), np.zeros(50, int))
    varied = Varied(PARAMETERS[name], Uniform(0.5, 2.0))
    full, half, none = (draw_all((varied,), draws, width)[0] for width in (1.0, 0.5, 0.0))
    nominal = PARAMETERS[name].nominal
    assert np.array_equal(none, np.full(50, nominal))
    assert np.allclose(half - nominal, 0.5 * (full - nominal), rtol=1e-12)


def test_a_choice_parameter_takes_its_drawn_value_more_and_more_often():
    n = 2000
    draws = Draws(0, np.arange(n), np.zeros(n, int))
    varied = Varied(PARAMETERS["actuator/sign"], Choice([-1.0, 1.0]))
    flipped = {width: draw_all((varied,), draws, width)[0] < 0 for width in (0.0, 0.3, 0.6, 1.0)}
    assert not flipped[0.0].any()
    # Half of the worlds would be flipped at full width; 4 standard deviations of a binomial share (6e-5).
    for width, flips in flipped.items():
        assert abs(flips.mean() - 0.5 * width) <= 4 * np.sqrt(0.25 / n)
    assert (flipped[0.3] <= flipped[0.6]).all() and (flipped[0.6] <= flipped[1.0]).all()  # nobody goes back


def test_what_else_is_randomized_does_not_change_a_parameters_draw():
    draws = Draws(1, np.arange(5), np.zeros(5, int))
    alone = Domain("cartpole_swingup", variation={"pole/mass": {"uniform": [1, 2]}}).resolve()
    crowd = Domain(
        "cartpole_swingup", variation={"gravity": {"uniform": [9, 10]}, "*/mass": {"uniform": [1, 2]}}
    ).resolve()
    drawn = {v.parameter.name: value for v, value in zip(crowd, draw_all(crowd, draws), strict=True)}
    assert np.array_equal(drawn["pole/mass"], draw_all(alone, draws)[0])
    assert not np.array_equal(drawn["pole/mass"], drawn["cart/mass"])


@pytest.mark.parametrize("data", [5, "home", [], [1], {}, {"task": 5}, {"engine": "mujoco"}])
def test_what_is_no_domain_is_refused_where_one_is_read(data):
    with pytest.raises(UserError, match=r"^a domain must be a mapping that names a task, not "):
        Domain.from_dict(data)
    if not isinstance(data, dict):
        with pytest.raises(UserError, match="the domain that an agent's card names must be a mapping, not "):
            Domain("cartpole_swingup").seen_by(data)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_numbers_of_numpy_are_kept_as_numbers_that_files_can_hold(kind):
    one, two = kind(1), kind(2)
    values = {
        "cart/mass": Constant(one), "pole/mass": Uniform(one, two), "hinge/damping": Startup(LogUniform(one, two)),
        "gravity": Scale(Normal(one, kind(0))), "slider/damping": Interval(Choice([one, two]), every=one),
    }  # fmt: skip
    domain = Domain("cartpole_swingup", variation=Curriculum(Randomization(values), kind(0), one))
    assert Domain.from_dict(json.loads(json.dumps(domain.to_dict()))) == domain
    assert "np." not in repr(domain)
