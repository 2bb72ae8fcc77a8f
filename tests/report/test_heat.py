import pytest

from simreal.report.heat import brief, layer_maps, place, robustness_maps, spaced


def entry(strategy, steps, **values):
    named = {"source": "none" if strategy == "scratch" else "s", "strategy": strategy, "target": "t"}
    return {
        **named,
        "env_steps": steps,
        "values": {name.replace("__", "/"): of for name, of in values.items()},
        "spread": {},
    }


def test_all_maps_of_a_signal_share_their_colours_and_rows_keep_their_order():
    arms = [
        entry("fine_tune", [0, 10], drift__trunk=[0.0, 0.5], drift__head=[0.0, 1.0]),
        entry("l2sp", [0, 10], drift__trunk=[0.0, 0.25], drift__head=[0.0, None]),
    ]
    (drift,) = layer_maps({"signals": arms}, ["t"])
    assert drift["signal"] == "drift" and drift["groups"][0]["high"] == "1"
    first, second = drift["groups"][0]["maps"]
    assert [row["name"] for row in first["rows"]] == ["trunk", "head"] and first["columns"] == ["0", "10"]
    assert [[cell["shade"] for cell in row["cells"]] for row in first["rows"]] == [[0, 0.5], [0, 1]]
    assert [[cell["text"] for cell in row["cells"]] for row in second["rows"]] == [["0", "0.25"], ["0", ""]]


def test_the_strongest_colour_of_cka_is_what_is_least_alike():
    (cka,) = layer_maps({"signals": [entry("fine_tune", [0, 10], cka__trunk=[1.0, 0.25])]}, ["t"])
    assert [cell["shade"] for cell in cka["groups"][0]["maps"][0]["rows"][0]["cells"]] == [0, 0.75]


def test_an_arm_that_was_seen_once_has_no_map():
    assert layer_maps({"signals": [entry("zero_shot", [0], drift__trunk=[0.0])]}, ["t"]) == []
    assert layer_maps({}, ["t"]) == []


def test_columns_are_few_evenly_spaced_and_have_both_ends():
    assert spaced(4, 9) == [0, 1, 2, 3]
    assert spaced(9, 9) == list(range(9))
    assert spaced(25, 9) == [0, 3, 6, 9, 12, 15, 18, 21, 24]
    assert spaced(31, 9)[0] == 0 and spaced(31, 9)[-1] == 30 and len(set(spaced(31, 9))) == 9


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.004, "0"),
        (0.12, "0.12"),
        (0.996, "1.0"),
        (-0.12, "-.12"),
        (3.44, "3.4"),
        (57.3, "57"),
        (1234, "1.23k"),
    ],
)
def test_numbers_in_cells_are_brief(value, said):
    assert brief(value) == said


def test_a_value_lies_between_the_middles_of_its_cells():
    scale = {"values": [1.0, 2.0, 4.0]}  # middles at 1/6, 3/6, 5/6
    assert place(scale, 1.0) == pytest.approx(100 / 6, abs=0.01)
    assert place(scale, 3.0) == pytest.approx(400 / 6, abs=0.01)
    assert place(scale, 0.5) == pytest.approx(0.0) and place(scale, 9.0) == 100
    assert place(scale, None) is None and place({"values": [3.0]}, 3.0) == 50


def grid(source, y=None):
    x = {"parameter": "mass", "unit": "kg", "values": [1.0, 2.0, 3.0, 4.0], "target": 3.0, "source": source}
    arms = [{"source": "s", "strategy": "fine_tune", "returns": [[0.0, 5.0, 10.0, 20.0]] * (2 if y else 1)}]
    return {
        "robustness": {"t": {"x": x, "y": y, "arms": arms}},
        "normalization": {"t": {"random": 0, "reference": 10}},
    }


@pytest.mark.parametrize(
    ("source", "frame"),
    [([2, 3], (25, 75)), ([0.5, 9], (0, 100)), ([2.4, 2.6], (35, 65)), ([2, 2], (25, 50)), (None, None)],
)
def test_the_frame_holds_the_cells_that_the_sources_drew(source, frame):
    (found,) = robustness_maps(grid(source))
    # between cells: 2.4 and 2.6 lie at 47.5 and 52.5 %, with half a cell around them
    assert found["marks"].get("source", {"x": None})["x"] == (pytest.approx(frame) if frame else None)


def test_one_parameter_makes_one_row_and_colours_reach_to_the_best_return():
    (found,) = robustness_maps(grid([1, 2]))
    assert found["marks"]["target"] == {"x": 62.5, "y": 50.0} and found["marks"]["source"]["y"] == (0.0, 100.0)
    ((row,),) = [one["rows"] for one in found["maps"]]
    assert [cell["shade"] for cell in row["cells"]] == [0, 0.25, 0.5, 1]
    assert [view["view"] for view in found["views"]] == ["returns"]


def test_y_grows_upwards():
    axis = {"parameter": "latency", "unit": "s", "values": [0.0, 0.1], "target": 0.1, "source": [0.0, 0.0]}
    (found,) = robustness_maps(grid([1, 2], axis))
    assert [row["name"] for row in found["maps"][0]["rows"]] == ["0.1", "0"]
    assert found["marks"]["target"]["y"] == 75 and found["marks"]["source"]["y"] == (0, 50)


def test_a_report_without_a_grid_has_no_maps():
    assert robustness_maps({}) == []
