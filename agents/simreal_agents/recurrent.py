"""Encoders with a memory: past steps in the observation are summed up before anything else reads them.

Worlds may show the last steps beside the present (fields ``history/..``). A policy with a memory reads that window anew
at every step, so that acting needs no state of its own: what it remembers is what it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from simreal_agents.blank import blank
from simreal_agents.encoders import layers
from simreal_envs.errors import UserError, require_known
from simreal_envs.schema import Schema

HISTORY = "history/"
CHANNELS = 32  # of the convolutions, as in RMA
KERNEL, STRIDE = 3, 2


def memory(schema: Schema, prefix: str = HISTORY, units: int = 64, kind: str = "gru") -> dict[str, Any]:
    """The setting `memory` of a policy that sums up the fields of a schema whose names begin with `prefix`.

    Fields hold their steps behind each other, the oldest first; labels end in ``@`` and the step. Fields without such
    labels are one step.

    Args:
        units: how many numbers the memory gives.
        kind: ``"gru"``, ``"conv"`` or ``"mlp"``.

    Raises:
        UserError: there is no such field, or a field has another number of steps than the others.
    """
    fields, steps, start = [], set(), 0
    for field in (field for field in schema.observation if not field.grid):
        if field.name.startswith(prefix):
            fields.append([start, field.size])
            steps.add(len({label.rpartition("@")[2] if "@" in label else "" for label in field.labels}))
        start += field.size
    if len(steps) != 1:
        found = "none of its fields does" if not steps else "its fields have different numbers of steps"
        raise UserError(f"a memory reads the fields that begin with {prefix!r}, and in this schema {found}")
    return {"steps": steps.pop(), "fields": fields, "units": units, "kind": kind}


class Gru(nn.Module):
    """The last state of a gated recurrent unit (Cho et al. 2014, eq. 5 to 8, with the reset gate behind the product)."""

    def __init__(self, steps: int, width: int, units: int, activation: type[nn.Module]):
        super().__init__()
        self.units = units
        self.input = blank(nn.Linear, width, 3 * units)
        self.state = blank(nn.Linear, units, 3 * units)
        self.input.gain = self.state.gain = 1.0  # type: ignore[assignment]

    def forward(self, past: Tensor) -> Tensor:
        state = past.new_zeros(past.shape[0], self.units)
        for step in self.input(past).unbind(1):
            (reset, update, new), (old_reset, old_update, old) = step.chunk(3, 1), self.state(state).chunk(3, 1)
            kept = (update + old_update).sigmoid()
            state = kept * state + (1 - kept) * (new + (reset + old_reset).sigmoid() * old).tanh()
        return state


class Convolved(nn.Module):
    """An embedding of every step, then convolutions over time, as in RMA (Kumar et al. 2021, sec. IV-C).

    There the window has 50 steps and the kernels are given; here steps are convolved until at most 3 are left.
    """

    def __init__(self, steps: int, width: int, units: int, activation: type[nn.Module]):
        super().__init__()
        self.embedding = layers([width, CHANNELS], activation)
        convolutions: list[nn.Module] = []
        while steps > KERNEL:
            convolutions += [blank(nn.Conv1d, CHANNELS, CHANNELS, KERNEL, STRIDE), activation()]
            steps = (steps - KERNEL) // STRIDE + 1
        self.convolutions = nn.Sequential(*convolutions)
        self.output = blank(nn.Linear, CHANNELS * steps, units)

    def forward(self, past: Tensor) -> Tensor:
        return self.output(self.convolutions(self.embedding(past).transpose(1, 2)).flatten(1))


class Dense(nn.Module):
    """One hidden layer over all steps together."""

    def __init__(self, steps: int, width: int, units: int, activation: type[nn.Module]):
        super().__init__()
        self.hidden = layers([steps * width, max(units, CHANNELS)], activation)
        self.output = blank(nn.Linear, max(units, CHANNELS), units)

    def forward(self, past: Tensor) -> Tensor:
        return self.output(self.hidden(past.flatten(1)))


KINDS: dict[str, type[nn.Module]] = {"gru": Gru, "conv": Convolved, "mlp": Dense}


class Remembering(nn.Module):
    """The first layer of a tower whose rows hold past steps: it reads the present beside what the memory gives.

    Attributes:
        memory: past steps ``(n, steps, w)``, oldest first -> ``(n, units)``.
        linear: from what is no past, in order, and the memory to the features.
    """

    past: Tensor
    present: Tensor

    def __init__(self, size: int, width: int, activation: type[nn.Module], setting: Mapping[str, Any]):
        super().__init__()
        self.steps = setting["steps"]
        runs = [torch.arange(start, start + n).reshape(self.steps, -1) for start, n in setting["fields"]]
        past = torch.cat(runs, dim=1)
        seen = torch.ones(size, dtype=torch.bool)
        seen[past.flatten()] = False
        self.register_buffer("past", past.flatten(), persistent=False)
        self.register_buffer("present", seen.nonzero()[:, 0], persistent=False)
        self.memory = KINDS[setting["kind"]](self.steps, past.shape[1], setting["units"], activation)
        self.linear = blank(nn.Linear, len(self.present) + setting["units"], width)
        self.activation = activation()

    def recall(self, rows: Tensor) -> Tensor:
        """What the memory gives, ``(n, units)``, for normalized rows ``(n, size)``."""
        return self.memory(rows[:, self.past].unflatten(1, (self.steps, -1)))

    def forward(self, rows: Tensor) -> Tensor:
        return self.activation(self.linear(torch.cat([rows[:, self.present], self.recall(rows)], dim=1)))


def complete(setting: Mapping[str, Any], size: int) -> dict[str, Any]:
    """A setting `memory` with its defaults, for rows of `size`.

    Raises:
        UserError: unless it lists columns of the rows that divide into steps.
    """
    known = {"kind": "gru", "units": 64, **setting}
    for name in known:
        require_known(name, ("steps", "fields", "units", "kind"), "setting of memory")
    require_known(known["kind"], KINDS, "kind of memory")
    steps, fields = known.get("steps", 0), [[int(start), int(n)] for start, n in known.get("fields", ())]
    columns = [column for start, n in fields for column in range(start, start + n)]
    fits = columns and len(set(columns)) == len(columns) and min(columns) >= 0 and max(columns) < size
    if steps < 1 or known["units"] < 1 or not fits or any(n % steps for _, n in fields):
        raise UserError(
            f"memory needs units, steps and fields [[start, size], ..] within the {size} columns of the observation, each of "
            f"a size that divides into the steps, got {dict(setting)}"
        )
    return {"steps": int(steps), "fields": fields, "units": int(known["units"]), "kind": known["kind"]}
