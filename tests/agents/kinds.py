"""Agents of every algorithm over every kind of observation and action, with weights that matter."""

import numpy as np
import torch
from aim import Aim
from catch import Catch

from simreal_agents.algorithms import ALGORITHMS, find_algorithm
from simreal_agents.bundle import Agent
from simreal_envs.errors import Unsupported
from simreal_envs.schema import Field, Schema

ANGLE = Field("angle", "rad", ("hip", "knee", "ankle"), -3.0, 3.0)
SPEED = Field("speed", "m/s", ("x", "z"))
CAMERA = Field("camera", "1", ("red", "green"), 0.0, 255.0, grid=(40, 36), dtype="uint8")
GRID = Field("grid", "1", ("wall", "ball", "gold"), 0.0, 1.0, grid=(6, 7), dtype="uint8")
TORQUE = Field("torque", "N m", ("hip", "knee"), -5.0, 5.0)
GRIP = Field("grip", "1", ("hand",), -1.0, 1.0)
MOVE = Field("move", "1", ("stay", "left", "right"), 0.0, 2.0, discrete=True)
OBSERVATIONS = {"vector": (ANGLE, SPEED), "camera": (CAMERA,), "mixed": (SPEED, CAMERA, ANGLE, GRID)}
ACTIONS = {"box": (TORQUE, GRIP), "choice": (MOVE,)}


def schema_of(observation, action):
    """The schema of a kind of observation and a kind of action."""
    return Schema(OBSERVATIONS[observation], ACTIONS[action], 0.02)


def agent_of(algorithm, observation="vector", action="box", seed=0, schema=None, **network):
    """An agent whose actions are neither all alike nor all at their bounds."""
    schema = schema or schema_of(observation, action)
    agent = Agent.new(schema, {"hidden": [32, 16], **network}, seed, algorithm)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in agent.policy.parameters():
            inputs = {1: 25, 2: tensor.shape[-1], 3: tensor.shape[-1]}.get(tensor.ndim) or tensor[0].numel()
            tensor.add_(torch.randn(tensor.shape, generator=generator) / inputs**0.5)
        normalizer = agent.policy.encoder.normalizer
        if normalizer.enabled:
            normalizer.update(torch.randn((500, len(normalizer.mean)), generator=generator) * 0.5 + 0.3)
        if schema.choices:  # all equally good on average
            judged = outputs(agent, observed(schema))
            judged = torch.from_numpy(np.log(judged) if algorithm == "ppo" else judged).mean(0)
            bias = agent.policy.linears("actor" if algorithm == "ppo" else "critic")[-1].bias
            bias.sub_(judged.repeat_interleave(len(bias) // schema.choices))
        if hasattr(agent.policy, "reset_targets"):
            agent.policy.reset_targets()
    return agent


def observed(schema, count=100, seed=0):
    """Observations as the worlds show them: vectors near their bounds, pictures of plain colours with noise."""
    rng = np.random.default_rng(seed)
    shown = {}
    for field in schema.observation:
        if field.grid:
            level = rng.uniform(0, 1, (count, 1, 1, len(field.labels))) * rng.uniform(0.3, 1, (count, *field.grid, 1))
            shown[field.name] = np.rint(level * field.high).astype(field.dtype)
        else:
            shown[field.name] = rng.normal(0.3, 1.0, (count, field.size)).astype(np.float32)
    flat = [shown[field.name].reshape(count, -1) for field in schema.observation]
    return schema.pack(np.concatenate(flat, axis=1, dtype=schema.dtype, casting="unsafe"))


def _exists(algorithm, observation, action):
    try:
        Agent.new(schema_of(observation, action), {"hidden": [4, 4]}, algorithm=algorithm)
    except Unsupported:
        return False
    return True


KINDS = [(a, o, c) for a in ALGORITHMS for o in OBSERVATIONS for c in ACTIONS if _exists(a, o, c)]


def tensors(learner):
    """Every tensor of a learner or an agent, as it is now."""
    return {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}


def differing(before, after):
    """Names of the tensors that are not equal."""
    return {name for name in before if not torch.equal(before[name], after[name])}


# Every algorithm with numbers, and those that see with pictures alone or beside numbers.
LEARNERS = [*((algorithm, "vector") for algorithm in ALGORITHMS), ("ppo", "mixed"), ("sac", "mixed"), ("td3", "picture"),
            ("tqc", "mixed"), ("dqn", "picture"), ("qrdqn", "mixed")]  # fmt: skip


def worlds_of(algorithm, form):
    """Eight worlds in numpy that an algorithm can act in."""
    return Catch(form, 8) if "dqn" in algorithm or (algorithm, form) == ("ppo", "mixed") else Aim(form, 8)


def learner_of(algorithm, form="vector", seed=0, **settings):
    """A small learner of any algorithm; a rollout is 32 steps of PPO, 8 of others, which learn after 40."""
    own = {"learning_starts": 40, "batch_size": 16, "buffer_size": 100, "gradient_steps": 2}
    own = {"n_steps": 4, "batch_size": 16, "n_epochs": 2} if algorithm == "ppo" else own
    network = {"hidden": [12, 8]} | ({"critic_width": 8} if algorithm == "crossq" else {})
    network |= {"n_quantiles": 4} if algorithm == "qrdqn" else {}
    settings = {"learning_rate": 1e-3, "policy_kwargs": network, **own, **settings}
    return find_algorithm(algorithm)(env=worlds_of(algorithm, form), seed=seed, **settings)


def outputs(agent, observations):
    """What decides an agent's actions: means, probabilities or values, ``(n, k)`` float32."""
    with torch.no_grad():
        return next(
            iter(agent.policy.decide(torch.from_numpy(agent.policy.layout.flatten(observations))).values())
        ).numpy()
