"""The arms of an experiment: which agents are moved where, in which ways, and whether all of that can be."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from simreal.config import Experiment, Where, by_key
from simreal.config import domains as domains_of
from simreal.config_strategies import StrategyConfig
from simreal_envs.bridges import Bridge
from simreal_envs.errors import UserError, require_known
from simreal_envs.variation import Domain, Observe

if TYPE_CHECKING:
    from simreal.strategies import Strategy
    from simreal_agents.bundle import Agent
    from simreal_envs.schema import Schema

NO_SOURCE = "none"
SEQUENCE = "sequence"
PIXELS = {"nature": 36, "small": 1, "grid": 3}  # that convolutions need along each axis of a picture


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


def staying(experiment: Experiment) -> list[str]:
    """The ways to transfer that do not go along the sequence, although they move an agent; empty where there is none."""
    ways = {name: strategy_of(experiment, name) for name in experiment.strategies} if experiment.sequence else {}
    return [name for name, way in ways.items() if way.needs_source and not way.sequential]


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


def check(experiment: Experiment, where: Where = by_key, moves: bool = True) -> dict[tuple[str, str], Domain]:
    """Build everything that a config names, so that every mistake shows before anything is computed or written.

    Args:
        moves: whether the config's agents are to go where it says; else two domains need only be comparable, as for a
            command that makes one agent or is given one.

    Raises:
        UserError: an unknown task, engine, parameter or strategy, a value out of bounds, an algorithm that cannot act there
            or that a strategy cannot do with, or domains between which agents go and that show or take different things.
    """
    from simreal.learner import require_fit
    from simreal_envs.tasks import find_task

    domains = domains_of(experiment, where)

    for name, source in experiment.sources.items():
        if source.strategy:
            _check_pretraining(source.strategy, name, experiment, domains, where("sources", name, "strategy"))
    ways = {name: _check_strategy(experiment, name, where) for name in experiment.strategies}
    for target in experiment.targets:
        _check_sources(experiment, target, where)
    for (kind, name), domain in domains.items():
        schema, said = find_task(domain.task).schema, where("agent", "algorithm")
        require_fit(experiment.agent.algorithm, schema, f"{kind}.{name}", f"{said}: ")
        _require_pixels(experiment.agent.cnn, schema, f"{kind}.{name}", where("agent", "cnn"))
    _check_presets(domains, where)
    if moves:
        _check_moves(experiment, ways, domains, where)
    return domains


def _check_moves(
    experiment: Experiment, ways: Mapping[str, Strategy], domains: dict[tuple[str, str], Domain], place: Where
) -> None:
    """Raise a UserError where an agent cannot go from a source to a target, or along the sequence, as a config says."""
    moving = [way for way in ways.values() if way.needs_source]
    others = ", ".join(name for name, way in ways.items() if way.needs_source and not way.refits)
    for target in experiment.targets if moving else ():
        for source in dict.fromkeys([*moved_to(experiment, target), *sorted(_teachers(experiment))]):
            theirs, ours = domains["targets", target], domains["sources", source]
            names = f"source {source!r}", f"target {target!r}"
            if all(way.refits for way in moving):
                _require_meeting(ours, theirs, *names, place("targets", target), moving)
            else:
                surgery = f", or surgery or channel_adapter instead of {others},"
                _require_same_schema(ours, theirs, *names, place("targets", target), surgery)
                _require_same_view(ours, theirs, place("targets", target, "observe"))
        for name in (name for name, way in ways.items() if way.joint):
            for source in itertools.chain(*_sources_of(experiment, name, target)):
                both = domains["sources", source], domains["targets", target]
                _require_one_head(*both, f"source {source!r}", f"target {target!r}", place("strategies", name))
    if experiment.sequence and not any(way.sequential for way in moving):
        raise UserError(
            f"{place('sequence')}: none of the strategies goes along it ({', '.join(ways)}); fine_tune does, and most others"
        )
    for target in experiment.sequence[1:]:
        first = experiment.sequence[0]
        ours, theirs = domains["targets", first], domains["targets", target]
        _require_same_schema(ours, theirs, f"target {first!r}", f"target {target!r}", place("sequence"))
    for before, target in itertools.pairwise(experiment.sequence):
        for name in (name for name, way in ways.items() if way.joint and way.needs_source and way.sequential):
            both = domains["targets", before], domains["targets", target]
            _require_one_head(*both, f"target {before!r}", f"target {target!r}", place("strategies", name))


def _require_pixels(cnn: str | None, schema: Schema, world: str, place: str) -> None:
    """Raise a UserError for a picture that is too small for the convolutions that are to see it."""
    least = PIXELS[cnn] if cnn else 0
    for field in schema.observation:
        if field.grid and min(field.grid) < least:
            height, width = field.grid
            raise UserError(
                f"{place}: {cnn} needs pictures of at least {least} x {least} pixels, but {world} shows {height} x {width}; "
                "null takes what fits their size"
            )


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


def _schemas(*domains: Domain) -> list[Schema]:
    """What agents see and do there, as far as the tasks' own fields say."""
    from simreal_envs.view import own_schema

    return [own_schema(domain) for domain in domains]


def _require_same_schema(ours: Domain, theirs: Domain, mine: str, other: str, place: str, others: str = "") -> None:
    """Raise a UserError where two domains show or take other things; `others` is what besides a bridge makes games fit."""
    one, two = _schemas(ours, theirs)
    try:
        one.require_same(two, mine, other)
    except UserError as error:
        said = _bridge_between(one, two)
        hint = f"; `bridge: {{{said}}}`{others} makes games fit each other" if said else ""
        raise UserError(f"{place}: {error}{hint}") from None


def require_bridge(agent: Agent, domain: Domain, name: str) -> None:
    """Raise a UserError where an agent, called `name`, does not fit a domain as it is, and another bridge would help."""
    from simreal_envs.view import schema_of

    learned = agent.card.get("domain")
    there = schema_of(domain.seen_by(learned))
    own = Bridge.from_dict(learned.get("bridge") or {}) if learned else domain.bridge
    try:
        agent.schema.require_same(there, "the agent", "the domain")
    except UserError as error:
        others = "or one of the strategies surgery and channel_adapter, makes games fit each other"
        if own != domain.bridge:
            raise UserError(
                f"{name} was trained {_under(own)}, and here {domain.task} is {_under(domain.bridge)}: {error}; one bridge for "
                f"both, {others}"
            ) from None
        if said := _bridge_between(agent.schema, there):
            raise UserError(
                f"{name} does not fit {domain.task}: {error}; `bridge: {{{said}}}` for both, {others}"
            ) from None


def _under(bridge: Bridge) -> str:
    said = ", ".join(f"{key}: {value}" for key, value in bridge.to_dict().items() if value != "native")
    return f"under `bridge: {{{said}}}`" if said else "without a bridge"


def _bridge_between(one: Schema, two: Schema) -> str:
    """What a bridge between two games would have to say; nothing where none helps."""
    pictures = [[field for field in schema.observation if field.grid] for schema in (one, two)]
    shapes, channels = ([[getattr(f, key) for f in side] for side in pictures] for key in ("grid", "labels"))
    if not pictures[0] or shapes[0] != shapes[1] or one.control_period != two.control_period:
        return ""
    actions = [[field.labels for field in schema.action] for schema in (one, two)]
    differ = {"channels": channels[0] != channels[1], "actions": actions[0] != actions[1]}
    return ", ".join(f"{name}: union" for name, other in differ.items() if other)


def _require_meeting(ours: Domain, theirs: Domain, mine: str, other: str, place: str, ways: Sequence[Strategy]) -> None:
    """Raise a UserError where even strategies that refit agents have nothing to move: other periods, actions that do not meet."""
    from simreal.strategies.combination import parts_of

    one, two = _schemas(ours, theirs)
    try:
        one.require_same_period(two, mine, other)
    except UserError as error:
        raise UserError(f"{place}: {error}; surgery fits fields, not rates") from None
    if bool(one.choices) != bool(two.choices):
        a, b = ("a choice" if schema.choices else "a vector" for schema in (one, two))
        raise UserError(f"{place}: {mine} takes {a} as action, {other} {b}: nothing makes one of the other")
    renamed = all(any(getattr(part, "rename", None) for part in parts_of(way)) for way in ways)
    if one.choices and not renamed and not set(one.action[0].labels) & set(two.action[0].labels):
        choices = [", ".join(schema.action[0].labels) for schema in (one, two)]
        raise UserError(
            f"{place}: {mine} and {other} share no choice: {choices[0]} against {choices[1]}; surgery's `rename` says "
            "which mean the same"
        )


def _require_one_head(ours: Domain, theirs: Domain, mine: str, other: str, place: str) -> None:
    """Raise a UserError where choices are absent in one of two domains in which one head is to learn at once."""
    absent = [{label for field in schema.action for label in field.absent} for schema in _schemas(ours, theirs)]
    if absent[0] != absent[1]:
        lacks = [", ".join(sorted(labels)) or "nothing" for labels in absent]
        raise UserError(
            f"{place}: one head learns in both at once, and {mine} lacks {lacks[0]}, {other} lacks {lacks[1]}; take a strategy that "
            "learns in the target alone, such as fine_tune, or a source with the strategy multi_task, which has a head for each"
        )


def _require_same_view(source: Domain, target: Domain, place: str) -> None:
    """Refuse a target with an `observe` of its own, where the control arm would learn from what no other arm sees."""
    seen, own = (replace(domain.observe, ranges=()) for domain in (source, target))
    if own not in (seen, Observe()):
        raise UserError(
            f"{place}: agents see a target as they saw their source: only scratch would see this `observe`; "
            "write it in the source"
        )


def require_view(agent: Agent, target: Domain, place: str) -> None:
    """Raise a UserError where a target has an `observe` of its own, which a given agent would not see; `place` names it."""
    if learned := agent.card.get("domain"):
        _require_same_view(Domain.from_dict(learned, "the card's domain"), target, place)


def learned_in(strategy: Strategy, sources: Iterable[str]) -> tuple[str, ...]:
    """The sources in whose domains a strategy learns: those that it names, else all; none if it learns in one domain."""
    from simreal.strategies.combination import parts_of

    several = [part for part in parts_of(strategy) if "domains" in part.needs]
    return tuple(next((part.domains for part in several if getattr(part, "domains", ())), sources if several else ()))


def _check_pretraining(
    entry: StrategyConfig, name: str, experiment: Experiment, domains: dict[tuple[str, str], Domain], place: str
) -> None:
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
    for other in learned_in(strategy, experiment.sources):
        require_known(other, experiment.sources, "source", f"{place}: domains")
        both = domains["sources", name], domains["sources", other]
        _require_same_schema(*both, f"source {name!r}", f"source {other!r}", place)


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
