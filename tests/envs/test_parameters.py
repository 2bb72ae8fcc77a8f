"""Parameters and keyed draws."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simreal_envs.errors import UserError
from simreal_envs.parameters import APPROXIMATE, EXACT, UNSUPPORTED, Draws, Parameter, expand
from simreal_envs.tasks import TASKS

# The statistical tests below run with fixed seeds, so they never flicker; with other seeds each would fail by chance
# with a probability below this.
ERROR_RATE = 1e-4


def draw(seed=0, world=0, episode=0, name="pole/mass", size=1, step=0):
    return Draws(seed, np.array([world]), np.array([episode])).uniform(name, size, step)[0]


KEY = {"seed": st.integers(0, 2**40), "world": st.integers(0, 2**20), "episode": st.integers(0, 2**40)}


@given(**KEY, name=st.text(max_size=30), step=st.integers(0, 2**40))
def test_a_draw_is_a_function_of_seed_world_episode_name_and_step_alone(seed, world, episode, name, step):
    alone = draw(seed, world, episode, name, 3, step)
    worlds = np.array([world + 1, world, 7, world])
    crowd = Draws(seed, worlds, np.full(4, episode))
    crowd.uniform("something/else", 100)
    assert np.array_equal(crowd.uniform(name, 3, step)[1], alone)
    assert np.array_equal(crowd.uniform(name, 3, np.array([5, step, 6, step]))[[1, 3]], [alone, alone])


def test_a_longer_draw_begins_with_the_shorter_one():
    assert np.array_equal(draw(size=10)[:4], draw(size=4))


def test_drawing_many_names_at_once_gives_each_its_own_number():
    draws = Draws(2, np.arange(6), np.arange(6))
    names = ("pole/mass", "gravity", "cart/mass")
    assert np.array_equal(draws.uniforms(names), np.stack([draws.uniform(name)[:, 0] for name in names], axis=1))


def test_draws_do_not_depend_on_the_order_or_number_of_worlds():
    everyone = Draws(3, np.arange(100), np.zeros(100, int)).uniform("friction")
    order = np.random.default_rng(0).permutation(100)[:40]
    assert np.array_equal(Draws(3, order, np.zeros(40, int)).uniform("friction"), everyone[order])


@pytest.mark.parametrize("change", [{"seed": 1}, {"world": 1}, {"episode": 1}, {"name": "cart/mass"}, {"step": 1}])
def test_each_part_of_the_key_changes_the_draw(change):
    assert draw(**change) != draw()


def test_swapping_two_parts_of_the_key_changes_the_draw():
    values = {float(draw(*key)[0]) for key in [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)]}
    assert len(values) == 6


def test_known_draws_stay_the_same_from_version_to_version():
    expected = [[0.8814477899, 0.2698800290], [0.7214678200, 0.0795075200], [0.1722354100, 0.5716016000]]
    assert np.allclose(Draws(0, np.arange(3), np.zeros(3, int)).uniform("a", 2, 5), expected, atol=1e-7)


@pytest.mark.parametrize("over", ["worlds", "episodes", "seeds", "names", "steps", "size"])
def test_draws_are_uniform_along_every_part_of_the_key(over):
    n = 4000
    one, many = np.zeros(1, int), np.arange(n)
    values = {
        "worlds": lambda: Draws(5, many, np.zeros(n, int)).uniform("x"),
        "episodes": lambda: Draws(5, np.zeros(n, int), many).uniform("x"),
        "seeds": lambda: np.array([Draws(seed, one, one).uniform("x") for seed in range(n)]),
        "names": lambda: np.array([Draws(5, one, one).uniform(f"p{i}") for i in range(n)]),
        "steps": lambda: Draws(5, np.zeros(n, int), np.zeros(n, int)).uniform("x", 1, many),
        "size": lambda: Draws(5, one, one).uniform("x", n),
    }[over]().ravel()
    assert values.min() > 0 and values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > ERROR_RATE
    # Neighbours along the key are uncorrelated: r of n independent pairs is normal with deviation 1 / sqrt(n).
    r = np.corrcoef(values[:-1], values[1:])[0, 1]
    assert abs(r) < stats.norm.isf(ERROR_RATE / 2) / np.sqrt(n)


@pytest.mark.parametrize("shift", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1)])
def test_neighbouring_seeds_worlds_episodes_and_names_are_uncorrelated(shift):
    seed, world, episode, name = shift
    n = 10_000
    worlds, episodes = np.divmod(np.arange(n), 100)
    a = Draws(0, worlds, episodes).uniform("x")[:, 0]
    b = Draws(seed, worlds + world, episodes + episode).uniform("y" if name else "x")[:, 0]
    pairs = {"rank": stats.spearmanr(a, b).pvalue, "spread": stats.pearsonr((a - 0.5) ** 2, (b - 0.5) ** 2).pvalue}
    if name:  # otherwise the two samples share most of their keys
        pairs["same"] = stats.ks_2samp(a, b).pvalue
    assert min(pairs.values()) > ERROR_RATE


def test_normal_draws_are_standard_normal_and_finite():
    values = Draws(1, np.arange(500), np.zeros(500, int)).normal("noise", 20).ravel()
    assert np.isfinite(values).all()
    assert stats.kstest(values, "norm").pvalue > ERROR_RATE


def test_drawing_leaves_numpys_global_random_state_alone_and_warns_of_nothing():
    before = np.random.get_state()[1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Draws(2**63 - 1, np.arange(3), np.full(3, 2**40)).normal("x", 3, step=10**9)
    assert np.array_equal(np.random.get_state()[1], before)


# -- the vocabulary ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TASKS))
def test_nominal_values_lie_within_their_bounds_and_support_is_declared_for_known_engines(name):
    for parameter in TASKS[name].parameters:
        parameter.require_valid(parameter.nominal, parameter.nominal)
        assert set(parameter.support) <= {"mujoco", "bullet"}
        assert set(parameter.support.values()) <= {EXACT, APPROXIMATE, UNSUPPORTED}
        assert parameter.supported("mujoco") != UNSUPPORTED or parameter.supported("bullet") != UNSUPPORTED
        assert parameter.says and parameter.unit


def test_shared_parameters_mean_the_same_in_every_task():
    tables = [{p.name: p for p in task.parameters} for task in TASKS.values()]
    for name in ("gravity", "latency", "observation/noise", "observation/dropout", "push"):
        assert (
            len({(table[name].unit, table[name].nominal, table[name].says) for table in tables if name in table}) == 1
        )
        assert all(name in table for table in tables), name


def test_support_defaults_to_exact():
    parameter = Parameter("a", "1", 1.0, 0.0, 2.0, "a", "mass", support={"bullet": APPROXIMATE})
    assert (parameter.supported("mujoco"), parameter.supported("bullet")) == (EXACT, APPROXIMATE)


MASS = Parameter("pole/mass", "kg", 1.0, 0.05, 5.0, "mass", "mass")
SIGN = Parameter("actuator/sign", "1", 1.0, -1.0, 1.0, "sign", "sign", choices=(-1.0, 1.0))
LATENCY = Parameter("latency", "s", 0.0, 0.0, 0.2, "delay", "latency", resolution=0.005)


def test_a_parameter_that_does_not_hash_by_its_support_table_still_hashes():
    assert hash(Parameter("a", "1", 1, 0, 2, "a", "mass", support={"bullet": APPROXIMATE})) is not None


@pytest.mark.parametrize(
    ("parameter", "low", "high", "sentence"),
    [
        (MASS, 6.0, 6.0, "here: pole/mass = 6 [kg] is outside of its bounds 0.05 to 5"),
        (MASS, 0.5, 6.0, "here: pole/mass = 0.5 to 6 [kg] is outside of its bounds 0.05 to 5"),
        (MASS, np.nan, np.nan, "here: pole/mass = nan to nan [kg] is outside of its bounds 0.05 to 5"),
        (MASS, 1.0, np.inf, "here: pole/mass = 1 to inf [kg] is outside of its bounds 0.05 to 5"),
        (SIGN, 0.5, 0.5, "here: actuator/sign must be one of -1, 1, not 0.5"),
        (SIGN, -1.0, 9.0, "here: actuator/sign must be one of -1, 1, not 9"),
        (LATENCY, 0.002, 0.002, "here: latency = 0.002 [s] would do nothing: it is rounded to multiples of 0.005"),
    ],
)
def test_a_value_that_means_nothing_is_refused_with_what_was_given_and_expected(parameter, low, high, sentence):
    with pytest.raises(UserError) as error:
        parameter.require_valid(low, high, "here")
    assert str(error.value) == sentence


def test_bounds_themselves_and_a_latency_of_zero_are_allowed():
    MASS.require_valid(0.05, 5.0)
    LATENCY.require_valid(0.0, 0.0)


def test_a_latency_that_rounds_to_zero_steps_is_refused_also_when_it_is_exactly_half_a_step():
    with pytest.raises(UserError, match="would do nothing"):
        LATENCY.require_valid(0.0025, 0.0025)


def test_patterns_expand_in_the_order_of_the_robots_table():
    parameters = TASKS["quadruped"].parameters
    assert [p.name for p in expand("*/mass", parameters, "quadruped")] == [
        "trunk/mass",
        "hip/mass",
        "upper/mass",
        "lower/mass",
    ]
    assert [p.name for p in expand("friction", parameters, "quadruped")] == ["friction"]
    assert len(expand("*", parameters, "quadruped")) == len(parameters)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(
        UserError, match=r"a\.yaml: unknown parameter of quadruped 'trunk/mas'; did you mean 'trunk/mass'\? valid: "
    ):
        expand("trunk/mas", TASKS["quadruped"].parameters, "quadruped", "a.yaml")
