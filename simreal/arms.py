"""The arms of an experiment: which agents are moved where, in which ways, and whether all of that can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from simreal.config import Experiment, StrategyConfig, Where
from simreal.config import domains as domains_of
from simreal_envs.errors import UserError, require_known
from simreal_envs.variation import Domain, Observe

if TYPE_CHECKING:
    from simreal.strategies import Strategy

NO_SOURCE = "none"
SEQUENCE = "sequence"


@dataclass(frozen=True)
class Arm:
    """One (source, strategy, target, seed). Without a source agent the source is ``"none"``, with several ``"a+b"``.

    Attributes:
        step: its place in the sequence, from 2 on; 0 for an arm that begins with the source agent.
    """

    source: str
    strategy: str
    target: str
    seed: int
    step: int = 0

    @property
    def path(self) -> Path:
        """Where it lies in the experiment's folder."""
        target = Path(SEQUENCE) / f"{self.step}-{self.target}" if self.step else Path(self.target)
        return Path("arms") / self.source / self.strategy / target / f"seed-{self.seed}"

    @property
    def sources(self) -> list[str]:
        """The names of its sources."""
        return [] if self.source == NO_SOURCE else self.source.split("+")

    @property
    def returns(self) -> Path:
        """Where the returns of its way along the sequence lie."""
        return Path("arms") / self.source / self.strategy / SEQUENCE / "returns" / f"seed-{self.seed}"


def arms(experiment: Experiment) -> Iterator[Arm]:
    """Every arm of an experiment; one control arm per target and seed, whatever the number of sources."""
    for target in experiment.targets:
        for name in experiment.strategies:
            for sources in _sources_of(experiment, name, target):
                for seed in experiment.seeds:
                    yield Arm("+".join(sources) or NO_SOURCE, name, target, seed)


def chains(experiment: Experiment) -> Iterator[list[Arm]]:
    """The arms of every way along the sequence, one way per strategy, source and seed; the first is one of `arms`.

    A strategy that begins without a source agent has nothing to take along, and one that cannot begin with what it has
    made cannot go on: they do not go. Which sources go is what the first target says.
    """
    if not experiment.sequence:
        return
    first, *others = experiment.sequence
    for arm in arms(experiment):
        strategy = strategy_of(experiment, arm.strategy)
        if arm.target == first and strategy.needs_source and strategy.sequential:
            yield [arm, *(replace(arm, target=target, step=step) for step, target in enumerate(others, start=2))]


def strategy_of(experiment: Experiment, name: str, where: str = "") -> Strategy:
    """The way to transfer that an experiment calls `name`."""
    from simreal.strategies import make_strategy

    entry = experiment.strategies[name]
    return make_strategy(entry.type, entry.settings, where)


def moved_to(experiment: Experiment, target: str) -> tuple[str, ...]:
    """The sources whose agents are moved to a target."""
    return experiment.targets[target].sources or tuple(experiment.sources)


def needed(experiment: Experiment) -> list[str]:
    """The sources whose agents are moved to some target or teach, in the order of the config."""
    used = {source for target in experiment.targets for source in moved_to(experiment, target)} | _teachers(experiment)
    return [source for source in experiment.sources if source in used]


def _teachers(experiment: Experiment) -> set[str]:
    return {entry.teacher for entry in experiment.strategies.values() if entry.teacher}


def _sources_of(experiment: Experiment, name: str, target: str) -> list[tuple[str, ...]]:
    """The sources of the arms of a strategy on a target: one tuple per arm, empty where there is no source agent."""
    strategy, entry = strategy_of(experiment, name), experiment.strategies[name]
    if not strategy.needs_source and not strategy.needs & {"sources", "source domain"}:
        return [()]
    moved = moved_to(experiment, target)
    others = tuple(source for source in moved if source != entry.teacher)
    if entry.sources or "sources" in strategy.needs:
        return [entry.sources or others]
    # Where the only source is the teacher, its agent is both: it is moved, and it teaches.
    return [(source,) for source in others or moved]


def check(experiment: Experiment, where: Where | None = None) -> dict[tuple[str, str], Domain]:
    """Build everything that a config names, so that every mistake shows before anything is computed or written.

    Raises:
        UserError: an unknown task, engine, parameter or strategy, a value out of bounds, an algorithm that cannot act there
            or that a strategy cannot do with, or domains between which agents go and that show or take different things.
    """
    from simreal.learner import require_fit
    from simreal_envs.tasks import find_task

    domains = domains_of(experiment, where)

    def place(*key: str) -> str:
        return where(*key) if where else ".".join(key)

    for name, source in experiment.sources.items():
        if source.strategy:
            _check_pretraining(source.strategy, experiment, place("sources", name, "strategy"))
    refits = True
    for name in experiment.strategies:
        strategy = _check_strategy(experiment, name, place)
        refits &= strategy.refits or not strategy.needs_source
    for target in experiment.targets:
        _check_sources(experiment, target, place)
    for (kind, name), domain in domains.items():
        schema, said = find_task(domain.task).schema, place("agent", "algorithm")
        require_fit(experiment.agent.algorithm, schema, f"{kind}.{name}", f"{said}: ")
    _check_presets(domains, place)
    for target in () if refits else experiment.targets:
        for source in dict.fromkeys([*moved_to(experiment, target), *sorted(_teachers(experiment))]):
            theirs, ours = domains["targets", target], domains["sources", source]
            _require_same_schema(ours, theirs, f"source {source!r}", f"target {target!r}", place("targets", target))
            _require_same_view(ours, theirs, place("targets", target, "observe"))
    for target in experiment.sequence[1:]:
        first = experiment.sequence[0]
        ours, theirs = domains["targets", first], domains["targets", target]
        _require_same_schema(ours, theirs, f"target {first!r}", f"target {target!r}", place("sequence"))
    return domains


def _check_presets(domains: dict[tuple[str, str], Domain], where: Where) -> None:
    """Raise a UserError for two presets of a task's own, such as an Atari game's, which change what rewards and episodes are."""
    from simreal_envs.engines.base import PRESETS
    from simreal_envs.tasks import find_task

    known = {place: (domain, find_task(domain.task).presets) for place, domain in domains.items()}
    own = [(place, domain) for place, (domain, presets) in known.items() if len(presets) > 1 and presets != PRESETS]
    for (kind, name), domain in own[1:]:
        (other_kind, other), first = own[0]
        if domain.preset != first.preset:
            raise UserError(
                f"{where(kind, name)}: {domain.task} under {domain.preset!r} cannot be compared with {other_kind[:-1]} {other!r} "
                f"under {first.preset!r}, since rewards and episodes are others; give all of them one preset"
            )


def _require_same_schema(ours: Domain, theirs: Domain, mine: str, other: str, place: str) -> None:
    from simreal_envs.view import own_schema

    schemas = [own_schema(domain) for domain in (ours, theirs)]
    try:
        schemas[0].require_same(schemas[1], mine, other)
    except UserError as error:
        games = all(any(field.grid for field in schema.observation) for schema in schemas)
        hint = "; a `bridge`, or the strategies surgery and channel_adapter, make games fit each other" if games else ""
        raise UserError(f"{place}: {error}{hint}") from None


def _require_same_view(source: Domain, target: Domain, place: str) -> None:
    """Refuse a target with an `observe` of its own, where the control arm would learn from what no other arm sees."""
    seen, own = (replace(domain.observe, ranges=()) for domain in (source, target))
    if own not in (seen, Observe()):
        raise UserError(
            f"{place}: agents see a target as they saw their source: only scratch would see this `observe`; "
            "write it in the source"
        )


def _check_pretraining(entry: StrategyConfig, experiment: Experiment, place: str) -> None:
    from simreal.strategies import make_strategy

    strategy = make_strategy(entry.type, entry.settings, place)
    if strategy.stage != "pretrain":
        raise UserError(
            f"{place}: {strategy.name} moves an agent to a target; it belongs to the experiment's `strategies`"
        )
    if entry.sources or entry.teacher:
        raise UserError(f"{place}: pretraining begins without an agent; sources and teacher go with a way to transfer")
    if "domains" in strategy.needs and len(experiment.sources) < 2:
        raise UserError(f"{place}: {strategy.name} learns in the domains of several sources, and here is only one")
    strategy.require(experiment.agent.algorithm, place)


def _check_strategy(experiment: Experiment, name: str, where: Where) -> Strategy:
    """A way to transfer. Raises a UserError unless the experiment has what it needs."""
    place, entry = where("strategies", name), experiment.strategies[name]
    strategy = strategy_of(experiment, name, place)
    if strategy.stage != "transfer":
        raise UserError(f"{place}: {strategy.name} makes a source agent; write it as sources.NAME.strategy")
    strategy.require(experiment.agent.algorithm, place)
    if entry.teacher:
        said = where("strategies", name, "teacher")
        if "teacher" not in strategy.needs | strategy.takes:
            raise UserError(f"{said}: {strategy.name} learns from no teacher")
        require_known(entry.teacher, experiment.sources, "source", said)
    elif "teacher" in strategy.needs:
        raise UserError(f"{place}: {strategy.name} needs a teacher: one of {', '.join(experiment.sources)}")
    if entry.sources:
        said = where("strategies", name, "sources")
        if "sources" not in strategy.needs | strategy.takes:
            raise UserError(f"{said}: {strategy.name} moves one agent at a time, from every source in turn")
        for source in entry.sources:
            require_known(source, experiment.sources, "source", said)
        if entry.teacher in entry.sources:
            raise UserError(f"{said}: {entry.teacher!r} is the teacher, which cannot be moved as well")
        if len(set(entry.sources)) < len(entry.sources):
            raise UserError(f"{said}: a source is named twice")
    elif "sources" in strategy.needs and len(set(experiment.sources) - {entry.teacher}) < 2:
        raise UserError(f"{place}: {strategy.name} needs several sources, and here is only one")
    return strategy


def _check_sources(experiment: Experiment, target: str, where: Where) -> None:
    """Raise a UserError unless the sources that are moved to a target are there and suffice for every strategy."""
    given, place = experiment.targets[target].sources or (), where("targets", target, "sources")
    for source in given:
        require_known(source, experiment.sources, "source", place)
    if len(set(given)) < len(given):
        raise UserError(f"{place}: a source is named twice")
    for name, entry in experiment.strategies.items() if given else ():
        if missing := next((source for source in entry.sources or () if source not in given), None):
            raise UserError(
                f"{place}: {missing!r} is not among them, which the strategy {name!r} moves; add it here or take "
                "it from the strategy's `sources`"
            )
        if "sources" in strategy_of(experiment, name).needs and len(_sources_of(experiment, name, target)[0]) < 2:
            raise UserError(f"{place}: the strategy {name!r} needs several sources, and here is only one")
