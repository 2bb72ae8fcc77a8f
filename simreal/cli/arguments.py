"""What several verbs are given: a config, an agent, a place to write to; and the domains that a config's names stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from simreal_envs.errors import UserError, require_known

if TYPE_CHECKING:
    from simreal.config import Experiment, Where
    from simreal_envs.variation import Domain

Config = Annotated[
    Positional[str], arg(metavar="CONFIG", help="YAML file of an experiment, or a name that `simreal list configs` has")
]
Overrides = Annotated[
    Positional[tuple[str, ...]], arg(metavar="[key=value ...]", help="settings that replace the file's")
]
Bundle = Annotated[
    Positional[Path],
    arg(metavar="BUNDLE", help="folder of a saved agent, zoo:NAME for one that comes with simreal, or hf:user/name"),
]
Task = Annotated[Positional[str], arg(metavar="TASK", help="name of a task")]
Json = Annotated[bool, arg(name="json", help="print the result as JSON on stdout", help_behavior_hint="")]


def opened(
    config: str, overrides: tuple[str, ...] = (), moves: bool = False
) -> tuple[Experiment, Where, dict[tuple[str, str], Domain]]:
    """A config that makes sense: its experiment, where keys were written, its domains.

    Args:
        moves: whether the config's agents go where it says; not for a command that makes one agent or is given one.
    """
    from simreal.arms import check
    from simreal.config_files import resolve, with_blame

    def attempt(overrides: Sequence[str]) -> tuple[Experiment, Where, dict[tuple[str, str], Domain]]:
        experiment, where = resolve(config, overrides)
        return experiment, where, check(experiment, where, moves)

    return with_blame(attempt, overrides)


def domain_of(domains: Mapping[tuple[str, str], Domain], name: str, *kinds: str) -> tuple[str, Domain]:
    """Name and domain of a source or target of a config; without a name the first one.

    Args:
        kinds: "sources", "targets" or both, in the order in which they are searched.
    """
    names = dict.fromkeys(called for wanted in kinds for kind, called in domains if kind == wanted)
    what = " or ".join(kind.removesuffix("s") for kind in kinds)
    name = require_known(name, names, what) if name else next(iter(names))
    return name, next(domains[kind, name] for kind in kinds if (kind, name) in domains)


def require_apart(out: Path, *agents: Path) -> None:
    """Refuse to write over an agent that a command was given."""
    if out.resolve() in (agent.resolve() for agent in agents):
        raise UserError(f"--out {out} is the agent itself, which stays as it is: name another folder")
