"""The ways to move an agent across, by the name that users type.

Other packages add theirs through the entry point group ``simreal.strategies``: the name that users type, and the class.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import EntryPoint
from typing import Any

from simreal.config_strategies import named
from simreal.strategies.alignment import Coral, Dann, Mmd
from simreal.strategies.augmentation import Augmentation
from simreal.strategies.base import Strategy
from simreal.strategies.channel_adapter import ChannelAdapter
from simreal.strategies.combination import Combination
from simreal.strategies.critic_warmup import CriticWarmup
from simreal.strategies.distill import Distill
from simreal.strategies.dropout import Dropout
from simreal.strategies.epopt import EPOpt
from simreal.strategies.ewc import EWC
from simreal.strategies.fine_tune import FineTune
from simreal.strategies.frozen_encoder import FrozenEncoder
from simreal.strategies.gradual_unfreeze import GradualUnfreeze
from simreal.strategies.instances import Darc, ImportanceWeighting, SourceMix
from simreal.strategies.kickstart import Kickstart
from simreal.strategies.l2sp import L2SP
from simreal.strategies.layerwise_lr import LayerwiseLR
from simreal.strategies.linear_probe import LinearProbe
from simreal.strategies.low_rank import LowRank
from simreal.strategies.maps import AdaptiveNormalization, LinearAlignment, Tca
from simreal.strategies.model_stacking import ModelStacking
from simreal.strategies.multi_source import MultiSource
from simreal.strategies.multi_task import MultiTask
from simreal.strategies.pcgrad import PCGrad
from simreal.strategies.privileged import Privileged
from simreal.strategies.progressive import Progressive
from simreal.strategies.random_encoder import RandomEncoder
from simreal.strategies.rarl import RARL
from simreal.strategies.reptile import Reptile
from simreal.strategies.reset_distill import ResetDistill
from simreal.strategies.rl2 import RL2
from simreal.strategies.scratch import Scratch
from simreal.strategies.self_supervised import SelfSupervised, SelfSupervisedTarget
from simreal.strategies.source_replay import SourceReplay
from simreal.strategies.surgery import NetworkSurgery
from simreal.strategies.teacher_student import TeacherStudent
from simreal.strategies.top_layers import TopLayers
from simreal.strategies.weight_average import WeightAverage
from simreal.strategies.zero_shot import ZeroShot
from simreal_envs import tasks
from simreal_envs.engines import registry as engines
from simreal_envs.entry_points import brought, versions_of
from simreal_envs.errors import UserError, at, nearest, require_known

ENTRY_POINTS = "simreal.strategies"
OWN: tuple[type[Strategy], ...] = (
    Scratch, ZeroShot, FineTune, FrozenEncoder, LinearProbe, RandomEncoder, TopLayers, GradualUnfreeze, LayerwiseLR,
    CriticWarmup, L2SP, LowRank, NetworkSurgery, ChannelAdapter, WeightAverage, MultiSource, ModelStacking, Progressive,
    EWC, Distill, Kickstart, Privileged, TeacherStudent, SourceReplay, ResetDistill, PCGrad, RL2, SelfSupervised,
    SelfSupervisedTarget, EPOpt, Augmentation, Dropout, Dann, Coral, Mmd, LinearAlignment, Tca, AdaptiveNormalization,
    Darc, ImportanceWeighting, SourceMix, RARL, Reptile, MultiTask,
)  # fmt: skip


class _Strategies(Mapping[str, type[Strategy]]):
    """Ours, then those of other packages, which are imported when they are first asked for."""

    @functools.cached_property
    def _others(self) -> dict[str, EntryPoint]:
        return brought(ENTRY_POINTS, _BY_NAME)

    def __getitem__(self, name: str) -> type[Strategy]:
        return _BY_NAME[name] if name in _BY_NAME else _loaded(self._others[name])

    def __iter__(self) -> Iterator[str]:
        return iter([*_BY_NAME, *self._others])

    def __len__(self) -> int:
        return len(_BY_NAME) + len(self._others)

    def packages(self, names: Iterable[str]) -> dict[str, str]:
        """The versions of the packages that these strategies come from, by package; ours are not among them."""
        return versions_of(self._others, names)


def _loaded(entry: EntryPoint) -> type[Strategy]:
    try:
        cls = entry.load()
    except Exception as error:
        raise UserError(f"the strategy {entry.name} of {entry.value} cannot be loaded: {error}") from error
    named = isinstance(cls, type) and issubclass(cls, Strategy) and getattr(cls, "name", None) == entry.name
    if (
        not named
        or inspect.isabstract(cls)
        or not all(isinstance(getattr(cls, n, None), str) for n in ("says", "family"))
    ):
        raise UserError(f"the entry point {entry.name} = {entry.value} is not a Strategy of that name")
    return cls


_BY_NAME = {strategy.name: strategy for strategy in OWN}
STRATEGIES = _Strategies()


def packages_behind(strategies: Iterable[str], domains: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The versions of the packages that some strategies, and the tasks and engines of some domains, come from, by package.

    Ours are not among them.

    Args:
        domains: as `Domain.to_dict` gives them.
    """
    pairs = [(domain["task"], domain["engine"]) for domain in domains]
    return (
        STRATEGIES.packages(strategies)
        | tasks.packages(task for task, _ in pairs)
        | engines.packages(engine for _, engine in pairs)
    )


def make_strategy(
    name: str | Sequence[str | Mapping[str, Any]], settings: Mapping[str, Any] | None = None, where: str = ""
) -> Strategy:
    """Build a strategy from what a config says.

    Args:
        name: of a strategy; or a list of names, ``{name: settings}`` and ``{"type": name, ..}``, which are combined.
        settings: of the one that is named.
        where: file and key that the settings came from, to begin an error sentence with.

    Raises:
        UserError: unknown strategy or setting, a setting out of range, or a contradiction.
    """
    if isinstance(name, str):
        return _single(name, settings or {}, where)
    if settings:
        raise UserError(
            f"{at(where)}settings of a combination stand beside each name, as in [{{l2sp: {{alpha: 0.1}}}}]"
        )
    parts = [_single(*_part(part, where), where) for part in name]
    try:
        return parts[0] if len(parts) == 1 else Combination(tuple(parts))
    except UserError as error:
        raise UserError(f"{at(where)}{error}") from None


def _part(part: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """A part of a combination as name and settings."""
    if found := named(part):
        return found
    raise UserError(f"{at(where)}a part of a combination is a name or {{name: settings}}, not {part!r}")


def _single(name: str, settings: Mapping[str, Any], where: str) -> Strategy:
    cls = STRATEGIES[require_known(name, STRATEGIES, "strategy", where)]
    known = [f.name for f in fields(cls)]
    for setting in settings:
        if setting not in known:
            raise UserError(f"{at(where)}unknown setting {setting!r} of the strategy {name}; {nearest(setting, known)}")
    try:
        return cls(**settings)
    except UserError as error:
        raise UserError(f"{at(where)}{error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{at(where)}{name}: a setting is of the wrong kind: {error}") from None


def described(strategy: Strategy) -> Any:
    """What `make_strategy` builds this strategy from, as plain data: a mapping, or a list of them."""
    if isinstance(strategy, Combination):
        return [described(part) for part in strategy.parts]
    return {"type": strategy.name, **{f.name: getattr(strategy, f.name) for f in fields(strategy)}}
