from dataclasses import replace

import every
import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.learner import Target
from simreal.schedule import Schedule
from simreal.training import train

SCHEDULE = Schedule(128, points=3, episodes=1)
HEAVY = sr.Domain("cartpole_swingup", variation={"pole/mass": 1.5})
STATISTICS = {f"encoder.normalizer.{name}" for name in ("mean", "var", "count")}
COUNT = {"encoder.normalizer.count"}  # the same again where both have seen as much


@pytest.fixture(scope="module")
def source():
    return sr.pretrain(tiny.CARTPOLE, 128, seed=9, learning=tiny.LEARNING, points=2, episodes=1)


def statistics(agent):
    normalizer = agent.policy.encoder.normalizer
    return normalizer.mean.numpy(), normalizer.var.numpy(), normalizer.count.numpy()


def run(source, strategy, schedule=SCHEDULE):
    return train(source, tiny.target(domain=HEAVY), strategy, schedule)


def test_kept_statistics_are_the_sources_to_the_bit(source):
    for strategy in (sr.ZeroShot(), sr.FineTune(normalizer="keep")):
        after = run(source, strategy)
        assert not tiny.changed(tiny.tensors(source), tiny.tensors(after.agent)) & STATISTICS


def test_reestimated_statistics_are_the_targets_alone(source):
    mean, var, count = statistics(run(source, sr.ZeroShot("reestimate")).agent)
    fresh = statistics(run(source, sr.ZeroShot("reestimate"), replace(SCHEDULE, steps=64)).agent)
    assert (count == 128).all() and (fresh[2] == 64).all()
    assert not np.allclose(mean, statistics(source)[0]) and (var > 0).all()


def test_a_blend_is_the_merge_of_both_with_the_weight_of_the_prior(source):
    measured = run(source, sr.ZeroShot("reestimate"), replace(SCHEDULE, steps=64))
    blended = run(source, sr.ZeroShot("blend", prior=32), replace(SCHEDULE, steps=64))
    (mean, var, _), (own, own_var, _) = statistics(measured.agent), statistics(source)
    # The first rollout is acted with the source's statistics in both, so both have measured the same 64 rows.
    merged = (32 * own + 64 * mean) / 96
    squares = 32 * (own_var + (own - merged) ** 2) + 64 * (var + (mean - merged) ** 2)
    for found, expected in zip(statistics(blended.agent), (merged, squares / 96, 96.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (statistics(run(source, sr.ZeroShot("blend")).agent)[2] == 128 + 128).all()


def test_measuring_moves_no_weight_and_its_steps_count(source):
    after = run(source, sr.ZeroShot("reestimate"))
    assert tiny.changed(tiny.tensors(source), tiny.tensors(after.agent)) | COUNT == STATISTICS
    assert [row.env_steps for row in after.curve] == [0, 64, 128]
    assert after.curve[0].return_mean != after.curve[-1].return_mean
    flat = run(source, sr.ZeroShot())
    assert flat.curve[0].return_mean == flat.curve[-1].return_mean == after.curve[0].return_mean


@pytest.mark.parametrize(("algorithm", "domain"), [("td3", sr.Domain("pendulum_swingup")), ("dqn", every.CHOICES)])
def test_target_copies_do_not_follow_while_only_measuring(algorithm, domain):
    often = {"target_update_interval": 8} if algorithm == "dqn" else {}
    here = Target(domain, every.learning(algorithm, **often), 0)
    agent = train(None, here, sr.Scratch(), Schedule(64, points=2, episodes=1)).agent
    after = train(agent, here, sr.ZeroShot("reestimate"), Schedule(64, points=2, episodes=1))
    assert tiny.changed(tiny.tensors(agent), tiny.tensors(after.agent)) | COUNT == STATISTICS


def test_fine_tuning_may_forget_the_sources_statistics(source):
    kept, forgotten, all_of_it = (
        statistics(run(source, sr.FineTune(**settings)).agent)[2][0]
        for settings in ({"normalizer": "keep"}, {"normalizer": "reestimate"}, {})
    )
    assert (kept, forgotten, all_of_it) == (128, 128, 256)
