"""Fit an agent to a target whose observation or action fields are permuted, missing, new or in another unit.

Elements are matched by the name of their field and their own label; what they measure is compared by unit. Nothing is
guessed: an element without a counterpart is created or dropped, and the record that comes with the new agent says so.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, Literal

import torch
from gymnasium import spaces

from simreal_agents.bundle import OWN_KEYS, Agent
from simreal_agents.networks import Policy
from simreal_agents.units import factor
from simreal_envs.errors import Unsupported, UserError, require_known
from simreal_envs.schema import Field, Schema

Kind = Literal["observation", "action"]
Fate = Literal["matched", "rescaled", "created", "dropped"]


@dataclass(frozen=True)
class Row:
    """What became of some elements of one field.

    Attributes:
        kind: ``"observation"`` or ``"action"``.
        field: its name.
        labels: the elements that this row is about.
        fate: ``"matched"``, ``"rescaled"``, ``"created"`` or ``"dropped"``.
        unit: the agent's unit, or ``"deg -> rad"`` from the agent's to the target's.
        says: what was done, in words.
        values: of dropped observations, what the agent takes them as, in its own unit, per label.
    """

    kind: Kind
    field: str
    labels: tuple[str, ...]
    fate: Fate
    unit: str
    says: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Surgery:
    """The record of one fit: plain data that prints as a table and is in the new agent's card as ``surgery``."""

    rows: tuple[Row, ...]

    @property
    def says(self) -> str:
        """How the new agent's actions relate to the old agent's, in one sentence."""
        fates = {(row.kind, row.fate) for row in self.rows}
        if fates <= {("observation", "matched"), ("action", "matched")} and all(
            r.says == "in place" for r in self.rows
        ):
            return "nothing had to change: the actions are equal to the bit"
        if ("action", "matched") not in fates and ("action", "rescaled") not in fates:
            return "no action is shared: only what the agent sees and its features were carried over"
        sees = ", for the dropped readings at the values above," if ("observation", "dropped") in fates else ""
        return f"the shared actions{sees} are those of the old agent up to float32 rounding"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a card; ``Surgery.from_dict`` reads it back."""
        rows = [{**asdict(row), "labels": list(row.labels), "values": list(row.values)} for row in self.rows]
        return {"rows": rows, "says": self.says}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Surgery:
        rows = ({**row, "labels": tuple(row["labels"]), "values": tuple(row["values"])} for row in data["rows"])
        return cls(tuple(Row(**row) for row in rows))

    def __str__(self) -> str:
        head = ("", "field", "elements", "unit", "", "")
        lines = [
            (row.kind if i == 0 or self.rows[i - 1].kind != row.kind else "", row.field, _shown(row.labels),
             f"[{row.unit}]", row.fate, row.says)
            for i, row in enumerate(self.rows)
        ]  # fmt: skip
        widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *lines)
        ]
        return "\n".join([*(line.rstrip() for line in table), self.says])


def fit(
    agent: Agent,
    target: Schema | spaces.Space | None = None,
    *,
    observation: Sequence[Field] | None = None,
    action: Sequence[Field] | None = None,
    rename: Mapping[str, str] | None = None,
    fill: Mapping[str, float | Sequence[float]] | None = None,
) -> tuple[Agent, Surgery]:
    """An agent that speaks the target's schema and does what `agent` does, as far as the target has what it takes.

    - An observation element that both have keeps its weights and statistics, wherever it stands. In another unit of the
      same quantity its statistics are converted (its weights where the agent does not normalize).
    - One that only the target has gets weights of zero in both towers and fresh statistics: mean 0, variance 1, count 0.
    - One that only the agent has is dropped. The agent acts as if it always read its own mean there, or `fill`.
    - An action element that both have keeps its row of the head and its noise, converted to the target's unit. A
      dimensionless action is a share of its range: it is mapped from the agent's bounds to the target's.
    - One that only the target has starts at 0 (or the bound next to it) with the noise of a fresh agent.

    Everything else (trunk, value head, reward scale) is copied. Sums in the first layer and in the head are taken in
    another order, or over further zeros, so that equal actions are equal up to float32 rounding; the terms are equal.

    Args:
        target: the schema to fit, as of ``worlds.schema``.
        observation, action: or only the fields that are to be replaced.
        rename: what the target calls otherwise, as ``{target's name: agent's name}`` of fields (``"torque"``) or of
            elements (``"torque/hinge"``).
        fill: what the agent is told where a reading is missing, by field, in the agent's unit: a number, or one for each
            of the field's elements. The default is the agent's own mean (0 where it does not normalize).

    Returns:
        The new agent, and the record of what was done. `agent` is not changed.

    Raises:
        UserError: when units disagree, no observation is shared, names are not unique or not known, or control periods
            differ.
        Unsupported: when the target observes or takes something that is not a vector of named numbers.
    """
    theirs = _target_schema(agent, target, observation, action)
    ours = agent.schema
    if not math.isclose(ours.control_period, theirs.control_period, rel_tol=1e-6):
        raise UserError(
            f"control periods differ: the agent acts every {ours.control_period} s, the target every "
            f"{theirs.control_period} s; surgery fits fields, not rates"
        )
    alias = _aliases(rename or {}, ours, theirs)
    seen = _match(ours.observation, theirs.observation, "observation", alias)
    done = _match(ours.action, theirs.action, "action", alias)
    if not any(pair is not None for pair in seen.pairs):
        raise UserError(
            f"the agent and the target share no observation: {', '.join(f.name for f in ours.observation)} against "
            f"{', '.join(f.name for f in theirs.observation)}"
        )
    filled = _filled(agent, fill or {}, seen)
    policy = Agent.new(theirs, agent.policy.network).policy
    with torch.no_grad():
        state = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
        state |= _inputs(agent.policy, seen, filled)
        state |= _outputs(agent.policy, done, theirs)
        policy.load_state_dict(state)
    means = agent.policy.encoder.normalizer.mean
    dropped = _dropped_rows(seen, filled, means), _dropped_rows(done, {}, means)
    surgery = Surgery((*_rows(seen), *dropped[0], *_rows(done), *dropped[1]))
    # The returns were measured on the old agent; the last of them is in its line of the ancestors.
    card = {key: value for key, value in agent.card.items() if key not in (*OWN_KEYS, "returns")}
    card = json.loads(json.dumps(card))
    return Agent(policy, theirs, {**card, "ancestors": agent.lineage, "surgery": surgery.to_dict()}), surgery


# ---- matching ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """One element that both sides have: its position in the agent, and ``theirs = gain * ours + offset``."""

    ours: int
    gain: float
    offset: float


@dataclass(frozen=True)
class _Matching:
    """All elements of one side of the schema.

    Attributes:
        ours, theirs: ``(field, label)`` of every element, in order.
        pairs: for every element of the target, its counterpart in the agent, or None.
        missing: positions in the agent that the target does not have.
    """

    kind: Kind
    ours: tuple[tuple[Field, str], ...]
    theirs: tuple[tuple[Field, str], ...]
    pairs: tuple[_Pair | None, ...]
    missing: tuple[int, ...]


def _aliases(rename: Mapping[str, str], ours: Schema, theirs: Schema) -> dict[str, str]:
    """`rename`, checked: both names exist, and both are fields or both elements."""
    for name, old in rename.items():
        for one, schema, whose in ((name, theirs, "target"), (old, ours, "agent")):
            fields = (*schema.observation, *schema.action)
            known = (
                [f"{f.name}/{label}" for f in fields for label in f.labels] if "/" in name else [f.name for f in fields]
            )
            require_known(one, known, f"{'element' if '/' in name else 'field'} of the {whose}", "rename")
    return dict(rename)


def _match(ours: Sequence[Field], theirs: Sequence[Field], kind: Kind, alias: Mapping[str, str]) -> _Matching:
    own, other = _elements(ours, f"the agent's {kind}"), _elements(theirs, f"the target's {kind}")
    place = {f"{field.name}/{label}": i for i, (field, label) in enumerate(own)}
    pairs: list[_Pair | None] = []
    for field, label in other:
        name = alias.get(f"{field.name}/{label}") or f"{alias.get(field.name, field.name)}/{label}"
        if (i := place.get(name)) is None:
            pairs.append(None)
            continue
        if any(pair and pair.ours == i for pair in pairs):
            raise UserError(
                f"two elements of the target's {kind} are to be the agent's {name}: {field.name}/{label} is one"
            )
        pairs.append(_Pair(i, *_conversion(own[i][0], field, kind)))
    kept = {pair.ours for pair in pairs if pair is not None}
    return _Matching(kind, own, other, tuple(pairs), tuple(i for i in range(len(own)) if i not in kept))


def _elements(fields: Sequence[Field], whose: str) -> tuple[tuple[Field, str], ...]:
    elements = tuple((field, label) for field in fields for label in field.labels)
    names = [f"{field.name}/{label}" for field, label in elements]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{whose} has two elements called {twice!r}, so it cannot be matched by name")
    return elements


def _conversion(ours: Field, theirs: Field, kind: Kind) -> tuple[float, float]:
    """Gain and offset from the agent's field to the target's of the same name."""
    gain = factor(ours.unit, theirs.unit)
    if gain is None:
        raise UserError(
            f"the {kind} field {ours.name!r} is in [{ours.unit}] for the agent and in [{theirs.unit}] for the target, "
            "which are not known as units of one quantity"
        )
    if kind == "action" and ours.unit == theirs.unit == "1":
        bounds = (ours.low, ours.high, theirs.low, theirs.high)
        if all(map(math.isfinite, bounds)) and bounds[:2] != bounds[2:] and ours.low < ours.high:
            gain = (theirs.high - theirs.low) / (ours.high - ours.low)
            return gain, theirs.low - gain * ours.low
    return gain, 0.0


def _target_schema(agent: Agent, target: Any, observation: Any, action: Any) -> Schema:
    if not isinstance(agent.policy, Policy):
        raise Unsupported(f"surgery works on agents with a vector policy, not on a {type(agent.policy).__name__}")
    if target is not None and (observation is not None or action is not None):
        raise UserError("fit takes the target's whole schema, or its observation and action fields, not both")
    if isinstance(target, spaces.Space):
        if not (isinstance(target, spaces.Box) and len(target.shape) == 1):
            raise _needs_encoder(target)
        raise UserError("the target is a space without names, and fields are matched by name: pass its schema")
    if target is None:
        target = replace(
            agent.schema,
            observation=agent.schema.observation if observation is None else tuple(observation),
            action=agent.schema.action if action is None else tuple(action),
        )
    if not isinstance(target, Schema):
        raise UserError(f"fit needs the schema of the target, not a {type(target).__name__}")
    for kind in ("observation", "action"):
        if not any(field.labels for field in getattr(target, kind)):
            raise UserError(f"the target's schema has no {kind}")
    if not (isinstance(space := target.observation_space, spaces.Box) and len(space.shape) == 1):
        raise _needs_encoder(space)
    if not (isinstance(space := target.action_space, spaces.Box) and len(space.shape) == 1):
        raise Unsupported(f"the target takes actions in {space}, but the agent's head gives a vector of numbers")
    return target


def _needs_encoder(space: spaces.Space) -> Unsupported:
    what = f"an image of shape {space.shape}" if isinstance(space, spaces.Box) else str(space)
    return Unsupported(
        f"the target observes {what} but the agent's encoder reads a vector: that needs a new encoder, "
        "which surgery cannot make out of the old one"
    )


# ---- tensors ----------------------------------------------------------------------------------------------------------


def _filled(agent: Agent, fill: Mapping[str, Any], seen: _Matching) -> dict[int, float]:
    """What the agent is told at each missing position, in its own unit."""
    dropped: dict[str, list[int]] = {}
    for i in seen.missing:
        dropped.setdefault(seen.ours[i][0].name, []).append(i)
    values = {i: float(agent.policy.encoder.normalizer.mean[i]) for i in seen.missing}
    for name, given in fill.items():
        require_known(name, dropped, "field that the target lacks", "fill")
        field, places = seen.ours[dropped[name][0]][0], dropped[name]
        numbers = list(given) if isinstance(given, Iterable) else [given] * field.size
        bad = [n for n in numbers if isinstance(n, bool) or not isinstance(n, Real) or not math.isfinite(n)]
        if bad or len(numbers) != field.size:
            raise UserError(
                f"fill: {name!r} needs a finite number, or one for each of {field.size} elements, not {given!r}"
            )
        values |= {i: float(numbers[field.labels.index(seen.ours[i][1])]) for i in places}
    return values


def _inputs(policy: Policy, seen: _Matching, filled: Mapping[int, float]) -> dict[str, torch.Tensor]:
    """New statistics, and the first layers of both towers."""
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
    positions = [(i, pair.ours) for i, pair in enumerate(seen.pairs) if pair is not None]
    new, old = [i for i, _ in positions], [j for _, j in positions]
    state = {"encoder.normalizer.mean": mean, "encoder.normalizer.var": var, "encoder.normalizer.count": count}
    told = _normalized(policy, filled)
    for tower in ("actor", "critic"):
        layer = policy.linears(tower)[0]
        weight = torch.zeros(layer.out_features, size)
        weight[:, new] = layer.weight[:, old] * gain[new].float()
        state[f"encoder.{tower}.0.weight"] = weight
        if told.any():
            missing = layer.weight[:, list(filled)].double()
            state[f"encoder.{tower}.0.bias"] = (layer.bias.double() + missing @ told).float()
    return state


def _normalized(policy: Policy, filled: Mapping[int, float]) -> torch.Tensor:
    """What the first layer reads where the observations at some positions are these, float64; exactly 0 at the mean."""
    row = policy.encoder.normalizer.mean.clone()
    row[list(filled)] = torch.tensor(list(filled.values()), dtype=torch.float64)
    return policy.encoder.normalizer(row.float()[None])[0, list(filled)].double()


def _outputs(policy: Policy, done: _Matching, theirs: Schema) -> dict[str, torch.Tensor]:
    """The action head and its noise."""
    head, noise, size = policy.heads.actor, policy.heads.log_std, len(done.theirs)
    weight, bias = torch.zeros(size, head.in_features), torch.zeros(size)
    log_std = torch.full((size,), float(policy.network["log_std_init"]))
    for i, ((field, _), pair) in enumerate(zip(done.theirs, done.pairs, strict=True)):
        if pair is None:
            bias[i] = _start(field)
            continue
        weight[i], bias[i] = head.weight[pair.ours] * pair.gain, head.bias[pair.ours] * pair.gain + pair.offset
        log_std[i] = noise[pair.ours] + math.log(pair.gain)
    return {"heads.actor.weight": weight, "heads.actor.bias": bias, "heads.log_std": log_std}


def _start(field: Field) -> float:
    return min(max(0.0, field.low), field.high)


# ---- the record -------------------------------------------------------------------------------------------------------


def _rows(matching: _Matching) -> list[Row]:
    """One row for those elements of a target's field that share a fate, in the order of the target."""
    both = list(zip(matching.theirs, matching.pairs, strict=True))
    moved = {field.name for i, ((field, _), pair) in enumerate(both) if pair and pair.ours != i}
    own = {field.name: field for field, _ in matching.ours}
    unused = own.keys() - {matching.ours[pair.ours][0].name for pair in matching.pairs if pair}
    rows: dict[tuple[str, Fate, str, str], list[str]] = {}
    for (field, label), pair in both:
        unit, known_as = field.unit, ""
        if pair is None:
            fate: Fate = "created"
            says = "weights 0" if matching.kind == "observation" else f"starts at {_start(field):g}"
            known_as = _hint(field, unused, own, "the agent")
        else:
            ours, its = matching.ours[pair.ours]
            if (ours.name, its) != (field.name, label):
                known_as = f"; the agent's {ours.name if its == label else f'{ours.name}/{its}'}"
            if (pair.gain, pair.offset) == (1.0, 0.0):
                fate, says = "matched", "moved" if field.name in moved else "in place"
                if matching.kind == "action" and (ours.low, ours.high) != (field.low, field.high):
                    says += f"; bounds {ours.low:g} to {ours.high:g} -> {field.low:g} to {field.high:g}"
            else:
                fate, unit = "rescaled", unit if ours.unit == unit else f"{ours.unit} -> {unit}"
                says = f"target = {pair.gain:.6g} x agent" + (f" {pair.offset:+.6g}" if pair.offset else "")
        rows.setdefault((field.name, fate, unit, says + known_as), []).append(label)
    return [Row(matching.kind, name, tuple(labels), *rest) for (name, *rest), labels in rows.items()]


def _dropped_rows(matching: _Matching, filled: Mapping[int, float], means: torch.Tensor) -> list[Row]:
    """One row for every field of the agent of which the target lacks some elements."""
    theirs = {field.name: field for field, _ in matching.theirs}
    unmet = theirs.keys() - {f.name for (f, _), pair in zip(matching.theirs, matching.pairs, strict=True) if pair}
    places: dict[Field, list[int]] = {}
    for i in matching.missing:
        places.setdefault(matching.ours[i][0], []).append(i)
    rows = []
    for field, missing in places.items():
        values, says = tuple(filled[i] for i in missing if i in filled), "row removed"
        if matching.kind == "observation":
            says = "taken as " + _shown([f"{value:.4g}" for value in values])
            says += " (its mean)" if values == tuple(means[missing].tolist()) else " (given)"
        says += _hint(field, unmet, theirs, "the target")
        labels = tuple(matching.ours[i][1] for i in missing)
        rows.append(Row(matching.kind, field.name, labels, "dropped", field.unit, says, values))
    return rows


def _hint(field: Field, spare: Collection[str], others: Mapping[str, Field], who: str) -> str:
    """What on the other side may be the same quantity by another name: the same field, or a similar one, unmatched."""
    found = difflib.get_close_matches(field.name, sorted(spare), n=1)
    return f"; {who} has {found[0]}/{_shown(others[found[0]].labels)}" if found else ""


def _shown(labels: Sequence[str]) -> str:
    """The labels, shortened to three: ``"FR_hip, FR_upper, .. (12)"``."""
    return ", ".join(labels) if len(labels) <= 3 else f"{', '.join(labels[:2])}, .. ({len(labels)})"
