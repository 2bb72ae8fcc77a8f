"""The weights of an agent in the places that a target's fields have: what surgery does to tensors.

A first layer reads the elements of the observation, and of critics of continuous actions those of the action behind them;
``encoder.shared`` reads what the convolutions of each picture give, then vectors, and such critics read the action behind
its features. Target copies are treated like what they follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from simreal_agents.encoders import channels_of, extent_of
from simreal_agents.layout import Layout
from simreal_agents.matching import Matching
from simreal_agents.networks import TOWERS
from simreal_envs.schema import Field, Schema

Tensors = dict[str, torch.Tensor]


@torch.no_grad()
def transplant(
    policy: Any, fresh: Any, theirs: Schema, seen: Matching, shown: Matching, done: Matching, told: Mapping[int, float],
    new_encoder: bool = False,
) -> None:  # fmt: skip
    """Fill `fresh`, a policy for the target, with what `policy` has.

    Args:
        seen, shown, done: elements of vectors, channels of pictures, and actions.
        told: what the agent is told at each vector element that the target lacks, in its own unit.
        new_encoder: leave the encoder of `fresh` as it is.
    """
    old, new = policy.state_dict(), fresh.state_dict()
    state = {name: tensor for name, tensor in old.items() if name in new}
    for prefix in ("", "target."):
        state |= _judged(policy, old, new, prefix, done)
        if new_encoder:
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{prefix}encoder.")}
            continue
        if policy.layout.images:
            state |= _pictures(policy, fresh, prefix, shown, seen, told)
        for tower in TOWERS:
            name = f"{prefix}encoder.{tower}.0"
            if f"{name}.mean" in old:
                state |= _renormed(policy, f"encoder.{tower}", seen, told, done if tower == "critic" else None)
            elif f"{name}.weight" in old:
                actions = done if old[f"{name}.weight"].shape[-1] > len(seen.ours) else None
                state |= _first(policy, name, seen, told, actions)
    if not new_encoder:
        state |= _statistics(policy, seen)[0]
    state |= _outputs(policy, old, theirs, done)
    fresh.load_state_dict({**new, **state})


# ---- what comes in ----------------------------------------------------------------------------------------------------


def _statistics(policy: Any, seen: Matching) -> tuple[Tensors, torch.Tensor]:
    """The normalizer's buffers for the target, and what the columns of the first layers are multiplied with."""
    normalizer, size = policy.encoder.normalizer, len(seen.theirs)
    mean, var = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    count, gain = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    for i, pair in enumerate(seen.pairs):
        if pair is None:
            continue
        mean[i], var[i], count[i] = (
            moment[pair.ours] for moment in (normalizer.mean, normalizer.var, normalizer.count)
        )
        if pair.gain == 1.0:
            continue
        if not normalizer.enabled:
            gain[i] = 1 / pair.gain
            continue
        # (theirs - mean') / sqrt(var' + eps) shall be (ours - mean) / sqrt(var + eps). Where a reading hardly varies var'
        # would be negative: it is 0 then, and the weights make up for the rest.
        square = (var[i] + normalizer.EPSILON) * pair.gain**2
        mean[i], var[i] = mean[i] * pair.gain, (square - normalizer.EPSILON).clamp(min=0.0)
        if var[i] == 0:
            gain[i] = (normalizer.EPSILON / square).sqrt()
    names = ("mean", "var", "count")
    return {f"encoder.normalizer.{n}": t for n, t in zip(names, (mean, var, count), strict=True)}, gain


def _first(policy: Any, name: str, seen: Matching, told: Mapping[int, float], done: Matching | None) -> Tensors:
    """A first layer ``(.., out, in)`` over vectors, and over actions if `done` is given."""
    layer = policy.get_submodule(name)
    size = len(seen.ours)
    weight, bias = _columns(policy, layer.weight[..., :size], layer.bias, seen, told)
    if done:
        weight = torch.cat([weight, _moved(layer.weight[..., size:], done)], dim=-1)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _renormed(policy: Any, name: str, seen: Matching, told: Mapping[int, float], done: Matching | None) -> Tensors:
    """A `BatchRenorm` and the first layer behind it, over vectors, and over actions if `done` is given."""
    norm, layer = policy.get_submodule(f"{name}.0"), policy.get_submodule(f"{name}.1")
    size, dropped, gain = len(seen.ours), list(told), _statistics(policy, seen)[1]
    constant = norm.epsilon
    read = (_normalized(policy, told) - norm.mean[..., dropped]) * (norm.var[..., dropped] + constant).rsqrt()
    read = read * norm.scale[..., dropped] + norm.bias[..., dropped]
    shift = torch.einsum("...oi,...i->...o", layer.weight[..., dropped].double(), read.double())
    state = {f"{name}.1.bias": (layer.bias.double() + shift).float()}
    moved = {}
    for part, tensor, start in (
        ("0.mean", norm.mean, 0.0), ("0.var", norm.var, 1.0), ("0.scale", norm.scale, 1.0), ("0.bias", norm.bias, 0.0),
        ("1.weight", layer.weight, 0.0),
    ):  # fmt: skip
        columns = [_moved(tensor[..., :size], seen, start)]
        moved[part] = torch.cat([*columns, *([_moved(tensor[..., size:], done, start)] if done else [])], dim=-1)
    # In another unit x' = x / gain; where variances are too small for that, the scale makes up for the rest.
    gain = torch.cat([gain, torch.ones(moved["0.mean"].shape[-1] - len(gain), dtype=gain.dtype)])
    var = ((moved["0.var"] + constant) / gain.square() - constant).clamp(min=0.0)
    rest = gain * ((var + constant) / (moved["0.var"] + constant)).sqrt()
    changed = gain != 1.0
    moved["0.mean"] = torch.where(changed, moved["0.mean"] / gain, moved["0.mean"]).float()
    moved["0.scale"] = torch.where(changed, moved["0.scale"] * rest, moved["0.scale"]).float()
    moved["0.var"] = torch.where(changed, var, moved["0.var"]).float()
    return state | {f"{name}.{part}": tensor for part, tensor in moved.items()}


def _judged(policy: Any, old: Tensors, new: Tensors, prefix: str, done: Matching) -> Tensors:
    """The layer behind the encoder, where critics of continuous actions read these if the encoder has not."""
    name, width = f"{prefix}trunk.critic.0.weight", policy.network["hidden"][0]
    if name not in old or old[name].ndim < 3:
        return {}
    features, actions = old[name][..., :width], old[name][..., width:]
    if not actions.shape[-1]:
        actions = torch.zeros(*features.shape[:-1], len(done.ours))
    read = new[name].shape[-1] - width  # none, or all
    return {name: torch.cat([features, _moved(actions, done)[..., :read]], dim=-1)}


def _columns(
    policy: Any, weight: torch.Tensor, bias: torch.Tensor, seen: Matching, told: Mapping[int, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The columns ``(.., out, vector elements)`` of a first layer for the target, and its bias ``(.., out)``."""
    columns = _moved(weight, seen) * _statistics(policy, seen)[1].float()
    normalized = _normalized(policy, told)
    if normalized.any():
        bias = (bias.double() + weight[..., list(told)].double() @ normalized).float()
    return columns, bias


def _moved(columns: torch.Tensor, matching: Matching, start: float = 0.0) -> torch.Tensor:
    """Columns of the agent's elements in the places of the target's; `start` where the agent has none."""
    moved = torch.full((*columns.shape[:-1], len(matching.theirs)), start)
    new, old = matching.places
    moved[..., new] = columns[..., old]
    return moved


def _normalized(policy: Any, told: Mapping[int, float]) -> torch.Tensor:
    """What the first layer reads where the observations at some positions are these, float64; exactly 0 at the mean."""
    row = policy.encoder.normalizer.mean.clone()
    row[list(told)] = torch.tensor(list(told.values()), dtype=torch.float64)
    return policy.encoder.normalizer(row.float()[None])[0, list(told)].double()


def _pictures(
    policy: Any, fresh: Any, prefix: str, shown: Matching, seen: Matching, told: Mapping[int, float]
) -> Tensors:
    """``encoder.shared`` for the target. A picture that only the target has gets new convolutions that nothing reads."""
    start = f"{prefix}encoder.shared"
    try:
        ours = policy.get_submodule(start)
    except AttributeError:
        return {}
    weight, bias, state = ours.linear.weight, ours.linear.bias, {}
    blocks = dict(
        zip(_names(policy.layout), weight.split([*ours.outputs, len(policy.layout.vector)], dim=1), strict=True)
    )
    homes = {
        field.name: shown.ours[p.ours][0].name for (field, _), p in zip(shown.theirs, shown.pairs, strict=True) if p
    }
    new_blocks, theirs = [], fresh.get_submodule(start)
    for name, width in zip(_names(fresh.layout)[:-1], theirs.outputs, strict=True):
        # A picture that is the whole observation has no name in the layout.
        home = homes.get(name or shown.theirs[0][0].name)
        if home is None:
            new_blocks.append(torch.zeros(len(weight), width))
            convolutions = theirs.cnns[name or "image"].state_dict()  # even where the agent has others by this name
        else:
            old = home if home in blocks else ""
            new_blocks.append(blocks.pop(old))
            convolutions = ours.cnns[old or "image"].state_dict()
            convolutions["0.weight"] = _channels(convolutions["0.weight"], shown, name or shown.theirs[0][0].name, home)
        state |= {f"{start}.cnns.{name or 'image'}.{inner}": tensor for inner, tensor in convolutions.items()}
    vector = blocks.pop(None)
    for name, block in blocks.items():  # what the target lacks is taken as black
        part = next(part for part in policy.layout.images if part.name == name)
        black = ours.cnns[name or "image"](torch.zeros(1, channels_of(part), *extent_of(part))).flatten()
        bias = (bias.double() + block.double() @ black.double()).float()
    columns, bias = _columns(policy, vector, bias, seen, told)
    return {**state, f"{start}.linear.weight": torch.cat([*new_blocks, columns], dim=1), f"{start}.linear.bias": bias}


def _names(layout: Layout) -> list[Any]:
    """What the columns of ``encoder.shared.linear`` are about: pictures by name, then None for vectors."""
    return [*(part.name for part in layout.images), None]


def _channels(weight: torch.Tensor, shown: Matching, theirs: str, ours: str) -> torch.Tensor:
    """The first convolution ``(out, channels, height, width)`` of a picture: channels by label, new ones zero."""
    own = [i for i, (field, _) in enumerate(shown.ours) if field.name == ours]
    pairs = [pair for (field, _), pair in zip(shown.theirs, shown.pairs, strict=True) if field.name == theirs]
    moved = torch.zeros(len(weight), len(pairs), *weight.shape[2:])
    for i, pair in enumerate(pairs):
        if pair is not None:
            moved[:, i] = weight[:, own.index(pair.ours)]
    return moved


# ---- what goes out ----------------------------------------------------------------------------------------------------


def start_of(field: Field, squashed: bool) -> float:
    """The action that a new element starts from: 0 or the bound next to it; squashed, the middle of its range."""
    return 0.5 * (field.low + field.high) if squashed else min(max(0.0, field.low), field.high)


def _outputs(policy: Any, old: Tensors, theirs: Schema, done: Matching) -> Tensors:
    """The heads that stand for actions, and their noise."""
    if theirs.choices:
        tower = "actor" if "heads.actor.weight" in old else "critic"
        names = [f"{prefix}heads.{tower}.{part}" for prefix in ("", "target.") for part in ("weight", "bias")]
        return {name: _choices(old[name], done) for name in names if name in old}
    fields = [field for field, _ in done.theirs]
    starts = [0.0 if policy.squash_output else start_of(field, False) for field in fields]
    gains = [(p.gain, p.offset) if p and not policy.squash_output else (1.0, 0.0) for p in done.pairs]
    state: Tensors = {}
    for prefix in ("", "target."):
        name = f"{prefix}heads.actor"
        if f"{name}.weight" in old:
            weight, bias = _rows(old[f"{name}.weight"], done, 0.0), _rows(old[f"{name}.bias"], done, starts)
            for i, pair in enumerate(done.pairs):
                if pair is not None and gains[i] != (1.0, 0.0):
                    weight[i], bias[i] = weight[i] * gains[i][0], bias[i] * gains[i][0] + gains[i][1]
            state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    if (noise := old.get("heads.log_std")) is not None:
        fresh = float(policy.network["log_std_init"])
        moved = _rows(noise, done, fresh)
        shift = torch.tensor(
            # An action without reach, of a joint that is locked, has a gain of 0: its noise is clipped away.
            [math.log(gain) if pair and gain else 0.0 for (gain, _), pair in zip(gains, done.pairs, strict=True)]
        )
        state["heads.log_std"] = moved + shift
    for part in ("weight", "bias"):
        if (noise := old.get(f"heads.log_std.{part}")) is not None:
            state[f"heads.log_std.{part}"] = _rows(noise, done, 0.0)
    return state


def _rows(rows: torch.Tensor, done: Matching, start: float | Sequence[float]) -> torch.Tensor:
    """Rows of the agent's actions in the places of the target's; `start` where the agent has none."""
    moved = torch.zeros(len(done.theirs), *rows.shape[1:]) + torch.as_tensor(start)
    new, old = done.places
    moved[new] = rows[old]
    return moved


def _choices(rows: torch.Tensor, done: Matching) -> torch.Tensor:
    """Logits or values ``(choices * quantiles, ..)`` by label; a new choice gets the mean of those that are kept.

    A mean is never the largest, so that a new choice is never the best one before it has learned something.
    """
    blocks = rows.reshape(len(done.ours), -1, *rows.shape[1:])
    new, old = done.places
    moved = torch.zeros(len(done.theirs), *blocks.shape[1:])
    if old:
        moved[:] = blocks[old].double().mean(0).float()
    moved[new] = blocks[old]
    return moved.reshape(-1, *rows.shape[1:])
