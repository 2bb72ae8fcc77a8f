"""The worlds that scripts/measure_surgery.py measures in are the quadruped's, in other words."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from measure_surgery import MISSING, Elsewhere, elsewhere, learned, mean_return

from simreal_agents.bundle import Agent
from simreal_agents.surgery import fit
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain
from simreal_envs.worlds import make


@pytest.fixture(scope="module")
def agent():
    agent = Agent.new(find_task("quadruped").schema, {"hidden": [16], "activation": "elu"})
    agent.policy.heads.actor.weight.data *= 30  # moves
    settings = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "num_worlds": 2}
    return Agent(agent.policy, agent.schema, {"hyperparameters": settings})


def test_a_fitted_agent_moves_there_as_the_old_one_does_here(agent):
    schema = elsewhere(agent.schema)
    fitted, _ = fit(agent, schema)
    here, there = make(Domain("quadruped"), 3, 0), Elsewhere(schema, 3, 0)
    (one, _), (other, _) = here.reset(seed=0), there.reset(seed=0)
    rewards = []
    for _ in range(10):
        one, reward, *_ = here.step(agent.act(one))
        other, again, *_ = there.step(fitted.act(other))
        rewards.append((reward, again))
    assert np.ptp(agent.act(one)) > 0.2
    np.testing.assert_allclose(*np.swapaxes(rewards, 0, 1), atol=1e-3)
    here.close()
    there.close()


def test_without_the_sensor_it_can_learn_on(agent):
    schema = elsewhere(agent.schema, MISSING)
    assert MISSING not in [field.name for field in schema.observation]
    assert np.isfinite(learned(agent, schema, fit(agent, schema)[0], seed=0, steps=16, episodes=2))
    assert np.isfinite(mean_return(fit(agent, schema)[0], Elsewhere(schema, 2, 0)))
