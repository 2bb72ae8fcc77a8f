from simreal.signals_over_time import flat, over_time


def point(steps, **signals):
    return {"env_steps": steps, **signals}


def test_the_mean_and_range_over_seeds_at_every_step_by_name_and_key():
    seeds = [
        {"points": [point(0, bias=1.0, drift={"trunk": 0.0, "head": 0.0}), point(10, bias=2.0, drift={"trunk": 0.5, "head": 1.0})]},
        {"points": [point(0, bias=3.0, drift={"trunk": 0.0, "head": 0.0}), point(10, bias=6.0, drift={"trunk": 0.1, "head": 2.0})]},
    ]  # fmt: skip
    assert over_time(seeds) == {
        "env_steps": [0, 10],
        "values": {"bias": [2.0, 4.0], "drift/trunk": [0.0, 0.3], "drift/head": [0.0, 1.5]},
        "spread": {
            "bias": [[1.0, 2.0], [3.0, 6.0]],
            "drift/trunk": [[0.0, 0.1], [0.0, 0.5]],
            "drift/head": [[0.0, 1.0], [0.0, 2.0]],
        },
    }


def test_what_was_not_measured_at_a_step_is_none_and_seeds_may_stop_early():
    seen = over_time([{"points": [point(0, mmd=0.25), point(10, bias=1.0)]}, {"points": [point(0, mmd=0.75)]}])
    assert seen["values"] == {"mmd": [0.5, None], "bias": [None, 1.0]}
    assert seen["spread"]["mmd"] == [[0.25, None], [0.75, None]]


def test_the_order_of_layers_is_that_in_which_they_come():
    layers = {"trunk": 1.0, "encoder": 2.0, "actor": 3.0}
    assert list(over_time([{"points": [point(0, cka=layers)]}])["values"]) == ["cka/trunk", "cka/encoder", "cka/actor"]


def test_evidence_without_points_has_no_signals():
    assert over_time([{"policy_std": 1.0}, {"points": []}]) is None


def test_numbers_keep_five_digits():
    assert over_time([{"points": [point(0, bias=1234.5678), point(1, bias=1.23456789e-7)]}])["values"]["bias"] == [
        1234.6,
        1.2346e-07,
    ]


def test_a_point_is_flat_without_its_step():
    assert flat(point(5, kl=1.0, shift={"a": 2.0})) == {"kl": 1.0, "shift/a": 2.0}
