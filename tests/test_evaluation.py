import re

import every
import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.evaluation import Evaluator, random_actions
from simreal_agents.bundle import Agent
from simreal_envs.errors import UserError
from simreal_envs.tasks import TASKS, find_task
from simreal_envs.worlds import make

RANDOMIZED = sr.Domain("cartpole_swingup", variation=sr.Randomization({"pole/mass": sr.Uniform(0.5, 1.5)}))


def fresh(task="cartpole_swingup", seed=0):
    return Agent.new(TASKS[task].schema, {"hidden": [8]}, seed)


@pytest.fixture
def evaluator():
    one = Evaluator(RANDOMIZED, 4)
    yield one
    one.close()


def test_the_same_agent_meets_the_same_episodes_every_time(evaluator):
    agent = fresh()
    first, _, again = evaluator(agent), evaluator(fresh(seed=1)), evaluator(agent)
    assert np.array_equal(first.returns, again.returns)
    assert np.array_equal(evaluator(agent, False).returns, evaluator(agent, False).returns)
    assert np.array_equal(first.returns, sr.evaluate(agent, RANDOMIZED, episodes=4).returns)


def test_another_seed_means_other_episodes():
    agent = fresh()
    one, other = (sr.evaluate(agent, RANDOMIZED, episodes=4, seed=seed).returns for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_more_episodes_begin_with_the_same_ones():
    few, many = (sr.evaluate(fresh(), RANDOMIZED, episodes=n).returns for n in (2, 4))
    assert np.allclose(few, many[:2], rtol=1e-4)  # float32 rounds differently in other batch sizes


def test_whole_episodes_are_counted(evaluator):
    evaluation = evaluator(fresh())
    assert evaluation.lengths.tolist() == [TASKS["cartpole_swingup"].episode_steps] * 4
    assert evaluation.returns.shape == evaluation.success.shape == (4,)
    assert evaluation.to_dict() == {
        "return_mean": evaluation.returns.mean(),
        "return_std": evaluation.returns.std(ddof=1),
        "success_rate": evaluation.success.mean(),
        "episodes": 4,
    }


def test_a_trace_adds_up_to_the_stochastic_evaluation(evaluator):
    agent = fresh()
    evaluation, trace = evaluator.trace(agent)
    assert np.array_equal(evaluation.returns, evaluator(agent, deterministic=False).returns)
    assert np.allclose((trace.rewards * trace.alive).sum(axis=0), evaluation.returns)
    assert np.array_equal(trace.alive.sum(axis=0), evaluation.lengths)
    assert trace.last_observations.shape == trace.observations.shape[1:]
    worlds = make(RANDOMIZED, 4, evaluator.seed)
    first, _ = worlds.reset(seed=evaluator.seed)
    assert np.array_equal(trace.observations[0], first)  # a row has what was seen before its action
    second, *_ = worlds.step(trace.actions[0])
    worlds.close()
    assert np.array_equal(trace.observations[1], second)


def test_a_curriculum_is_judged_at_its_full_width(evaluator):
    widening = sr.Domain("cartpole_swingup", variation=sr.Curriculum(RANDOMIZED.variation, until=1.0))
    agent = fresh()
    assert np.array_equal(sr.evaluate(agent, widening, episodes=4).returns, evaluator(agent).returns)


def test_random_actions_are_drawn_from_all_that_there_are():
    worlds = make(sr.Domain("cartpole_swingup"), 500)
    drawn = random_actions(worlds, np.random.default_rng(0))()
    worlds.close()
    assert drawn.shape == (500, 1) and -1 <= drawn.min() < -0.98 and 0.98 < drawn.max() <= 1
    worlds = make(sr.Domain("grid_catch"), 500)
    drawn = random_actions(worlds, np.random.default_rng(0))()
    worlds.close()
    assert set(drawn) == set(range(4))


def test_the_last_observation_is_not_that_of_the_next_episode():
    task = TASKS["quadruped"]
    with_falls = Evaluator(sr.Domain("quadruped"), 3)
    evaluation, trace = with_falls.trace(fresh("quadruped"))
    with_falls.close()
    fell = evaluation.lengths < task.episode_steps
    assert fell.any(), "an untrained robot falls"
    for world in np.flatnonzero(fell):
        last = evaluation.lengths[world] - 1
        assert trace.terminated[last, world] and trace.alive[last, world]
        assert not trace.alive[last + 1 :, world].any()
        following = trace.observations[last + 1, world] if last + 1 < len(trace.observations) else None
        assert following is None or not np.array_equal(trace.last_observations[world], following)


def test_an_agent_of_another_task_is_refused(evaluator):
    with pytest.raises(UserError, match="the agent"):
        evaluator(fresh("quadruped"))


def test_an_evaluation_needs_an_episode():
    for episodes in (0, 1.5, "2"):
        says = f"the episodes of an evaluation must be a whole number from 1 to 100000, not {episodes!r}"
        with pytest.raises(UserError, match=re.escape(says)):
            sr.evaluate(fresh(), tiny.CARTPOLE, episodes=episodes)


def test_a_random_policy_earns_the_same_every_time(evaluator):
    assert np.array_equal(evaluator.random().returns, evaluator.random().returns)


def test_random_choices_are_choices_and_the_same_every_time():
    lamp = Evaluator(every.LAMP, 30)
    first, again = lamp.random(), lamp.random()
    lamp.close()
    assert np.array_equal(first.returns, again.returns) and len(set(first.returns)) > 1
    assert first.returns.mean() / 12 == pytest.approx(1 / 3, abs=0.08)  # 360 guesses of three: 3 standard errors


def test_a_trace_of_pictures_and_numbers_is_flat_and_says_what_the_agent_saw():
    schema = find_task(every.LAMP.task).schema
    agent = Agent.new(schema, {"hidden": [8]})
    lamp = Evaluator(every.LAMP, 3)
    evaluation, trace = lamp.trace(agent)
    lamp.close()
    assert trace.observations.shape == (12, 3, schema.observation_size) and evaluation.lengths.tolist() == [12] * 3
    seen = schema.pack(trace.observations[0])
    assert set(np.unique(seen["eye"])) == {0, 200} and (np.abs(seen["state"]) <= 1).all()
    assert not np.array_equal(trace.last_observations, trace.observations[-1])  # what the last action led to
    assert set(np.unique(schema.pack(trace.last_observations)["eye"])) == {0, 200}
    assert agent.value(schema.pack(trace.last_observations)).shape == (3,)


def test_of_games_the_score_is_known_besides_the_return():
    game = sr.Domain("grid_catch")
    agent = Agent.new(find_task("grid_catch").schema, {"hidden": [8]}, 0)
    found = sr.evaluate(agent, game, episodes=6)
    assert np.array_equal(found.scores, found.returns) and found.scores.any()
    assert sr.evaluate(fresh(), RANDOMIZED, episodes=2).scores is None  # a robot has none
