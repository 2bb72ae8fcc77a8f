"""The stages of an experiment: which there are, what each depends on, and where in the output folder it lies.

OUT/agents/SOURCE/seed-K/                    bundles
OUT/references/{sources,targets}/NAME/       what a random policy earns there
OUT/arms/SOURCE/STRATEGY/TARGET/seed-K/      one arm; the control arm has the source "none", several sources are "a+b"
OUT/arms/SOURCE/STRATEGY/sequence/           the arm's way along the sequence, whose first step is the arm of the first target
    2-TARGET/seed-K/                         the second step, which begins with the agent of the first; and so on
    returns/seed-K/                          what the agent of every step earns in all targets of the sequence
OUT/videos/TARGET/                           the agents at work, if the config wants it
OUT/robustness/TARGET/                       how they do where two parameters move around the target's values, likewise
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from simreal.arms import Arm, arms, chains, learned_in, moved_to, needed, strategy_of
from simreal.config import Experiment
from simreal.config_strategies import StrategyConfig, name_of
from simreal.diagnostics.early_warning import MARKS
from simreal.stages import Stage, read_card, stage_key
from simreal_envs.variation import Domain

VIDEOS, ROBUSTNESS = Path("videos"), Path("robustness")


def plan(
    experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path, built: dict[str, str]
) -> list[Stage]:
    """All stages of an experiment. A stage's key covers everything that its result depends on, `built` with it."""
    stages = _Stages(experiment, domains, out, built)
    used = needed(experiment)
    for kind, name in domains:
        if kind == "targets" or name in used:
            stages.add_reference(kind, name)
    for name in used:
        for seed in experiment.seeds:
            stages.add_pretraining(name, seed)
    for arm in arms(experiment):
        stages.add_arm(arm)
    for chain in chains(experiment):
        for place, arm in enumerate(chain[1:], start=1):
            stages.add_arm(arm, chain[:place])
        stages.add_returns(chain)
    for target in experiment.targets:
        if experiment.video:
            stages.add_video(target)
        if experiment.robustness:
            stages.add_robustness(target)
    return list(stages.made.values())


class _Stages:
    """The stages of an experiment, each added after those that it needs."""

    def __init__(
        self, experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path, built: dict[str, str]
    ):
        self.experiment, self.domains, self.out, self.built = experiment, domains, out, built
        self.evaluation = experiment.evaluation.model_dump(mode="json")
        self.made: dict[str, Stage] = {}

    def _add(
        self, kind: str, path: Path, payload: dict[str, Any], inputs: dict[str, str], needs: Sequence[str], **rest: Any
    ) -> None:
        key = key_of(kind, payload, inputs, self.built)
        function = f"simreal.stage_functions:stage_{kind}"
        self.made[str(path)] = Stage(str(path), self.out / path, key, function, needs=tuple(needs), **rest)

    def add_reference(self, kind: str, name: str) -> None:
        domain, episodes = self.domains[kind, name], self.experiment.evaluation.episodes
        data = {"domain": domain.to_dict(), "episodes": episodes}
        weight, path = _cost(domain, 0, 1, episodes), Path("references") / kind / name
        self._add("reference", path, data, {}, (), kwargs=data, weight=weight, title=f"random policy in {name}")

    def add_pretraining(self, name: str, seed: int) -> None:
        source = self.experiment.sources[name]
        data = training_data(self.experiment, self.domains, ("sources", name), seed, source.strategy)
        weight = _cost(self.domains["sources", name], source.steps, **self.evaluation)
        path, title = Path("agents") / name / f"seed-{seed}", f"pretrain {name} seed {seed}"
        self._add("pretrain", path, data, {}, (), kwargs=data, weight=weight, title=title, resumes=True)

    def add_arm(self, arm: Arm, before: Sequence[Arm] = ()) -> None:
        """One arm; `before` are those that it follows on its way along the sequence."""
        experiment, domains, out = self.experiment, self.domains, self.out
        domain, entry = domains["targets", arm.target], experiment.strategies[arm.strategy]
        data = training_data(experiment, domains, ("targets", arm.target), arm.seed, entry)
        given = [_Given(name, Path("agents") / name / f"seed-{arm.seed}", "sources", name) for name in arm.sources]
        # What a step begins with comes first, then all agents before it, oldest first.
        given += [_Given(f"{k}-{one.target}", one.path, "targets", one.target) for k, one in enumerate(before, start=1)]
        given = [*given[-1:], *given[:-1]] if before else given
        # The references come first, so that `diagnose` can judge the first arms while others still run.
        needs = [f"references/targets/{arm.target}", *(f"references/{g.kind}/{g.domain}" for g in given)]
        inputs = {f"agent {i}" if i > 1 else "agent": self.made[str(g.stage)].key for i, g in enumerate(given, start=1)}
        sources = [
            {"name": g.name, "agent": str(out / g.bundle), "domain": domains[g.kind, g.domain].to_dict()} for g in given
        ]
        strategy = strategy_of(experiment, arm.strategy)
        if experiment.early_warning.on_negative != "off":
            data["evaluation"] = {**data["evaluation"], "marks": list(MARKS)}  # of all arms: curves share their grid
            if strategy.needs_source and strategy.trains:
                data["early_warning"] = experiment.early_warning.model_dump()
        kwargs = {**data, "sources": sources}
        if entry.teacher:
            teacher = Path("agents") / entry.teacher / f"seed-{arm.seed}"
            inputs["teacher"], kwargs["teacher"] = self.made[str(teacher)].key, str(out / teacher)
            needs.append(str(teacher))
        needs += [str(g.stage) for g in given]
        steps = experiment.targets[arm.target].steps if strategy.trains else 0
        whence = f"from {' and '.join(arm.sources)} " if given else ""
        title = f"{arm.strategy} {whence}-> {f'step {arm.step}: ' if arm.step else ''}{arm.target} seed {arm.seed}"
        weight = _cost(domain, steps, **self.evaluation)
        needs = list(dict.fromkeys(needs))
        self._add("arm", arm.path, data, inputs, needs, kwargs=kwargs, weight=weight, title=title, resumes=True)

    def add_returns(self, chain: Sequence[Arm]) -> None:
        """What the agents of a way along the sequence earn in all of its targets."""
        experiment, domains = self.experiment, self.domains
        needs = [str(arm.path) for arm in chain]
        data = {
            "domains": [domains["targets", target].to_dict() for target in experiment.sequence],
            "episodes": experiment.evaluation.episodes,
        }
        kwargs = {**data, "agents": [str(self.out / arm.path / "agent") for arm in chain]}
        inputs = {f"agent {i}": self.made[name].key for i, name in enumerate(needs, start=1)}
        episodes = experiment.evaluation.episodes
        weight = sum(len(chain) * _cost(domains["targets", one.target], 0, 1, episodes) for one in chain)
        title = f"{chain[0].strategy} from {' and '.join(chain[0].sources)} in all of the sequence seed {chain[0].seed}"
        self._add("returns", chain[0].returns, data, inputs, needs, kwargs=kwargs, weight=weight, title=title)

    def add_video(self, target: str) -> None:
        experiment, domains = self.experiment, self.domains
        data = {
            "domain": domains["targets", target].to_dict(), "seconds": experiment.video, "seeds": list(experiment.seeds),
            "sources": {name: domains["sources", name].to_dict() for name in moved_to(experiment, target)},
            "zero_shot": [name for name in experiment.strategies if not strategy_of(experiment, name).trains],
        }  # fmt: skip
        # OpenGL beside all that training has left in a process would double what the machine must have.
        weight, title = 0.2 * experiment.video, f"video of {target}"
        self._add_look("video", VIDEOS / target, target, data, weight=weight, title=title, fresh=True)

    def add_robustness(self, target: str) -> None:
        """How the agents of a target do around it, if there is anything that its domain or a source varies."""
        from simreal.robustness import EPISODES, chosen

        experiment, domain = self.experiment, self.domains["targets", target]
        sources = [self.domains["sources", name] for name in moved_to(experiment, target)]
        axes = chosen(domain, sources, experiment.robustness)
        if not axes:
            return
        data = {
            "domain": domain.to_dict(), "axes": [axis.to_dict() for axis in axes], "episodes": EPISODES,
            "seeds": list(experiment.seeds),
        }  # fmt: skip
        agents = sum(arm.target == target for arm in arms(experiment)) // len(experiment.seeds)
        weight = agents * _cost(domain, 0, math.prod(len(axis.values) for axis in axes), EPISODES)
        self._add_look("robustness", ROBUSTNESS / target, target, data, weight=weight, title=f"robustness in {target}")

    def _add_look(self, kind: str, path: Path, target: str, data: dict[str, Any], **rest: Any) -> None:
        """A stage that looks at what all arms of a target have become."""
        shown = [arm for arm in arms(self.experiment) if arm.target == target]
        needs = [str(arm.path) for arm in shown]
        kinds = dict.fromkeys((arm.source, arm.strategy, target) for arm in shown)
        kwargs = {**data, "out": str(self.out), "arms": [list(one) for one in kinds]}
        self._add(kind, path, data, {name: self.made[name].key for name in needs}, needs, kwargs=kwargs, **rest)


class _Given(NamedTuple):
    """An agent that an arm is given: its name, the stage that made it, and the domain it learned in."""

    name: str
    stage: Path
    kind: str
    domain: str

    @property
    def bundle(self) -> Path:
        return self.stage if self.kind == "sources" else self.stage / "agent"


def key_of(kind: str, payload: Mapping[str, Any], inputs: Mapping[str, str], built: Mapping[str, str]) -> str:
    """The key of a stage; a strategy, task or engine of another package is what it is in that package's version."""
    from simreal.strategies import packages_behind

    named = payload.get("strategy", ())
    domains = [one.get("domain", one) for one in payload.get("domains", ())]
    domains += [payload["domain"]] if "domain" in payload else []
    packages = packages_behind([named] if isinstance(named, str) else map(name_of, named), domains)
    return stage_key(kind, {**payload, **({"packages": packages} if packages else {})}, inputs, built)


def training_data(
    experiment: Experiment,
    domains: Mapping[tuple[str, str], Domain],
    place: tuple[Literal["sources", "targets"], str],
    seed: int,
    strategy: StrategyConfig | None = None,
) -> dict[str, Any]:
    """What a training run depends on, as plain data; without a strategy it is plain pretraining.

    Args:
        domains: all of the experiment.
        place: kind and name of the one to learn in.
    """
    from simreal.strategies import make_strategy

    kind, name = place
    data: dict[str, Any] = {
        "domain": domains[place].to_dict(),
        "learning": experiment.agent.model_dump(mode="json"),
        "steps": getattr(experiment, kind)[name].steps,
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "seed": seed,
    }
    if strategy is None:
        return data
    of = strategy.type if isinstance(strategy.type, str) else list(strategy.type)
    data |= {"strategy": of, "settings": strategy.settings}
    if named := learned_in(make_strategy(of, strategy.settings), experiment.sources):
        # A list, since which draws are whose depends on the order; and only of those it learns in, its own first.
        if kind == "sources":
            named = (name, *(other for other in named if other != name))
        data["domains"] = [{"name": one, "domain": domains["sources", one].to_dict()} for one in named]
    return data


def finished_stages(experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path) -> set[str]:
    """Names of the stages whose results in `out` are those of this very config, with whatever versions they were made.

    What an earlier config left in the folder does not count.
    """

    @functools.cache
    def keys(built: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return {stage.name: stage.key for stage in plan(experiment, domains, out, dict(built))}

    found = set()
    for name in keys(()):
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            card = read_card(out / name)
            if card["key"] == keys(tuple(sorted(card["versions"].items())))[name]:
                found.add(name)
    return found


_LONG = 2000  # steps


def _cost(domain: Domain, steps: int, points: int, episodes: int) -> float:
    """Roughly proportional to seconds; only the order of stages and the first remaining time depend on it."""
    from simreal_envs.tasks import find_task

    task = find_task(domain.task)
    physics = task.substeps * len(task.robot.joints) * (4 if domain.engine == "bullet" else 1)
    # Nothing is learned in an evaluation, and few of the games that may last half an hour do.
    judged = points * episodes * min(task.episode_steps, _LONG)
    return (steps * (20 + physics) + judged * (5 + physics)) * 1e-6
