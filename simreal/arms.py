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
            for sources in _sources_of(experiment, name):
                for seed in experiment.seeds:
                    yield Arm("+".join(sources) or NO_SOURCE, name, target, seed)


def chains(experiment: Experiment) -> Iterator[list[Arm]]:
    """The arms of every way along the sequence, one way per strategy, source and seed; the first is one of `arms`.

    A strategy that begins without a source agent has nothing to take along, and one that cannot begin with what it has
    made cannot go on: they do not go.
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


def _sources_of(experiment: Experiment, name: str) -> list[tuple[str, ...]]:
    """The sources of the arms of a strategy: one tuple per arm, empty where there is no source agent."""
    strategy, entry = strategy_of(experiment, name), experiment.strategies[name]
    if not strategy.needs_source and not strategy.needs & {"sources", "source domain"}:
        return [()]
    others = tuple(source for source in experiment.sources if source != entry.teacher)
    if entry.sources or "sources" in strategy.needs:
        return [entry.sources or others]
    # Where the only source is the teacher, its agent is both: it is moved, and it teaches.
    return [(source,) for source in others or experiment.sources]


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
    for (kind, name), domain in domains.items():
        schema, said = find_task(domain.task).schema, place("agent", "algorithm")
        require_fit(experiment.agent.algorithm, schema, f"{kind}.{name}", f"{said}: ")
    for target in () if refits else experiment.targets:
        for source in experiment.sources:
            theirs, ours = domains["targets", target], domains["sources", source]
            _require_same_schema(ours, theirs, f"source {source!r}", f"target {target!r}", place("targets", target))
            _require_same_view(ours, theirs, place("targets", target, "observe"))
    for target in experiment.sequence[1:]:
        first = experiment.sequence[0]
        ours, theirs = domains["targets", first], domains["targets", target]
        _require_same_schema(ours, theirs, f"target {first!r}", f"target {target!r}", place("sequence"))
    return domains


def _require_same_schema(ours: Domain, theirs: Domain, mine: str, other: str, place: str) -> None:
    from simreal_envs.tasks import find_task

    try:
        find_task(ours.task).schema.require_same(find_task(theirs.task).schema, mine, other)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


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
    elif "sources" in strategy.needs and len(_sources_of(experiment, name)[0]) < 2:
        raise UserError(f"{place}: {strategy.name} needs several sources, and here is only one")
    return strategy
