import numpy as np
import pytest
import tiny

import simreal as sr

REVERSED = sr.Domain("cartpole_swingup", variation=sr.Shift({"actuator/sign": -1}))


def test_an_agent_of_the_zoo_that_comes_to_reversed_drives_is_told_so():
    agent = sr.load("zoo:cartpole")
    home = sr.examine(agent, tiny.CARTPOLE, episodes=8)
    there = sr.examine(agent, REVERSED, episodes=8)
    assert home["model_cause"] == {}
    assert max(there["model_cause"], key=there["model_cause"].get).startswith("action_reversed/")
    assert home["policy_kl"] == there["policy_kl"] == 0.0  # it is its own origin
    assert there["critic_explained_variance"] < home["critic_explained_variance"]


def test_equal_arguments_give_equal_signals():
    agent = sr.load("zoo:cartpole")
    one, same = (sr.examine(agent, REVERSED, episodes=4) for _ in range(2))
    assert one == same


@pytest.mark.parametrize("carries", [True, False])
def test_an_agent_is_compared_with_what_it_carries_or_with_its_source_run_again(carries):
    agent = sr.pretrain(tiny.CARTPOLE, 128, learning=tiny.LEARNING, points=2, episodes=8)
    if not carries:
        agent = sr.Agent(agent.policy, agent.schema, agent.card)
    found = sr.examine(agent, tiny.CARTPOLE, episodes=8)
    assert ("fingerprint_change" in found) == carries
    assert np.isfinite(found["a_distance"])
