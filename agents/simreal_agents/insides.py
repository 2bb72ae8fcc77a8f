"""What goes on inside of a policy: its layers' activations, its weights, how well it learns, where its gradients point.

Layers are named as groups are (`networks`), in the order of the data flow:

    normalizer           what the network reads
    encoder.actor        output of the first layer         encoder.shared   where there are pictures; before it its
                                                           convolutions, encoder.shared.image.0, ..
    trunk.actor.0, ..    of the remaining hidden layers
    heads.actor          action means, logits              heads.log_std    where that depends on the state
    encoder.critic, ..   likewise; of several critics the units stand side by side
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from simreal_agents.additions import acting_tower, fisher
from simreal_agents.additions.differentiable import Categorical, distribution, values
from simreal_agents.continuous import Stacked
from simreal_agents.networks import ACTIVATIONS, groups_of, matching_groups, stream
from simreal_agents.passes import Pass
from simreal_agents.products import Linear, Products

Array = np.ndarray
FREQUENCY = 1.0  # of random targets, radians per standard deviation
TRACE_DECAY = 0.95  # lambda of the advantages, PPO's usual one
NOT_PLAIN = ("columns", "memory", "tasks", "renorm_warmup_steps")  # settings of networks with more than such layers
INNER = {"activation", "cnns", "layers"}  # words of a module's place that say nothing about the layer


class Layer(NamedTuple):
    """What a layer gives: ``values (n, units)``, float32; of convolutions every place of a picture is a row.

    `activation` is ``"tanh"``, ``"elu"``, ``"relu"``, or empty where there is none.
    """

    values: Array
    activation: str


@torch.no_grad()
def activations(policy: Any, rows: Array, actions: Array | None = None) -> dict[str, Layer]:
    """All layers of a policy for raw rows ``(n, size)``, by name, in the order of the data flow, the critic's last.

    Args:
        actions: ``(n, a)`` in the unit of the action space, for critics that read them; the middle of it by default.
    """
    found: dict[str, Layer] = {}
    passed: set[str] = set()  # actor and critics may each pass an encoder that they share
    kinds = {kind: name for name, kind in ACTIVATIONS.items()}

    def keep(place: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        if place in passed:
            return
        passed.add(place)
        name = ".".join(part for part in place.split(".") if not part.isdigit() and part not in INNER)
        if name.startswith("trunk.") or (name.startswith("encoder.") and name.count(".") > 1):
            name = f"{name}.{sum(known.rpartition('.')[0] == name for known in found)}"
        name = "normalizer" if place == "encoder.normalizer" else name
        if hasattr(module, "absent"):  # what the head computes, before absent choices are left out by a huge number
            output = module.forward(inputs)
        side_by_side = ".critic" in place and "n_critics" in policy.network
        found[name] = Layer(_by_unit(output, side_by_side), kinds.get(type(module), ""))

    def is_layer(place: str, module: nn.Module) -> bool:
        if place.startswith("heads."):
            return place.count(".") == 1
        return place == "encoder.normalizer" or (place.startswith(("encoder.", "trunk.")) and type(module) in kinds)

    with _watched(policy, is_layer, keep):
        _pass(policy, torch.from_numpy(np.array(rows, dtype=policy.layout.dtype)), actions)
    return {name: found[name] for name in sorted(found, key=lambda name: ".critic" in name)}


@contextlib.contextmanager
def _watched(policy: Any, which: Callable[[str, nn.Module], bool], keep: Callable[..., None]) -> Iterator[None]:
    """While it lasts, every pass of a module with ``which(place, module)`` calls ``keep(place, module, inputs, output)``."""
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, place=place: keep(place, module, inputs[0], output))
        for place, module in policy.named_modules()
        if which(place, module)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _pass(policy: Any, rows: Tensor, actions: Array | None) -> None:
    if hasattr(policy, "mlp_extractor"):
        actor, critic = policy.mlp_extractor(rows)
        policy.heads.actor(actor), policy.heads.critic(critic)
    elif hasattr(policy, "outputs"):
        policy.outputs(rows)
    else:
        features = policy.actor_features(rows)
        policy.heads.actor(features)
        if hasattr(policy.heads, "log_std"):
            policy.heads.log_std(features)
        low, high = policy.action_space.low, policy.action_space.high
        taken = np.broadcast_to((low + high) / 2, (len(rows), len(low))) if actions is None else actions
        policy.q_values(rows, torch.from_numpy((2 * (taken - low) / (high - low) - 1).astype(np.float32)))


def _by_unit(output: Tensor, side_by_side: bool) -> Array:
    """One row per state, or per place of a picture; of critics side by side the output is ``(critics, n, units)``."""
    if output.dim() == 4:  # (n, channels, height, width)
        return output.movedim(1, -1).flatten(0, 2).numpy()
    return (output.movedim(0, 1) if side_by_side else output).flatten(1).numpy()


def weights(policy: Any) -> dict[str, Array]:
    """All parameters of every group, one behind the other."""
    return {group: _flat([p for _, p in members]) for group, members in groups_of(policy).items()}


def importance(policy: Any, rows: Array) -> dict[str, Array]:
    """The diagonal of the Fisher information over raw rows ``(n, size)``, as `weights`, of groups that decide actions."""
    diagonal = fisher.diagonal(policy, rows)
    return {
        group: _flat([diagonal[name] for name, _ in members])
        for group, members in groups_of(policy).items()
        if members[0][0] in diagonal
    }


def _flat(tensors: list[Any]) -> Array:
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])


# ---- how well it learns ----------------------------------------------------------------------------------------------


def is_plain(policy: Any) -> bool:
    """Whether the network is nothing but linear layers with activations between them."""
    return not policy.layout.images and not any(name in policy.network for name in NOT_PLAIN)


def fitted(policies: Sequence[Any], rows: Array, *, steps: int = 30, lr: float = 3e-3, targets: int = 8) -> list[float]:
    """What is left of random targets after some steps of Adam on the layers that decide actions, 0 to about 1.

    Targets are ``sqrt(2) cos(w'z + b)`` of the standardized rows z with random w and b (Rahimi & Recht 2007), of variance
    1. They are read from the last hidden layer by a new linear head, and all layers below it learn, as in the
    target-fitting capacity of Lyle, Rowland & Dabney (2022, ICLR, arXiv:2204.09560). Policies stay as they are.

    Args:
        policies: of one shape, plain MLPs; all get the same targets and the same new head.
        rows: raw, ``(n, size)``; the first policy's normalizer is used for all.
    """
    generator = stream(0, "plasticity")
    seen = policies[0].encoder.normalizer(torch.from_numpy(np.array(rows, dtype=np.float32)))
    z = (seen - seen.mean(0)) / (seen.std(0) + 1e-6)
    w = FREQUENCY * torch.randn(z.shape[1], targets, generator=generator) / z.shape[1] ** 0.5
    wanted = torch.cos(z @ w + 2 * torch.pi * torch.rand(targets, generator=generator))
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)
    width = policies[0].network["hidden"][-1]
    network, parameters, slopes = _side_by_side(policies, torch.randn(targets, width, generator=generator) / width**0.5)
    mean, square = torch.zeros_like(parameters), torch.zeros_like(parameters)
    with torch.no_grad():
        inputs, goal = seen.numpy(), wanted.numpy()
        for step in range(1, steps + 1):
            error = network.forward(inputs)[0] - goal
            network.backward([error * np.float32(2 / goal.size)])
            mean.lerp_(slopes, 0.1)
            square.mul_(0.999).addcmul_(slopes, slopes, value=0.001)
            bound = (square / (1 - 0.999**step)).sqrt_().add_(1e-8)
            parameters.addcdiv_(mean, bound, value=-lr / (1 - 0.9**step))
        return np.square(network.forward(inputs)[0] - goal).mean(axis=(1, 2)).tolist()


@torch.no_grad()
def _side_by_side(policies: Sequence[Any], head: Tensor) -> tuple[Pass, Tensor, Tensor]:
    """Copies of the hidden layers of k policies, each with a new `head` of weights, and all their parameters and slopes."""
    k, hidden = len(policies), policies[0].network["hidden"]
    linears = zip(*(policy.linears(acting_tower(policy))[: len(hidden)] for policy in policies), strict=True)
    copies = [[torch.stack([getattr(one, name) for one in same]) for name in ("weight", "bias")] for same in linears]
    copies.append([head.expand(k, -1, -1), torch.zeros(k, len(head))])
    flat = torch.cat([copy.flatten() for pair in copies for copy in pair])
    layers, slopes, start = [], torch.zeros_like(flat), 0
    for weight, _ in copies:
        layer = Stacked(k, weight.shape[2], weight.shape[1])
        for parameter in (layer.weight, layer.bias):
            part = slice(start, start := start + parameter.numel())
            parameter.data, parameter.grad = flat[part].view_as(parameter), slopes[part].view_as(parameter)
        layers.append(Products(layer))
    return Pass(layers[:-1], layers[-1:], policies[0].network["activation"]), flat, slopes


# ---- where its gradients point ---------------------------------------------------------------------------------------


def gradients(policy: Any, batch: Mapping[str, Array], gamma: float, batches: int, size: int) -> Array:
    """Gradients of a policy's own loss, ``(batches, parameters)``, on minibatches of n recorded transitions.

    Of an actor with a critic of states: of ``-A log pi(a|s)`` with generalized advantages A (Schulman et al. 2016),
    standardized over all n, by the actor's linear layers. Of critics of actions: of the squared error of their mean from
    ``r + gamma V(s')``, by the critics' linear layers.

    Args:
        batch: ``observations``, ``next_observations (n, size)``, ``actions``, ``rewards``, ``terminated``, ``truncated``
            and ``episode``, in order of time within an episode; rewards in the task's unit.
        batches: how many minibatches; each is spread over all n.
        size: transitions of a minibatch, as far as n suffices.
    """
    rows, actions = (torch.from_numpy(np.array(batch[name])) for name in ("observations", "actions"))
    following = policy.value(batch["next_observations"]).astype(np.float64) * ~batch["terminated"]
    wanted = batch["rewards"] * policy.reward_scaler.scale + gamma * following
    on_policy = hasattr(policy, "mlp_extractor")
    if on_policy:
        advantage = _advantages(wanted - policy.value(batch["observations"]), batch, gamma)
        wanted = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    weight = torch.from_numpy(wanted.astype(np.float32))
    each = max(1, min(size, len(wanted) // batches))
    spread = np.linspace(0, len(wanted) - 1, batches * each).round().astype(int).reshape(each, batches).T.ravel()
    groups = matching_groups(["actor" if on_policy else "critic", "encoder.shared"])
    passed: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def is_linear(place: str, module: nn.Module) -> bool:
        return type(module) in (nn.Linear, Linear, Stacked) and any(
            f"{place}.".startswith(f"{group}.") for group in groups
        )

    def keep(place: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        passed.setdefault(place, []).append((inputs.detach(), output))

    with torch.enable_grad(), _watched(policy, is_linear, keep):
        loss = (_surprise if on_policy else _error)(policy, rows[spread], actions[spread], weight[spread])
    layers = [calls[0] for calls in passed.values() if len(calls) == 1 and calls[0][1].shape[-2] == len(spread)]
    slopes = torch.autograd.grad(loss * batches, [output for _, output in layers])
    # The gradient by a layer's weights is the product of what goes in and of the slopes at what comes out.
    found = []
    for (inputs, _), slope in zip(layers, slopes, strict=True):
        x = inputs.expand(*slope.shape[:-1], -1).unflatten(-2, (batches, each))  # of several critics (k, batches, ..)
        d = slope.unflatten(-2, (batches, each))
        found += [part.movedim(d.dim() - 3, 0).flatten(1) for part in (d.mT @ x, d.sum(-2))]
    return torch.cat(found, 1).numpy()


def _advantages(surprise: Array, batch: Mapping[str, Array], gamma: float) -> Array:
    """Sums of temporal differences ``(n,)``, discounted, to the end of what is known of an episode."""
    last = batch["terminated"] | batch["truncated"]
    last[:-1] |= np.diff(batch["episode"]) != 0
    decay = gamma * TRACE_DECAY * ~last
    backwards = zip(surprise[::-1].tolist(), decay[::-1].tolist(), strict=True)
    return np.array(list(accumulate(backwards, lambda ahead, now: now[0] + now[1] * ahead, initial=0.0))[:0:-1])


def _surprise(policy: Any, rows: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
    found = distribution(policy, rows)
    if isinstance(found, Categorical):
        log_probs = found.log_probs.gather(1, actions.long().reshape(-1, 1))[:, 0]
    else:
        log_probs = -(0.5 * ((actions - found.mean) * (-found.log_std).exp()).square() + found.log_std).sum(1)
    return -(advantages * log_probs).mean()


def _error(policy: Any, rows: Tensor, actions: Tensor, wanted: Tensor) -> Tensor:
    if hasattr(policy, "outputs"):
        expected = policy.outputs(rows).mean(2).gather(1, actions.long().reshape(-1, 1))[:, 0]
    else:
        expected = values(policy, rows, actions).mean(1)
    return (expected - wanted).square().mean()
