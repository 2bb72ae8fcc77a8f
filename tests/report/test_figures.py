import math

import plotly.graph_objects as go
import pytest
from finished import coloured
from scipy import stats

from simreal.report.figures import Scale, Series, average, learning_curves, series, spanning, ticks, views


def curve(values, seed=0, **more):
    return {"seed": seed, "env_steps": list(range(len(values))), "return_mean": values, **more}


def test_the_band_is_students_interval_of_the_mean_over_seeds():
    # values 1, 2, 3: mean 2, standard deviation 1, standard error 1/sqrt(3)
    ((step, mean, low, high),) = average([curve([x], seed) for seed, x in enumerate((1.0, 2.0, 3.0))], "return_mean")
    half = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert (step, mean) == (0, 2.0)
    assert (low, high) == pytest.approx((2 - half, 2 + half), rel=1e-5)


def test_seeds_that_stopped_early_and_missing_values_count_where_they_exist():
    points = average([curve([1.0, 2.0, 3.0]), curve([3.0, None])], "return_mean")
    assert [(step, mean) for step, mean, *_ in points] == [(0, 2.0), (1, 2.0), (2, 3.0)]
    assert points[2][2:] == (3.0, 3.0)  # one seed has no interval


def test_bands_of_two_seeds_that_disagree_leave_the_lines_a_third_of_the_axis():
    def range_of(*ends):
        arm = Series(
            "arm", "@c0", "solid", tuple(curve([0.0, end], seed, strategy="fine_tune") for seed, end in enumerate(ends))
        )
        return views([arm], {"random": -10.0, "reference": 50.0})["deterministic"]["layout"]["yaxis"].get("range")

    assert range_of(0.0, 60.0) == [-70.0, 110.0]  # means from 0 to 30, levels from -10 to 50, a band from -351 to 411
    assert range_of(20.0, 22.0) is None  # a band from 8 to 34


def test_a_scale_is_logarithmic_only_for_positive_values_far_apart():
    assert spanning([1.0, 21.0]).log and not spanning([1.0, 19.0]).log and not spanning([0.0, 100.0]).log
    assert Scale(1.0, 100.0, log=True).at(10.0) == pytest.approx(50.0)
    assert Scale(0.0, 4.0).at(1.0) == 25.0 and Scale(0.0, 4.0).at(9.0) == 100.0


@pytest.mark.parametrize("values", [[], [None], [0.0], [3.0, 3.0], [-2.0]])
def test_a_scale_of_one_value_or_none_has_room(values):
    scale = spanning(values)
    assert scale.low < scale.high


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.1, 0.42, [-0.1, 0, 0.1, 0.2, 0.3, 0.4]),
        (-1.2, 1.1, [-1.0, -0.5, 0, 0.5, 1.0]),
        (0, 70, [0, 10, 20, 30, 40, 50, 60, 70]),
    ],
)
def test_ticks_are_round_and_few(low, high, expected):
    assert ticks(Scale(low, high)) == pytest.approx(expected)


def test_the_control_comes_first_and_dashed_and_an_arm_looks_the_same_on_every_target(report):
    looks = [[line[:3] for line in series(report, target)] for target in ("heavy", "reversed", "engine_default")]
    assert looks[0] == looks[1] == looks[2]
    assert looks[0][0] == ("scratch", "@control", "dash")
    assert len({colour for _, colour, _ in looks[0]}) == 4


def test_two_sources_are_told_apart_in_the_legend(report):
    report["curves"] += [c | {"source": "plain"} for c in report["curves"] if c["strategy"] == "fine_tune"]
    labels = [line.label for line in series(report, "heavy")]
    assert "fine_tune from plain" in labels and "fine_tune from randomized" in labels and "scratch" in labels


def test_every_axis_of_the_learning_curves_has_a_unit(report):
    layouts = {view: figure["layout"] for view, figure in learning_curves(report, "heavy").items()}
    assert {layout["xaxis"]["title"]["text"] for layout in layouts.values()} == {"environment steps on the target"}
    units = {"deterministic": "task reward", "stochastic": "task reward", "success": "(%)"}
    assert all(layout["title"]["text"].endswith(units[view]) for view, layout in layouts.items())


def test_zero_shot_is_a_level_over_the_whole_budget_and_success_is_in_percent(report):
    figures = learning_curves(report, "heavy")
    assert list(figures) == ["deterministic", "stochastic", "success"]
    (level,) = [t for t in figures["deterministic"]["data"] if t["name"] == "zero_shot" and "text" in t]
    assert level["x"] == [0, 60_000] and level["y"][0] == level["y"][1]
    (rate,) = [t for t in figures["success"]["data"] if t["name"] == "fine_tune" and "text" in t]
    assert 80 < rate["y"][-1] <= 100


def test_a_level_is_what_does_not_change_whatever_its_name(report):
    named = {"source": "a", "target": "t"}
    learns = curve([1.0, 5.0, 3.0], **named, strategy="zero_shot")  # with its statistics measured anew, or another type
    stays = curve([2.0, 2.0, 2.0], **named, strategy="as_it_is")
    traces = learning_curves({"curves": [learns, stays]}, "t")["deterministic"]["data"]
    drawn = {trace["name"]: (trace["x"], trace["y"], trace["mode"]) for trace in traces if "text" in trace}
    assert drawn == {
        "zero_shot": ([0, 1, 2], [1.0, 5.0, 3.0], "lines+markers"),
        "as_it_is": ([0, 2], [2.0, 2.0], "lines"),
    }


def test_a_band_of_success_holds_shares_only_and_one_seed_claims_no_interval():
    # of 0 and 40 % the mean is 20 %, and Student's interval 20 +- 12.706 * 28.284 / sqrt 2 = 20 +- 254 %
    seeds = [
        curve([0.0, 1.0], place, source="a", strategy="b", target="t", success_rate=[0.0, rate])
        for place, rate in enumerate((0.0, 0.4))
    ]
    band, line = learning_curves({"curves": seeds}, "t")["success"]["data"]
    assert band["y"] == [0.0, 100.0, 0.0, 0.0] and line["y"] == [0.0, 20.0]
    assert line["text"][-1] == "20 [0, 100]"
    alone = learning_curves({"curves": seeds[1:]}, "t")["success"]["data"][1]
    assert alone["text"] == ["0", "40"]


def test_a_view_without_data_is_left_out(report):
    for one in report["curves"]:
        del one["stochastic_return_mean"], one["success_rate"]
    assert list(learning_curves(report, "heavy")) == ["deterministic"]


def test_plotly_accepts_the_figures_once_colours_have_their_values(report):
    for figure in learning_curves(report, "heavy").values():
        assert len(go.Figure(coloured(figure)).data) == 8
