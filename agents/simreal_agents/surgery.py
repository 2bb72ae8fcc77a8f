"""Fit an agent to a target whose observation or action fields are permuted, missing, new or in another unit.

Elements are matched by the name of their field and their own label; what they measure is compared by unit. Nothing is
guessed: an element without a counterpart is created or dropped, and the record that comes with the new agent says so.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, Literal

import torch
from gymnasium import spaces

from simreal_agents.bundle import OWN_KEYS, Agent
from simreal_agents.bundle_files import plain
from simreal_agents.matching import NEW_ENCODER, Kind, Matching, aliases, match, match_pictures
from simreal_agents.networks import require_plain
from simreal_agents.transplant import start_of, transplant
from simreal_envs.errors import Unsupported, UserError, require_a, require_known
from simreal_envs.schema import Field, Schema

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
        if any(row.says == "new encoder" for row in self.rows):
            return "the encoder is new: trunk and heads were carried over, and have to learn to read it"
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
    encoder: Literal["keep", "new"] = "keep",
) -> tuple[Agent, Surgery]:
    """An agent that speaks the target's schema and does what `agent` does, as far as the target has what it takes.

    - An observation element that both have keeps its weights and statistics, wherever it stands. In another unit of the
      same quantity its statistics are converted (its weights where the agent does not normalize).
    - One that only the target has gets weights of zero in both towers and fresh statistics: mean 0, variance 1, count 0.
    - One that only the agent has is dropped. The agent acts as if it always read its own mean there, or `fill`.
    - An action element that both have keeps its row of the head and its noise, converted to the target's unit. A
      dimensionless action is a share of its range: it is mapped from the agent's bounds to the target's.
    - One that only the target has starts at 0 (or the bound next to it) with the noise of a fresh agent; the middle of its
      range where actions are squashed. A new choice starts with the mean of the others' logits or values.
    - Channels of a picture are matched like elements: new ones get weights of zero, missing ones are taken as black.

    Everything else (trunk, value head, reward scale) is copied. Sums in the first layer and in the head are taken in
    another order, or over further zeros, so that equal actions are equal up to float32 rounding; the terms are equal.

    Args:
        target: the schema to fit, as of ``worlds.schema``.
        observation, action: or only the fields that are to be replaced.
        rename: what the target calls otherwise, as ``{target's name: agent's name}`` of fields (``"torque"``) or of
            elements (``"torque/hinge"``).
        fill: what the agent is told where a reading is missing, by field, in the agent's unit: a number, or one for each
            of the field's elements. The default is the agent's own mean (0 where it does not normalize).
        encoder: ``"new"`` starts with a fresh encoder where the old one cannot be fitted (a vector to a picture, other
            pixels) and carries over trunk and heads only.

    Returns:
        The new agent, and the record of what was done. `agent` is not changed.

    Raises:
        UserError: when units disagree, no observation or no choice is shared, names are not unique or not known, or
            control periods differ.
        Unsupported: when the target needs a new encoder, chooses where the agent does not, or has another reach of
            squashed actions; for agents with columns, a memory or several heads.
    """
    require_a(Agent, agent, "the agent", "sr.pretrain(..) or sr.load(bundle)")
    require_known(encoder, ("keep", "new"), "encoder setting", "fit")
    for name, given, like in (("rename", rename, "{'torque': 'force'}"), ("fill", fill, "{'speed': 0.0}")):
        if given is not None and not (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
            raise UserError(f"fit: {name} must be a mapping from names, as {like}, not {given!r}")
    require_plain(agent.policy.network, "surgery")
    theirs, fresh = _target_schema(agent, target, observation, action), encoder == "new"
    seen, shown, done = _matched(agent, theirs, rename or {}, fresh)
    filled = _filled(agent, fill or {}, seen)
    policy = Agent.new(theirs, agent.policy.network, algorithm=agent.algorithm).policy
    transplant(agent.policy, policy, theirs, seen, shown, done, filled, new_encoder=fresh)
    surgery = _record(agent, seen, shown, done, filled, fresh)
    # The returns were measured on the old agent; the last of them is in its line of the ancestors.
    card = {key: value for key, value in agent.card.items() if key not in (*OWN_KEYS, "returns")}
    return Agent(policy, theirs, {**plain(card), "ancestors": agent.lineage, "surgery": surgery.to_dict()}), surgery


def _matched(
    agent: Agent, theirs: Schema, rename: Mapping[str, str], fresh: bool
) -> tuple[Matching, Matching, Matching]:
    """What of vectors, of pictures and of actions is the same; with a `fresh` encoder nothing of what is seen."""
    ours = agent.schema
    alias = aliases(rename, ours, theirs)
    (vectors, pictures), (their_vectors, their_pictures) = map(_parted, (ours.observation, theirs.observation))
    if fresh:
        vectors, pictures = (), ()  # what the agent sees is not carried over
    elif bool(pictures) != bool(their_pictures):
        raise _needs_encoder(theirs.observation_space, bool(pictures))
    seen, shown = match(vectors, their_vectors, "observation", alias), match_pictures(pictures, their_pictures, alias)
    done = match(ours.action, theirs.action, "action", alias)
    if not fresh and not seen.shared and not shown.shared:
        raise UserError(
            f"the agent and the target share no observation: {', '.join(f.name for f in ours.observation)} against "
            f"{', '.join(f.name for f in theirs.observation)}"
        )
    if theirs.choices and not done.shared:
        raise UserError(
            f"the agent and the target share no choice, so that nothing of what it does can be moved: "
            f"{_shown(ours.action[0].labels)} against {_shown(theirs.action[0].labels)}"
        )
    if agent.policy.squash_output:
        _require_same_reach(done)
    return seen, shown, done


def _record(
    agent: Agent, seen: Matching, shown: Matching, done: Matching, filled: Mapping[int, float], fresh: bool
) -> Surgery:
    """What became of every element of what the agent sees, is shown in pictures, and does."""
    means = agent.policy.encoder.normalizer.mean
    rows = [*_rows(seen), *_dropped_rows(seen, filled, means), *_rows(shown), *_dropped_rows(shown, {}, means)]
    if fresh:
        rows = [replace(row, says="new encoder") for row in rows] + [
            Row("observation", f.name, f.labels, "dropped", f.unit, "old encoder") for f in agent.schema.observation
        ]
    return Surgery((*rows, *_rows(done, agent.policy.squash_output), *_dropped_rows(done, {}, means)))


def _target_schema(agent: Agent, target: Any, observation: Any, action: Any) -> Schema:
    if target is not None and (observation is not None or action is not None):
        raise UserError("fit takes the target's whole schema, or its observation and action fields, not both")
    if isinstance(target, spaces.Space):
        if not (isinstance(target, spaces.Box) and len(target.shape) == 1):
            raise _needs_encoder(target, bool(agent.policy.layout.images))
        raise UserError("the target is a space without names, and fields are matched by name: pass its schema")
    if target is None:
        target = replace(
            agent.schema,
            observation=agent.schema.observation if observation is None else observation,
            action=agent.schema.action if action is None else action,
        )
    if not isinstance(target, Schema):
        raise UserError(f"fit needs the schema of the target, not a {type(target).__name__}")
    for kind in ("observation", "action"):
        if not any(field.labels for field in getattr(target, kind)):
            raise UserError(f"the target's schema has no {kind}")
    if bool(target.choices) != bool(agent.schema.choices):
        kinds = [
            f"a choice between {s.choices}" if s.choices else "a vector of numbers" for s in (target, agent.schema)
        ]
        raise Unsupported(f"the target takes {kinds[0]} as action, but the agent's head gives {kinds[1]}")
    if not math.isclose(agent.schema.control_period, target.control_period, rel_tol=1e-6):
        raise UserError(
            f"control periods differ: the agent acts every {agent.schema.control_period:.4g} s, the target every "
            f"{target.control_period:.4g} s; surgery fits fields, not rates"
        )
    return target


def _needs_encoder(space: spaces.Space, pictures: bool) -> Unsupported:
    what = f"an image of shape {space.shape}" if isinstance(space, spaces.Box) and len(space.shape) > 1 else str(space)
    return Unsupported(
        f"the target observes {what} but the agent's encoder reads {'pictures' if pictures else 'a vector'}: that needs a "
        f"new encoder ({NEW_ENCODER})"
    )


def _parted(fields: Sequence[Field]) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Vectors and pictures."""
    return tuple(f for f in fields if not f.grid), tuple(f for f in fields if f.grid)


def _require_same_reach(done: Matching) -> None:
    """A squashed action is a share of its range, so it keeps its value only where the range is the same."""
    for (field, label), pair in zip(done.theirs, done.pairs, strict=True):
        if pair is None:
            continue
        own = done.ours[pair.ours][0]
        reach = [pair.gain * bound + pair.offset for bound in (own.low, own.high)]
        if not all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(reach, (field.low, field.high), strict=True)):
            raise Unsupported(
                f"the action {field.name}/{label} reaches from {reach[0]:g} to {reach[1]:g} [{field.unit}] for the agent and "
                f"from {field.low:g} to {field.high:g} for the target: a squashed policy cannot keep its actions in "
                "another range; give the target the agent's bounds, or the unit 1, a share of the range"
            )


def _filled(agent: Agent, fill: Mapping[str, Any], seen: Matching) -> dict[int, float]:
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


# ---- the record -------------------------------------------------------------------------------------------------------


def _rows(matching: Matching, squashed: bool = False) -> list[Row]:
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
            says = _created(matching, field, squashed)
            known_as = _hint(field, unused, own, "the agent")
        else:
            ours, its = matching.ours[pair.ours]
            if (ours.name, its) != (field.name, label):
                known_as = f"; the agent's {ours.name if its == label else f'{ours.name}/{its}'}"
            if (pair.gain, pair.offset) == (1.0, 0.0):
                fate, says = "matched", "moved" if field.name in moved else "in place"
                if (
                    matching.kind == "action"
                    and (ours.low, ours.high) != (field.low, field.high)
                    and not field.discrete
                ):
                    says += f"; bounds {ours.low:g} to {ours.high:g} -> {field.low:g} to {field.high:g}"
            else:
                fate, unit = "rescaled", unit if ours.unit == unit else f"{ours.unit} -> {unit}"
                says = f"target = {pair.gain:.6g} x agent" + (f" {pair.offset:+.6g}" if pair.offset else "")
        rows.setdefault((field.name, fate, unit, says + known_as), []).append(label)
    return [Row(matching.kind, name, tuple(labels), *kept) for (name, *kept), labels in rows.items()]  # type: ignore[arg-type]


def _created(matching: Matching, field: Field, squashed: bool) -> str:
    if matching.kind == "observation":
        known = any(matching.theirs[i][0] == field for i in matching.places[0])
        return "new convolutions, weights 0 behind them" if field.grid and not known else "weights 0"
    if field.discrete:
        return "starts as the mean of the others" if matching.shared else "starts at 0"
    return f"starts at {start_of(field, squashed):g}"


def _dropped_rows(matching: Matching, filled: Mapping[int, float], means: torch.Tensor) -> list[Row]:
    """One row for every field of the agent of which the target lacks some elements."""
    theirs = {field.name: field for field, _ in matching.theirs}
    unmet = theirs.keys() - {f.name for (f, _), pair in zip(matching.theirs, matching.pairs, strict=True) if pair}
    places: dict[Field, list[int]] = {}
    for i in matching.missing:
        places.setdefault(matching.ours[i][0], []).append(i)
    rows = []
    for field, missing in places.items():
        values, says = tuple(filled[i] for i in missing if i in filled), "row removed"
        if field.grid:
            says = "taken as black"
        elif matching.kind == "observation":
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
