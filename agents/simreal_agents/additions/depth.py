"""A network by depth: its layers from the encoder to the heads, across towers, and learning that differs between them.

Layer 0 is the encoder, layer k the k-th layer of the trunk, the last one all heads. The groups of the optimizer are
coarser: a deep trunk is one group. So whole groups are frozen and scaled by the learner itself, and parts of a group by
`Paces`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simreal_agents.additions import Addition
from simreal_agents.networks import GROUPS, MODULES, TOWERS, groups_of, matching_groups, stream
from simreal_envs.errors import Unsupported, UserError, require_known

if TYPE_CHECKING:
    from simreal_agents.optimizer import FlatAdam
    from simreal_agents.transferable import Transferable

STILL = "standing still"


def layers_of(policy: Any) -> list[list[str]]:
    """The names of the parameters of every layer, from the encoder to the heads; those that never learn are left out.

    Raises:
        Unsupported: the network has columns, so that it is no pile of layers, or renormalizations between its layers.
    """
    if "renorm_warmup_steps" in policy.network:
        raise Unsupported("a CrossQ agent has renormalizations between its layers, which belong to none of them")
    if "columns" in policy.network:
        raise Unsupported("this agent has columns of other agents in it: its layers do not simply lie upon each other")
    layers: list[list[str]] = [[] for _ in range(len(policy.network["hidden"]) + 1)]
    names = [name for members in groups_of(policy).values() for name, _ in members]
    places: dict[str, list[int]] = {}
    for name in names:
        module, tower, *rest = name.split(".")
        if module == "trunk":
            places.setdefault(tower, []).append(int(rest[0]))
    for name in names:
        module, tower, *rest = name.split(".")
        if module == "encoder":
            layers[0].append(name)
        elif module == "trunk":  # activations and dropout stand between the layers
            layers[1 + sorted(set(places[tower])).index(int(rest[0]))].append(name)
        elif module == "heads":
            layers[-1].append(name)
    return layers


def names_of(policy: Any) -> list[str]:
    """What its layers are called: ``encoder``, ``trunk.1``, .., ``heads``."""
    return ["encoder", *(f"trunk.{i}" for i in range(1, len(policy.network["hidden"]))), "heads"]


def addressed(policy: Any, parts: Iterable[str], where: str = "") -> list[str]:
    """The parameters addressed by layers, modules, towers or groups.

    Raises:
        UserError: for an unknown name; says the nearest one.
    """
    layers = dict(zip(names_of(policy), layers_of(policy), strict=True))
    found: list[str] = []
    for part in parts:
        require_known(part, tuple(dict.fromkeys((*layers, *MODULES, *TOWERS, *GROUPS))), "layer", where)
        groups = [] if part in layers else matching_groups([part])
        found += layers.get(part, [name for layer in layers.values() for name in layer if group_of(name) in groups])
    return list(dict.fromkeys(found))


def counterpart(name: str, policy: Any, layer: str) -> str:
    """The parameter in a layer of `policy` that belongs to the tower of `name` and is what `name` is: weight or bias.

    Raises:
        UserError: there is no such layer, or nothing in it that corresponds.
    """
    layers = dict(zip(names_of(policy), layers_of(policy), strict=True))
    require_known(layer, layers, "layer of the agent")
    _, tower, *inner = name.split(".")
    for other in layers[layer]:
        if other.split(".")[1] == tower and inner and other.split(".")[-1] == inner[-1]:
            return other
    raise UserError(f"the agent's {layer} has nothing that could become {name}")


def group_of(name: str) -> str:
    """The group of a parameter: ``trunk.actor.0.weight`` -> ``trunk.actor``."""
    return next(group for group in GROUPS if name == group or name.startswith(f"{group}."))


def places_of(policy: Any, optimizer: FlatAdam) -> dict[str, slice]:
    """Where every parameter lies in the optimizer's flat vectors."""
    names = {parameter: name for name, parameter in policy.named_parameters()}
    places, start = {}, 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            places[names[parameter]] = slice(start, start + parameter.numel())
            start += parameter.numel()
    return places


def flattened(learner: Transferable, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Tensors by the name of their parameter as one vector ``(n,)`` float32 in the optimizer's order; 0 elsewhere."""
    flat = torch.zeros_like(learner.optimizer.parameters)
    for name, place in places_of(learner.policy, learner.optimizer).items():
        if name in tensors:
            flat[place] = tensors[name].detach().reshape(-1)
    return flat


class Paces(Addition):
    """The share of every step that single parameters take: 0 stands still to the bit, 1 is as usual.

    A share of Adam's step is a step of Adam with that share of the learning rate, weight decay included.

    Attributes:
        shares: by name of the parameter; those that are missing take whole steps.
    """

    turn = 1

    def __init__(self, policy: Any, optimizer: FlatAdam, shares: Mapping[str, float] | None = None):
        self._places, self._share = places_of(policy, optimizer), torch.ones_like(optimizer.parameters)
        self.set(shares or {})

    def set(self, shares: Mapping[str, float]) -> None:
        """Give single parameters other shares, and all others whole steps."""
        self.shares = dict(shares)
        self._share.fill_(1.0)
        for name, share in self.shares.items():
            self._share[self._places[name]] = share
        self._still = self._share == 0

    def gradient(self, optimizer: FlatAdam) -> None:
        if self.shares:
            self._before = optimizer.parameters.clone()
            # Neither the moments of what stands still nor the norm that is bounded shall know of its gradient.
            optimizer.gradients.masked_fill_(self._still, 0.0)

    def stepped(self, optimizer: FlatAdam) -> None:
        if self.shares:
            between = torch.lerp(self._before, optimizer.parameters, self._share)  # exact where the share is 1
            torch.where(self._still, self._before, between, out=optimizer.parameters)

    def training_state(self) -> dict[str, Any]:
        return {"shares": dict(self.shares)}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.set(state["shares"])


def stand_still(learner: Transferable, names: Collection[str]) -> None:
    """Let exactly these parameters stand still, from now on; all others learn.

    What begins to learn does so with fresh moments. The observation statistics rest as long as the encoder does.
    """
    if STILL not in learner.additions:
        learner.attach(STILL, Paces(learner.policy, learner.optimizer))
    paces: Any = learner.additions[STILL]
    members: dict[str, set[str]] = {}
    for name in places_of(learner.policy, learner.optimizer):
        members.setdefault(group_of(name), set()).add(name)
    whole = [group for group, inside in members.items() if inside <= set(names)]
    partly = set(names) - {name for group in whole for name in members[group]}
    for name in set(paces.shares) - partly:
        if group_of(name) not in whole:
            learner.optimizer.reset_moments(group_of(name))
    learner.thaw([group for group in members if group not in whole])
    rests = any(group.startswith("encoder.") for group in whole)
    learner.freeze(whole, normalizer="keep" if rests else "update")
    paces.set(dict.fromkeys(sorted(partly), 0.0))


@torch.no_grad()
def fresh(learner: Transferable) -> dict[str, torch.Tensor]:
    """All parameters as this learner's seed has them at its very beginning; nothing changes."""
    policy = learner.policy
    kept = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    policy.initialize(stream(learner.seed, "weights"))
    drawn = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    policy.load_state_dict(kept)
    return drawn


@torch.no_grad()
def draw_anew(learner: Transferable, names: Iterable[str]) -> None:
    """Draw the weights of single parameters anew, as this learner's seed has them at its very beginning."""
    names, policy = set(names), learner.policy
    policy.load_state_dict({n: t for n, t in fresh(learner).items() if n in names}, strict=False)
    for name, target, online in getattr(policy, "followed", ()):
        if name in names:
            target.copy_(online)
    for group in sorted({group_of(name) for name in names}):
        learner.optimizer.reset_moments(group)


class Thawing(Addition):
    """How far a gradual thaw has come.

    Attributes:
        learning: layers that learn, counted from the heads.
        best: the best mean return of training episodes since the last layer joined.
        since: the share of the budget that was used then.
    """

    keeps = ("learning", "best", "since")

    def __init__(self) -> None:
        self.learning, self.best, self.since = 1, -math.inf, 0.0

    def has_stalled(self, mean_return: float, progress: float, patience: float) -> bool:
        """Whether the return has not become better for `patience`; begins to count anew if so."""
        better = mean_return > self.best
        stalled = not better and progress - self.since >= patience
        if better or stalled:
            self.best, self.since = mean_return, progress
        return stalled
