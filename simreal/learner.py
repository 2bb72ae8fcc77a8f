"""A fresh learner in the worlds of a domain: the one place where settings become an algorithm."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from simreal.config import MOST_THREADS, MOST_WORLDS, AgentConfig
from simreal.config_files import sentences
from simreal.hyperparameters import HYPERPARAMETERS, Hyperparameters, OffPolicyHyperparameters
from simreal.yaml_strict import dotted
from simreal_envs.arguments import whole
from simreal_envs.cores import cores
from simreal_envs.errors import UserError, nearest, require_a, require_known
from simreal_envs.tasks import find_task, is_installed
from simreal_envs.variation import Curriculum, Domain
from simreal_envs.worlds import SPREADING, Worlds, make

if TYPE_CHECKING:
    import torch

    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable
    from simreal_envs.schema import Schema

OPTIONS = tuple(name for name in Hyperparameters.model_fields if name != "learning_rate")
FUNCTIONS = ("learning_rate", "clip_range")  # may be functions of the share of the run that remains
WORTH_THREADS = (
    1500  # joints times physics steps per control step from which on a second thread pays (64 cart-poles: 512)
)
LEAST_WORLDS = 16  # in a process: what is not physics takes almost as long for fewer
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda remaining: 1.0,
    "linear": lambda remaining: remaining,
    "cosine": lambda remaining: (1 - math.cos(math.pi * remaining)) / 2,  # Loshchilov & Hutter (2017), eq. 5
}
"""Multiples of the learning rate by the share of the training run that remains, from 1 to 0."""


@dataclass(frozen=True)
class Learning:
    """How an agent learns.

    Attributes:
        hidden: units of each hidden layer; the first is the encoder, the others are the trunk.
        activation: ``"tanh"``, ``"elu"`` or ``"relu"``.
        num_worlds: worlds that are stepped together.
        hyperparameters: keyword arguments of the algorithm and settings of its network, and what every algorithm may be
            told (``learning_rate_schedule``, ``lr_scale``, ..); None stands for a config's defaults.
        algorithm: ``"ppo"``, ``"sac"``, ..: `simreal list algorithms`.
        replay: ``"keep"`` lets a replay buffer go with the agent, ``"drop"`` starts with an empty one.
        cnn: the convolutions that see pictures, ``"nature"``, ``"small"`` or ``"grid"``; None: by their size.
        torch_threads: threads of torch in updates. Two make those of pictures a third faster, those of networks with 256
            units on Intel's processors, too, and those of small ones no faster; bits depend on their number.

    Raises:
        UserError: for an algorithm that does not exist, or a setting that it cannot take.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    num_worlds: int = 64
    hyperparameters: Mapping[str, Any] | None = None
    algorithm: str = "ppo"
    replay: str = "drop"
    cnn: str | None = None
    torch_threads: int = 1

    def __post_init__(self) -> None:
        require_known(self.algorithm, HYPERPARAMETERS, "algorithm")
        require_known(self.replay, ("drop", "keep"), "replay setting")
        if self.replay == "keep" and not issubclass(HYPERPARAMETERS[self.algorithm], OffPolicyHyperparameters):
            raise UserError(f"replay: {self.algorithm} has no replay buffer to keep")
        for name, most in (("num_worlds", MOST_WORLDS), ("torch_threads", MOST_THREADS)):
            whole(name, getattr(self, name), 1, most)
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Sequence):
            raise UserError(f"hidden must list the widths of the hidden layers, as (64, 64), not {self.hidden!r}")
        if self.hyperparameters is None:
            object.__setattr__(self, "hyperparameters", HYPERPARAMETERS[self.algorithm]().model_dump())
        network = {name: getattr(self, name) for name in ("hidden", "activation", "cnn")}
        _require_valid(AgentConfig, network, (), self.algorithm)
        _require_possible(self.algorithm, self.hyperparameters)

    @classmethod
    def of(cls, settings: AgentConfig | Mapping[str, Any]) -> Learning:
        """What a config's section ``agent`` says."""
        data = settings.model_dump() if isinstance(settings, AgentConfig) else settings
        return cls(**{**data, "hidden": tuple(data["hidden"])})

    @property
    def options(self) -> dict[str, Any]:
        """What of all that every algorithm may be told was said, for a card."""
        usual = {
            name: field.get_default(call_default_factory=True) for name, field in Hyperparameters.model_fields.items()
        }
        given = self.hyperparameters or {}
        return {name: given[name] for name in OPTIONS if name in given and given[name] != usual[name]}


def _require_possible(algorithm: str, given: Any) -> None:
    """Raise a UserError for a hyperparameter out of its range. What no config may say is left to the algorithm."""
    if not isinstance(given, Mapping):
        raise UserError(f"hyperparameters must be a mapping of names to values, not {given!r}")
    model = HYPERPARAMETERS[algorithm]
    # Stable-Baselines3 takes functions of the progress and, as a frequency, pairs.
    numbers = {
        name: value
        for name, value in given.items()
        if name in model.model_fields
        and not (name in FUNCTIONS and callable(value))
        and not (name == "train_freq" and isinstance(value, tuple))
    }
    _require_valid(model, numbers, ("hyperparameters",), algorithm)


def _require_valid(model: type[BaseModel], given: Mapping[str, Any], where: tuple[str, ...], algorithm: str) -> None:
    try:
        model.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise UserError("\n".join(sentences(problems, lambda *key: dotted((*where, *key)), algorithm))) from None


def _require_accepted(given: Iterable[str], kind: type[Transferable], algorithm: str) -> None:
    """Raise a UserError for a name that neither an algorithm's constructor nor its policy knows."""
    from simreal_agents.transferable import parameters_of

    for name in set(given) - parameters_of(kind).keys() - set(kind.policy_class_.SETTINGS):
        raise UserError(
            f"unknown hyperparameter of {algorithm} {name!r}; {nearest(name, HYPERPARAMETERS[algorithm].model_fields)}"
        )


@dataclass(frozen=True)
class Source:
    """A source agent with the domain that it comes from."""

    name: str
    agent: Agent
    domain: Domain

    def __post_init__(self) -> None:
        if isinstance(self.domain.variation, Curriculum):  # it has ended when its agent moves
            object.__setattr__(self, "domain", replace(self.domain, variation=self.domain.variation.randomization))


@dataclass(frozen=True)
class Target:
    """Where a strategy is to begin: a domain, how to learn there, the seed of this arm, and what there is to learn from.

    Attributes:
        sources: all source agents of this arm; the first is the one that `Strategy.begin` is given. Along a sequence of
            targets it is that of the target before, whose domain serves as its source: what is recorded or run there is
            not counted again. The others are those before it.
        teacher: an agent to learn from, where the strategy has one.
        domains: further domains by name, for strategies that learn in several.
        begun: the learner that the strategies before have begun, in a combination.
        made: the worlds that were made of it, to be closed where a strategy cannot begin.
    """

    domain: Domain
    learning: Learning
    seed: int
    sources: tuple[Source, ...] = ()
    teacher: Agent | None = None
    domains: Mapping[str, Domain] = field(default_factory=dict)
    begun: Transferable | None = None
    made: list[Worlds] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        require_a(Domain, self.domain, "the domain", "sr.Domain(task, ..)")
        require_a(Learning, self.learning, "learning", "sr.Learning(..)")
        whole("a seed", self.seed, 0, 2**31 - 1)

    @property
    def source(self) -> Domain | None:
        """The domain that the source agent comes from, if it is known."""
        return self.sources[0].domain if self.sources else None

    def stream(self, purpose: str) -> torch.Generator:
        """A generator for one purpose of this arm."""
        from simreal_agents.networks import stream

        return stream(self.seed, purpose)

    def worlds(self, domain: Domain | None = None, num_worlds: int | None = None) -> Worlds:
        """Training worlds of this arm, or as many of another domain."""
        domain, num_worlds = domain or self.domain, num_worlds or self.learning.num_worlds
        self.made.append(make(domain, num_worlds, self.seed, **at_once(domain, num_worlds)))
        return self.made[-1]

    def learner(
        self,
        agent: Agent | None = None,
        modules: Sequence[str] = ("encoder", "trunk", "heads"),
        *,
        worlds: Any = None,
        network: Mapping[str, Any] | None = None,
    ) -> Transferable:
        """A learner with fresh weights, or with the network of `agent` and its weights in `modules`.

        The agent's normalizer and reward scale come along; the optimizer is fresh. An agent whose way of acting is copied
        acts by it from the first step: what algorithms do at random in their beginning is for those that know nothing.
        In a combination of strategies it is the learner that was begun, in which all but `modules` is drawn anew.

        Args:
            worlds: to learn in instead of this arm's own.
            network: further settings of the policy; where they change its shape, tensors of equal name and shape are
                copied.

        Raises:
            UserError: the agent learned with another algorithm, or cannot act here.
        """
        if self.begun is not None:
            return self._continued(modules, worlds, network)
        # A config is checked, and a report written, without torch.
        from simreal_agents.algorithms import find_algorithm
        from simreal_agents.bundle import load_into, require_algorithm

        learning = self.learning
        if agent:
            require_algorithm(agent, learning.algorithm)
        if worlds is None:
            worlds = self.worlds(self.domain.seen_by(agent.card.get("domain")) if agent else None)
        require_fit(learning.algorithm, worlds.schema, self.domain.task)
        kind = find_algorithm(learning.algorithm)
        settings = {k: v for k, v in (learning.hyperparameters or {}).items() if k not in OPTIONS}
        _require_accepted(settings, kind, learning.algorithm)
        known = kind.policy_class_.SETTINGS
        own = {"hidden": list(learning.hidden), "activation": learning.activation, "cnn": learning.cnn} | settings
        own = {name: value for name, value in own.items() if name in known}
        settings = {name: value for name, value in settings.items() if name not in known}
        if "learning_rate_schedule" in learning.options:
            rate = settings.get("learning_rate", HYPERPARAMETERS[learning.algorithm]().learning_rate)
            settings["learning_rate"] = schedule(rate, learning.options["learning_rate_schedule"])
        policy = dict(agent.policy.network if agent else own) | dict(network or {})
        learner = kind(kind.policy_class_, worlds, seed=self.seed, policy_kwargs=policy, **settings)
        learner.threads = max(_threads()[1], learning.torch_threads)
        _tune(learner, learning.options)
        if agent:
            load_into(learner, agent, modules, matching=bool(network))
            if _acts(learner, modules):
                explore_no_more_than_at_the_end(learner)
            if learning.replay == "keep" and agent.replay:
                learner.replay_buffer.add(**_possible(agent.replay, learner.policy))
        return learner

    def _continued(self, modules: Sequence[str], worlds: Any, network: Mapping[str, Any] | None) -> Transferable:
        from simreal_agents.networks import matching_groups

        if worlds is not None or network:
            raise UserError("a strategy that changes the worlds or the network must be the first one of a combination")
        kept = matching_groups(modules)
        fresh = [name for name in self.begun.optimizer.names if name not in kept]
        if fresh:
            self.begun.reinitialize(fresh)
        return self.begun


def _possible(replay: Mapping[str, np.ndarray], policy: Any) -> dict[str, np.ndarray]:
    """The transitions whose choice there is where `policy` acts: an absent one has a value of minus infinity, nearly."""
    if getattr(policy, "absent", None) is None:
        return dict(replay)
    there = np.isin(replay["actions"], policy.choices)
    return {name: column[there] for name, column in replay.items()}


def at_once(domain: Domain, num_worlds: int, processes: bool = True) -> dict[str, int]:
    """How many processes step the worlds of one training run, and by how many physics threads each.

    That changes its speed and nothing else. Both together are as many as ``OMP_NUM_THREADS`` says; an experiment, which trains
    several agents side by side, sets it to 1. Where it says nothing they are all cores.

    Args:
        processes: whether there may be several.

    Returns:
        ``num_workers`` and ``num_threads``, as `simreal_envs.worlds.make` takes them.
    """
    pinned, count = _threads()
    # Of tasks that a script made, other processes do not know. One process is asked for, too: it can continue what several
    # have left behind.
    processes = processes and domain.engine in SPREADING and is_installed(domain.task)
    workers = max(1, min(count, num_worlds // LEAST_WORLDS)) if processes else 1
    task = find_task(domain.task)
    work = num_worlds / workers * task.substeps * len(task.robot.joints)
    return {
        "num_workers": workers if processes else 0,
        "num_threads": count // workers if pinned or work >= WORTH_THREADS else 1,
    }


def _threads() -> tuple[bool, int]:
    """Whether a user has said how many threads a training run may have, and how many these are."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return said.isdecimal(), max(int(said), 1) if said.isdecimal() else cores()


def require_fit(algorithm: str, schema: Schema, world: str, where: str = "") -> None:
    """Raise a UserError unless an algorithm can see and act in the worlds of a schema.

    Args:
        world: what the worlds are called.
        where: begins the sentence.
    """

    def others(fits: Callable[[type[Hyperparameters]], bool]) -> str:
        return ", ".join(name for name, other in HYPERPARAMETERS.items() if fits(other))

    model = HYPERPARAMETERS[algorithm]
    actions = "discrete" if schema.choices else "box"
    if actions not in model.actions:
        wanted, found = ("a choice", "vectors") if actions == "box" else ("a vector", "choices")
        names = others(lambda other: actions in other.actions)
        raise UserError(
            f"{where}{algorithm} takes {wanted} as its action, but actions in {world} are {found}; use one of {names}"
        )
    if any(field.grid for field in schema.observation) and "image" not in model.observations:
        names = others(lambda other: actions in other.actions and "image" in other.observations)
        raise UserError(f"{where}{algorithm} sees vectors, but {world} shows pictures; use one of {names}")


def schedule(rate: float, name: str) -> Callable[[float], float]:
    """A learning rate by the share of the training run that remains, from 1 to 0.

    Raises:
        UserError: for an unknown schedule, or a rate that is a schedule itself.
    """
    shape = SCHEDULES[require_known(name, SCHEDULES, "learning_rate_schedule")]
    if callable(rate):
        raise UserError(
            f"learning_rate is a function of the progress itself: leave out learning_rate_schedule {name!r}"
        )
    return lambda remaining: rate * shape(max(remaining, 0.0))  # the last rollout may go beyond the budget


def other_network(agent: Agent, learning: Learning) -> str:
    """What to say of an agent that was moved with another network than `learning` has, which is for new ones; else empty."""
    usual = HYPERPARAMETERS[agent.algorithm]().model_dump()
    own = usual | agent.policy.network  # what is usual does not stand in a network that is made without it
    asked = {"hidden": list(learning.hidden), "activation": learning.activation, "cnn": learning.cnn}
    asked |= {n: v for n, v in (learning.hyperparameters or {}).items() if n in type(agent.policy).SETTINGS}
    other = [f"{name} {value}" for name, value in asked.items() if value not in (None, own.get(name))]
    if not other:
        return ""
    mine = ", ".join(f"{name} {own[name]}" for name, value in asked.items() if value != own.get(name, value))
    return f"the agent keeps its own network ({mine}); {', '.join(other)} is for new agents"


def _acts(learner: Transferable, modules: Sequence[str]) -> bool:
    """Whether what chooses actions is among `modules`: the actor, or the critic where there is none."""
    from simreal_agents.networks import matching_groups

    names = learner.optimizer.names
    tower = "actor" if "heads.actor" in names else "critic"
    return {name for name in matching_groups([tower, "encoder.shared"]) if name in names} <= set(
        matching_groups(modules)
    )


def explore_no_more_than_at_the_end(learner: Any) -> None:
    learner.uniform_start = False
    if hasattr(learner, "exploration_final_eps"):
        learner.exploration_rate = learner.exploration_final_eps
        learner.exploration_schedule = lambda remaining: learner.exploration_final_eps


def _tune(learner: Transferable, options: Mapping[str, Any]) -> None:
    """Set what belongs to the groups of the optimizer."""
    if decay := options.get("weight_decay"):
        noise = ("heads.log_std", "heads.temperature")  # 0 is no neutral value of a logarithm
        learner.set_options([name for name in learner.optimizer.names if name not in noise], weight_decay=decay)
    with _of_key("group_max_grad_norm"):
        for name, norm in options.get("group_max_grad_norm", {}).items():
            learner.set_options([name], max_grad_norm=norm)
    if scales := options.get("lr_scale"):
        with _of_key("lr_scale"):
            learner.set_lr_scale(scales)


@contextlib.contextmanager
def _of_key(name: str) -> Iterator[None]:
    """Let a mistake in a hyperparameter be that key's, not the method's that found it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"hyperparameters.{name}: {str(error).partition(': ')[2]}") from None
