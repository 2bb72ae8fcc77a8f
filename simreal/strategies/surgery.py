"""`surgery`: an agent for worlds that look otherwise, or with a network of which only some layers are the source's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simreal.strategies.base import Agent, Strategy, Target, Transferable, require_between
from simreal.strategies.settings import choice, names, require_names, widths
from simreal_envs.errors import UserError
from simreal_envs.variation import Observe

if TYPE_CHECKING:
    from simreal_envs.worlds import Worlds


@dataclass(frozen=True)
class NetworkSurgery(Strategy):
    """Fit the agent to the target's observation and action fields by name (`simreal_agents.surgery.fit`), then copy some
    of its layers into a network that may have others, and train all of it. Layers are ``encoder``, ``trunk.1``,
    ``trunk.2``, .. and ``heads``. The record of both is in the new agent's card as ``surgery``.

    Attributes:
        hidden: widths of the new network; None for the agent's own.
        keep: what is copied: layers, modules, towers or groups; or a mapping from layers of the new network to layers of
            the agent, ``{"trunk.2": "trunk.1"}``. None for all whose shapes agree.
        new: what of that is drawn anew all the same.
        rename, fill, encoder: see `simreal_agents.surgery.fit`.
    """

    hidden: Sequence[int] | None = widths(None)
    keep: Sequence[str] | Mapping[str, str] | None = None
    new: Sequence[str] = names((), least=0)
    rename: Mapping[str, str] | None = None
    fill: Mapping[str, float | Sequence[float]] | None = None
    encoder: str = choice("keep", ("keep", "new"), "encoder setting")

    name = "surgery"
    says = "fits the agent to other fields by name; keeps or replaces layers"
    family = "network surgery"
    unfit = ("crossq",)
    decides = frozenset({"what is copied", "the network"})
    refits = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.keep, Mapping):
            _require_mapping(self.keep, "keep", "from layers of the new network to the agent's")
        elif self.keep is not None:
            object.__setattr__(self, "keep", require_names(self.keep, "surgery: keep", least=0))
        if self.rename is not None:
            _require_mapping(self.rename, "rename", "from the target's names to the agent's")
        if self.fill is not None:
            _require_mapping(self.fill, "fill", "from fields to numbers", to_names=False)
            for field, value in self.fill.items():
                for number in value if isinstance(value, list | tuple) else [value]:
                    require_between(number, -FARTHEST, FARTHEST, f"surgery: fill.{field}")

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        domain = target.domain
        if domain.observe == Observe():  # else it is what the agent is to be fitted to
            domain = domain.seen_by(agent.card.get("domain"))
        worlds = target.worlds(domain)
        with contextlib.ExitStack() as stack:
            stack.callback(worlds.close)  # unless a learner takes them over
            learner = self._learner(agent, target, worlds)
            stack.pop_all()
        return learner

    def _learner(self, agent: Agent, target: Target, worlds: Worlds) -> Transferable:
        from simreal_agents.additions.depth import group_of
        from simreal_agents.bundle import Agent
        from simreal_agents.surgery import fit

        fitted, record = fit(agent, worlds.schema, rename=self.rename, fill=self.fill, encoder=self.encoder)
        network = {**fitted.policy.network, **({"hidden": list(self.hidden)} if self.hidden else {})}
        planned = Agent.new(fitted.schema, network, algorithm=fitted.algorithm).policy
        pairs = self._pairs(fitted.policy, planned)
        drawn = [name for name, _ in planned.named_parameters() if name not in pairs]
        changed = {group_of(name) for name in drawn} | {group_of(a) for a, b in pairs.items() if a != b}
        groups = {group_of(name) for name in pairs}
        whole = sorted(groups - changed)
        learner = target.learner(
            fitted, whole, worlds=worlds, network={"hidden": network["hidden"]} if self.hidden else None
        )
        ours, theirs = learner.policy.state_dict(), fitted.policy.state_dict()
        for name, old in pairs.items():
            for prefix in ("", "target."):
                if f"{prefix}{name}" in ours:
                    ours[f"{prefix}{name}"].copy_(theirs[f"{prefix}{old}"])
        learner.notes["surgery"] = {**record.to_dict(), "kept": sorted(pairs), "drawn": sorted(drawn)}
        return learner

    def _pairs(self, old: Any, new: Any) -> dict[str, str]:
        """The parameters of the new network that are copied, each with its name in the agent."""
        from simreal_agents.additions.depth import addressed, counterpart

        shapes = {name: list(tensor.shape) for name, tensor in old.named_parameters()}
        planned = {name: list(tensor.shape) for name, tensor in new.named_parameters()}
        if self.keep is None:
            pairs = {name: name for name, shape in planned.items() if shapes.get(name) == shape}
        else:
            homes = self.keep if isinstance(self.keep, Mapping) else {part: part for part in self.keep}
            pairs = {
                name: name if part == home else counterpart(name, old, home)
                for part, home in homes.items()
                for name in addressed(new, [part], "surgery: keep")
            }
            for name, home in pairs.items():
                if shapes.get(home) != planned[name]:
                    found = f"has the shape {shapes[home]}" if home in shapes else "does not exist"
                    raise UserError(
                        f"surgery: {name} of the new network has the shape {planned[name]}, but {home} of the agent {found}"
                    )
        drawn = addressed(new, self.new, "surgery: new")
        if self.encoder == "new":
            drawn += addressed(new, ["encoder"])
        return {name: home for name, home in pairs.items() if name not in drawn}


FARTHEST = 1e30  # of what a sensor reads, so that float32 holds it


def _names(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _require_mapping(value: Any, name: str, says: str, to_names: bool = True) -> None:
    """Raise a UserError unless a setting is a mapping from names, and, with `to_names`, to names."""
    if not isinstance(value, Mapping) or not _names(value) or (to_names and not _names(value.values())):
        raise UserError(f"surgery: {name} must be a mapping {says}, not {value!r}")
